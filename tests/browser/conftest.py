"""One browser and one server for all tests here; without a browser they are skipped."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.browser.chromium import FOUND, Chromium, Page
from tests.browser.site import Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a browser where there is none; this hook sees the items of all folders."""
    here = Path(__file__).parent
    for item in items:
        if FOUND is None and here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs Chromium; Debian: apt-get install chromium"))


@pytest.fixture(scope="session")
def chromium() -> Generator[Chromium]:
    """A browser with WebGPU on the software adapter."""
    browser = Chromium()
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def tab(chromium: Chromium) -> Generator[Page]:
    """A page to go elsewhere with: a new one takes a second, for it is a new process."""
    with chromium.page("about:blank") as page:
        yield page


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the server serves."""
    return tmp_path_factory.mktemp("www")


@pytest.fixture(scope="session")
def server(root: Path) -> Generator[Server]:
    """Serves the folder."""
    found = Server(root)
    yield found
    found.close()

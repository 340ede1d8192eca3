"""The examples that people would show: written, opened, used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from examples import web_digits
from tests.browser.chromium import Chromium, Page
from tests.browser.png import write_png
from tests.browser.site import Server

UNSEEN = (1600, 1650, 1733)  # numbers of digits that training does not see, and no hard ones


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def ready(page: Page) -> None:
    page.wait("!document.querySelector('#model').hidden || !document.querySelector('#problem').hidden")
    assert page.run("return document.querySelector('#problem').textContent") == ""


def test_pictures_of_digits_are_read(chromium: Chromium, server: Server, root: Path, tmp_path: Path) -> None:
    assert web_digits.main(str(root / "digits_example")) == 0
    digits: Any = load_digits()

    with chromium.page(f"{server.url}digits_example/") as page:
        ready(page)
        for number in UNSEEN:
            ink = np.kron(255 - digits.images[number] * (255 / 16), np.ones((20, 20)))
            file = write_png(tmp_path / f"{number}.png", np.repeat(ink[..., None], 3, 2).astype(np.uint8))
            page.attach("#file", file)
            page.wait(f"document.querySelector('#classes b')?.textContent === '{digits.target[number]}'")


def test_a_text_goes_on(chromium: Chromium, server: Server, root: Path) -> None:
    from examples import web_writer  # and with it a library of models: seconds that collecting tests need not wait

    assert web_writer.main(str(root / "writer_example"), steps=2) == 0

    with chromium.page(f"{server.url}writer_example/") as page:
        ready(page)
        page.run("document.querySelector('#prompt').value = 'def f(x):'")
        page.run("document.querySelector('#count').value = 8")
        page.run("document.querySelector('#continue').click()")
        page.wait("document.querySelector('#speed').textContent.includes('token')")
        assert page.run("return document.querySelector('#text i').textContent") == "def f(x):"

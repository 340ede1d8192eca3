from __future__ import annotations

import pytest

from tamago.backends.webgpu.device import Device
from tests.webgpu.adapter import adapter


@pytest.fixture(scope="session")
def device() -> Device:
    """The adapter; without one the tests are skipped."""
    found = adapter()
    if isinstance(found, str):
        pytest.skip(found)
    return found

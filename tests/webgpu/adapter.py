"""Which driver the tests run on: mesa's lavapipe where nothing else is said, which plays a GPU on any processor."""

from __future__ import annotations

import os
from pathlib import Path

from tamago.backends.webgpu.device import Device, default_device
from tamago.compiler.errors import TamagoError

LAVAPIPE = Path("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json")


def adapter() -> Device | str:
    """The device, or why there is none."""
    if "VK_ICD_FILENAMES" not in os.environ and LAVAPIPE.exists():
        os.environ["VK_ICD_FILENAMES"] = str(LAVAPIPE)
    os.environ.setdefault("XDG_RUNTIME_DIR", "/tmp")  # the loader warns on stderr where it is missing
    try:
        return default_device()
    except TamagoError as error:
        return str(error)

"""ONNX names as Python identifiers."""

from __future__ import annotations

import keyword
import re
from collections.abc import Container

# what the code that FX generates takes for its own
_RESERVED = ("self", "torch", "device", "inf", "nan", "NoneType", "fx_pytree", "pytree")


def identifier(name: str) -> str:
    """A Python identifier made of an ONNX name."""
    cleaned = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not cleaned or cleaned[0].isdigit():
        cleaned = "_" + cleaned
    return cleaned + "_" if keyword.iskeyword(cleaned) or cleaned in _RESERVED else cleaned


def unique(name: str, taken: Container[object]) -> str:
    """`name`, numbered if it is taken."""
    candidate, number = name, 1
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate

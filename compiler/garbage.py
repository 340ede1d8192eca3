"""Python's cycle collector and large models: what is there before the search is not walked again and again during it.

A model of 48 layers is some hundred thousand objects that live through the whole search. Every full collection visits
them all: without this, four times the layers doubled the seconds of a saturation that did the same work. The module
that is traced and torch itself are more: two collections in a trace took a second.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def model_set_aside() -> Generator[None]:
    """Keep the collector away from all objects that exist now; a process that froze its own is left as it is."""
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

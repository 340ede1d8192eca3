"""What one element of an operator's result is, in terms of elements of its inputs: a file for each family."""

from __future__ import annotations

from . import elementwise as elementwise
from . import integers as integers
from . import movement as movement
from . import quantisation as quantisation
from . import sampling as sampling
from .registry import ELEMENTS, MOVES, ElementRule

__all__ = ["ELEMENTS", "MOVES", "ElementRule"]

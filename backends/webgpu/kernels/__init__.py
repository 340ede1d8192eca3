"""Loops: operators that reduce, a file for each form of loop. Importing a file here registers it."""

from __future__ import annotations

from . import product as product
from . import reduction as reduction
from . import row as row

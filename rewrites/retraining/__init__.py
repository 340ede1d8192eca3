"""Programs trained a little more after the choice; a method a file, used where it is asked for by name."""

from __future__ import annotations

from ...compiler.approximate.repair import Repair
from .perp import perp

REPAIRS: tuple[Repair, ...] = (perp,)

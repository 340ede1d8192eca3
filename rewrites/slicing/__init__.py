"""A narrower residual stream: rotations that lose nothing, and slices of what they sort; a method a file."""

from __future__ import annotations

from ...compiler.approximate.structure import Structure
from .shared_rotation import shared_rotation
from .slicegpt import slicegpt

STRUCTURES: tuple[Structure, ...] = (shared_rotation, slicegpt)

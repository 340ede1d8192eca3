"""Channels, heads and neurons taken out whole, with everything that is coupled to them; a method a file."""

from __future__ import annotations

from ...compiler.approximate.structure import Structure
from .beta_rank import beta_rank
from .dead_channels import dead_channels
from .l1 import l1
from .taylor import taylor

STRUCTURES: tuple[Structure, ...] = (dead_channels, taylor, beta_rank, l1)

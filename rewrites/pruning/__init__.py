"""Channels, heads and neurons taken out whole, with everything that is coupled to them; a method a file."""

from __future__ import annotations

from ...compiler.approximate.structure import Structure

STRUCTURES: tuple[Structure, ...] = ()

"""shape"""

from __future__ import annotations

from ...compiler.rule import Rule

from .transpose_pair import transpose_pair

RULES: tuple[Rule, ...] = (transpose_pair,)

"""algebra"""

from __future__ import annotations

from ...compiler.rule import Rule

from .neutral_element import times_one

RULES: tuple[Rule, ...] = (times_one,)

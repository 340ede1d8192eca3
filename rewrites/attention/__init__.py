"""attention"""

from __future__ import annotations

from ...compiler.rule import Rule

RULES: tuple[Rule, ...] = ()

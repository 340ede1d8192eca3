"""Arithmetic: neutral elements, chains of constants, casts, choices, powers, sums of products."""

from __future__ import annotations

from ...compiler.rule import Rule
from . import comparison_negated, idempotent
from .cast_pair import cast_identity, cast_like, cast_pair
from .neutral_element import (
    and_false,
    and_true,
    max_of_lowest,
    min_of_highest,
    minus_zero,
    or_false,
    or_true,
    plus_any_zero,
    plus_zero,
    times_one,
)
from .where_constant import where_decided, where_not, where_one_zero, where_same

RULES: tuple[Rule, ...] = (
    times_one,
    plus_zero,
    minus_zero,
    plus_any_zero,
    and_true,
    or_false,
    and_false,
    or_true,
    max_of_lowest,
    min_of_highest,
    *idempotent.RULES,
    cast_identity,
    cast_like,
    cast_pair,
    where_decided,
    where_same,
    where_not,
    where_one_zero,
    *comparison_negated.RULES,
)

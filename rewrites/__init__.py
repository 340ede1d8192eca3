"""Exact rewrites: one identity a file, by family. Each folder's `RULES` lists its members in order."""

from __future__ import annotations

from functools import cache

from ..compiler.approximate.method import Method
from ..compiler.approximate.structure import Structure
from ..compiler.rule import Rule


@cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule of every family, in the order in which they are tried."""
    from . import algebra, attention, convolution, fusion, linear, shape

    return (*algebra.RULES, *shape.RULES, *convolution.RULES, *linear.RULES, *fusion.RULES, *attention.RULES)


@cache
def all_methods() -> tuple[Method, ...]:
    """Every approximate method of every family."""
    from . import low_rank, quantization

    return (*quantization.METHODS, *low_rank.METHODS)


@cache
def all_structures() -> tuple[Structure, ...]:
    """Every approximate method that changes a whole program."""
    from . import pruning, slicing

    return (*slicing.STRUCTURES, *pruning.STRUCTURES)

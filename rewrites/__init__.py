"""Exact rewrites: one identity a file, by family. Each folder's `RULES` lists its members in order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from ..compiler.approximate.method import Method
from ..compiler.approximate.preparation import Preparation
from ..compiler.approximate.repair import Repair
from ..compiler.approximate.structure import Structure
from ..compiler.errors import TamagoError
from ..compiler.rule import Rule
from .declined import DECLINED


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
def all_preparations() -> tuple[Preparation, ...]:
    """Every exact change that comes before the approximate ones."""
    from . import quantization

    return quantization.PREPARATIONS


@cache
def all_structures() -> tuple[Structure, ...]:
    """Every approximate method that changes a whole program."""
    from . import pruning, slicing

    return (*slicing.STRUCTURES, *pruning.STRUCTURES)


@cache
def all_repairs() -> tuple[Repair, ...]:
    """Every method that mends a program after the choice."""
    from . import retraining

    return retraining.REPAIRS


Chosen = tuple[tuple[Method, ...], tuple[Preparation, ...], tuple[Structure, ...], tuple[Repair, ...]]


def chosen_by_name(names: Sequence[str] | str | None) -> Chosen:
    """The methods, preparations, structures and repairs of these names; for None all but repairs.

    A repair has to be asked for. By itself it mends nothing: where only repairs are named, so is everything else. Nor
    does a preparation approximate anything.

    Raises:
        TamagoError: U050, a name that is unknown, or declined with a reason.
    """
    if names is None:
        return all_methods(), all_preparations(), all_structures(), ()
    names = (names,) if isinstance(names, str) else names
    known = {e.name for e in (*all_methods(), *all_preparations(), *all_structures(), *all_repairs())}
    for name in names:
        if name in DECLINED:
            raise TamagoError("U050", f"method {name!r} is not offered", why=DECLINED[name])
        if name not in known:
            raise TamagoError("U050", f"method {name!r} is unknown", todo=f"use some of: {', '.join(sorted(known))}")
    wanted = frozenset(names)
    preparations = tuple(p for p in all_preparations() if p.name in wanted)
    repairs = tuple(r for r in all_repairs() if r.name in wanted)
    if wanted and len(preparations) + len(repairs) == len(wanted):
        return all_methods(), all_preparations(), all_structures(), repairs
    return (
        tuple(m for m in all_methods() if m.name in wanted),
        preparations,
        tuple(s for s in all_structures() if s.name in wanted),
        repairs,
    )

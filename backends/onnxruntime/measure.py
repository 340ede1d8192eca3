"""The price of one operator: how much longer a session takes for each further copy of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from statistics import median, pstdev

import numpy as np
import onnx_ir as ir

from ...compiler.errors import TamagoError
from ...compiler.facts import Constant, Fact
from ...compiler.price import VIEWS, Site, roofline
from ...compiler.site_model import site_model, size_of
from ...compiler.timing import Timing, clock_for, interleave
from .run import Program, is_runtime_error

_FLOAT, _INTEGER = int(ir.DataType.FLOAT), int(ir.DataType.INT64)
COPIES = 5
FEWER, LONG = 3, 1.0  # copies of an operator of so many milliseconds: it is easily told from its absence
SLOT = 0.001  # seconds of calls in one turn
ROUNDS, SECONDS = 5, 0.15
MORE_ROUNDS, MORE_SECONDS = 15, 0.5  # where the first ones contradict each other


def measure(site: Site, threads: int | None, version: int) -> tuple[float, float, int] | None:
    """Median milliseconds, spread and samples of a site; None where it cannot be run alone."""
    if site.op in VIEWS:
        return _view(threads, version)
    return None if size_of(site) is None else _measured(site, threads, version)


@lru_cache
def _view(threads: int | None, version: int) -> tuple[float, float, int] | None:
    """Within a graph a view has its operand's memory, whatever its size; at a graph's border it would be copied."""
    square, row = Fact(_FLOAT, (2, 2)), Fact(_FLOAT, (4,))
    shape = Fact(_INTEGER, (1,), Constant.of(np.array([4])))
    return _measured(Site("Reshape", (), (square, shape), row), threads, version)


def _measured(site: Site, threads: int | None, version: int) -> tuple[float, float, int] | None:
    copies = FEWER if roofline(site) > LONG else COPIES
    try:
        one, many = _timed(site, copies, threads, version)
    except TamagoError:
        return None
    except Exception as error:
        if is_runtime_error(error):
            return None
        raise
    more = copies - 1
    return max(further_copies(one, many) / more, 1e-5), pstdev(_differences(one, many)) / more, len(one.samples)


def _timed(site: Site, most: int, threads: int | None, version: int) -> tuple[Timing, Timing]:
    runs: list[Callable[[], object]] = []
    for copies in (1, most):
        model, feeds = site_model(site, copies, version)
        program = Program(model, threads)
        runs.append(program.bound(feeds))
    clock = clock_for(threads)
    one, many = interleave(runs, rounds=ROUNDS, seconds=SECONDS, slot=SLOT, clock=clock, warm=True)
    if disturbed(one, many):
        one, many = interleave(runs, rounds=MORE_ROUNDS, seconds=MORE_SECONDS, slot=SLOT, clock=clock, warm=True)
    return one, many


def further_copies(one: Timing, many: Timing) -> float:
    """Milliseconds that the further copies take: of a disturbed series, by its fastest samples.

    Other work on the machine only lengthens.
    """
    if disturbed(one, many):
        return many.best - one.best
    return median(_differences(one, many))


def disturbed(one: Timing, many: Timing) -> bool:
    """Whether the rounds contradict each other: they scatter by more than what they measure."""
    differences = _differences(one, many)
    return pstdev(differences) > median(differences)


def _differences(one: Timing, many: Timing) -> list[float]:
    return [m - o for o, m in zip(one.samples, many.samples, strict=True)]

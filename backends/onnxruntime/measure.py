"""The price of one operator: how much longer a session takes for each further copy of it."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median, pstdev

from ...compiler.errors import TamagoError
from ...compiler.price import Site
from ...compiler.site_model import site_model, size_of
from ...compiler.timing import Timing, clock_for, interleave
from .run import Program

COPIES = 5
FEWER, LARGE = 2, 1 << 26  # copies of an operator of so many bytes: it takes long enough to be told from its absence
SLOT = 0.002  # seconds of calls in one turn
ROUNDS, SECONDS = 5, 0.15
MORE_ROUNDS, MORE_SECONDS = 15, 0.5  # where the first ones contradict each other


def measure(site: Site, threads: int | None, version: int) -> tuple[float, float, int] | None:
    """Median milliseconds, spread and samples of a site; None where it cannot be run alone."""
    size = size_of(site)
    if size is None:
        return None
    copies = FEWER if size > LARGE else COPIES
    try:
        one, many = _timed(site, copies, threads, version)
    except (TamagoError, RuntimeError, ValueError):
        return None
    except Exception as error:  # ONNX Runtime's own exception classes share no base but Exception
        if type(error).__module__.startswith("onnxruntime"):
            return None
        raise
    more = copies - 1
    return max(further_copies(one, many) / more, 1e-5), pstdev(_differences(one, many)) / more, len(one.samples)


def _timed(site: Site, most: int, threads: int | None, version: int) -> tuple[Timing, Timing]:
    runs: list[Callable[[], object]] = []
    for copies in (1, most):
        model, feeds = site_model(site, copies, version)
        program = Program(model, threads)
        runs.append(lambda program=program, feeds=feeds: program.session.run(None, feeds))
    clock = clock_for(threads)
    one, many = interleave(runs, rounds=ROUNDS, seconds=SECONDS, slot=SLOT, clock=clock)
    if disturbed(one, many):
        one, many = interleave(runs, rounds=MORE_ROUNDS, seconds=MORE_SECONDS, slot=SLOT, clock=clock)
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

"""Choices beyond what fits, mended: where a repair brings the rise back within the budget, a cheaper program does.

A repair sees every other choosing sample; what it makes is judged on the rest of them, as the target runs it, and goes
to the same proof as everything else, on samples that neither has seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from math import sqrt
from typing import TYPE_CHECKING

from ..deadline import OutOfTime, ended_by
from ..errors import TamagoError
from ..progress import progress
from ..rule import Skip
from .acceptance import Evidence
from .calibration import Sample
from .repair import Damaged, Repair
from .stack import stacked, together
from .task import Found

if TYPE_CHECKING:
    from .search import Search

BEYOND = (1.0, 1.5, 2.5, 4.0)  # of the level of the best choice that fits
SECONDS = 60.0  # of a repair, for one program
MOST_SECONDS = 90.0  # of that and judging it
AT_ONCE = 8  # examples in a run, where they do not mind


def repaired(search: Search, best: list[Found], allowed: float) -> list[Found]:
    """Choices that fit after a repair, the cheapest last; none where none was asked for or none is better for it.

    Args:
        search: whose tables are chosen from, and whose samples judge.
        best: choices that fit as they are, cheapest first.
        allowed: by the budget.
    """
    found: list[Found] = []
    if not search.task.repairs or allowed <= 0 or time.perf_counter() > search.task.until:
        return found
    first = best[0] if best else None
    try:
        for damaged in _beyond(search, best, allowed):
            mended = _mended(search, damaged)
            search.outcome.tried += [] if mended is None else [mended]
            if mended is not None and search.fits(_as_proved(search, mended.on_choosing), allowed):
                found.append(mended)
            elif damaged is not first:
                break  # what is damaged more will not fit either
    except (KeyboardInterrupt, OutOfTime) as stop:
        search.outcome.notes.append(f"{ended_by(stop)}: what was retrained until then was put to proof")
    return found


def _beyond(search: Search, best: list[Found], allowed: float) -> Iterator[Found]:
    """The best choice, then cheaper ones that rise by more and more."""
    tables = best[0].tables if best else search.exact
    level, cost = (best[0].level, best[0].cost) if best else (search.level_for(allowed), float("inf"))
    yield from best[:1]
    for factor in BEYOND[1:] if best else BEYOND:
        choice = search.choose(tables, level * factor)
        if time.perf_counter() > search.task.until or choice is None:
            return
        if choice.changed and choice.cost < cost:
            cost = choice.cost
            found = search.measure(tables, choice)
            search.outcome.tried.append(found)
            yield found


def _as_proved(search: Search, evidence: Evidence) -> Evidence:
    """The same rise where it will be proved, on more samples than a repair leaves to judge it."""
    fewer = sqrt(evidence.samples / len(search.task.split.verify))
    return replace(evidence, error=evidence.error * fewer, samples=len(search.task.split.verify))


def _mended(search: Search, found: Found) -> Found | None:
    """The program with the contents that do best of all that repairs offer; None where it does best as it is."""
    numbers = range(1, len(search.task.split.choose), 2)
    best, before = None, search.judged(found.build(), numbers)
    least, start = before.value, time.perf_counter()
    for changed in chain.from_iterable(_offered(search, repair, found) for repair in search.task.repairs):
        evidence = search.judged(changed.build(), numbers)
        if evidence.value < least:
            least = evidence.value
            said = f"{changed.repair}, rise on samples that it did not see {before.value:+.4g} → {least:+.4g}"
            level = found.level * max(least, 0.0) / before.value if before.value > 0 else found.level
            best = replace(changed, on_choosing=evidence, level=level, predicted=None, repair=said)
        if time.perf_counter() - start > MOST_SECONDS:
            break
    return best


def _offered(search: Search, repair: Repair, found: Found) -> Iterator[Found]:
    task = search.task
    progress(f"{repair.name}: {len(found.choice)} places")
    seconds = min(SECONDS, task.until - time.perf_counter())
    plain = [Sample(s.feeds, None) for s in task.split.choose[::2]]
    groups = [stacked(group) or group[0] for group in together(plain, min(search.batch, AT_ONCE))]
    damaged = Damaged(found.build(), task.original, groups, search.loss, seconds)
    try:
        for contents in repair.function(damaged):
            count = sum(array.size for array in contents.values())
            yield replace(
                found, contents=contents, repair=f"{repair.name}: {count} numbers in {len(contents)} constants"
            )
    except (Skip, TamagoError) as reason:
        search.outcome.refused.append(("the program", repair.name, str(reason)))
    except (RuntimeError, ValueError) as error:  # torch cannot differentiate every program: it stays as it is
        reason = f"it failed: {type(error).__name__}: {error}"
        search.outcome.refused.append(("the program", repair.name, reason))

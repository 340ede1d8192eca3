"""One form for every place: the cheapest choice whose predicted rise stays within what is allowed.

A multiple-choice knapsack, solved exactly (HiGHS). Weights that several places read (tied embeddings) count once, as
long as some place is left that reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint
from scipy.sparse import lil_matrix

from ..integer_program import solve

PREFER_SMALL = 1e-10  # milliseconds a byte: of equally fast forms the smaller
PREFER_FAST = 0.02  # of the least bytes: what the least milliseconds count for where size is minimised
WORTH_OF_BYTES = 0.01  # the same where size is minimised: bytes are exact, and the last ones are dear
WORTH = 0.05  # of the least cost: what using up the whole budget must buy. Error that buys nothing is not spent.


@dataclass(frozen=True)
class Option:
    """A form as the choice sees it.

    Args:
        cost: milliseconds over the workloads.
        stored: bytes of its own constants.
        rise: predicted contribution to the judged quantity.
        keeps: the initializer it goes on reading, None when it has constants of its own.
        beside: bytes that a file has beside its constants; they count where size is minimised, under no limit.
    """

    cost: float
    stored: int
    rise: float
    keeps: str | None = None
    beside: int = 0


@dataclass(frozen=True)
class Limits:
    """What a choice may not exceed: predicted rise, and bytes and milliseconds of the places where capped.

    `worth` is the rise that is as dear as the fraction `WORTH` of the cost.
    """

    rise: float
    stored: float = float("inf")
    cost: float = float("inf")
    worth: float = float("inf")


def knapsack(
    places: Sequence[Sequence[Option]], weights: dict[str, int], limits: Limits, *, size: bool
) -> list[int] | None:
    """The index of the option for each place; None where no choice is within the limits.

    Args:
        places: the options of each place.
        weights: bytes of each initializer that an option may keep.
        limits: what the sums may not exceed.
        size: minimise bytes instead of milliseconds.
    """
    options = [option for place in places for option in place]
    if not options:
        return []
    names = sorted({o.keeps for o in options if o.keeps is not None})
    column = {name: len(options) + i for i, name in enumerate(names)}
    count = len(options) + len(names)
    cost = np.zeros(count)
    stored = np.zeros(count)
    beside = np.zeros(count)
    rise = np.zeros(count)
    for i, o in enumerate(options):
        cost[i], stored[i], rise[i], beside[i] = o.cost, o.stored, o.rise, o.beside
    for name, i in column.items():
        stored[i] = weights[name]
    bytes_of = {id(o): o.beside + (o.stored if o.keeps is None else weights[o.keeps]) for o in options}
    least = sum(min(bytes_of[id(o)] if size else o.cost for o in place) for place in places)
    objective = stored + beside + cost * _bytes_a_millisecond(places, least) if size else cost + PREFER_SMALL * stored
    objective = objective + np.where(np.isfinite(rise), rise, 0) * (
        (WORTH_OF_BYTES if size else WORTH) * least / limits.worth
    )
    one = lil_matrix((len(places), count))
    start = 0
    for row, place in enumerate(places):
        one[row, start : start + len(place)] = 1
        start += len(place)
    constraints = [LinearConstraint(one.tocsr(), 1, 1)]
    scale = max(limits.rise, 1e-12)  # near one, so that the solver's tolerance means something
    constraints.append(
        LinearConstraint((np.where(np.isfinite(rise), rise, 0) / scale)[None], -np.inf, limits.rise / scale)
    )
    for row, bound in ((stored, limits.stored), (cost, limits.cost)):
        if np.isfinite(bound):
            constraints.append(LinearConstraint(row[None] / max(bound, 1e-9), -np.inf, bound / max(bound, 1e-9)))
    kept = [i for i, o in enumerate(options) if o.keeps is not None]
    if kept:
        links = lil_matrix((len(kept), count))
        for row, i in enumerate(kept):
            links[row, i] = 1
            links[row, column[options[i].keeps or ""]] = -1
        constraints.append(LinearConstraint(links.tocsr(), -np.inf, 0))
    upper = np.ones(count)
    upper[: len(options)][~np.isfinite(rise[: len(options)])] = 0
    bounds = Bounds(0.0, upper)  # pyright: ignore[reportArgumentType]  # scipy's stubs know numbers only
    found = solve(objective, constraints=constraints, integrality=np.ones(count), bounds=bounds, options={})
    if found.x is None:
        return None
    chosen: list[int] = []
    start = 0
    for place in places:
        chosen.append(int(np.argmax(found.x[start : start + len(place)])))
        start += len(place)
    return chosen


def _bytes_a_millisecond(places: Sequence[Sequence[Option]], least: float) -> float:
    """Of programs of nearly the same size the faster one."""
    fastest = sum(min(o.cost for o in place) for place in places)
    return PREFER_FAST * least / fastest if fastest > 0 else 0.0

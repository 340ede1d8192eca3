"""Which form of each kernel is the fastest on this device, by measuring; every record is kept.

A record's key names all that a time depends on: the kernel in its default form, the sizes of its buffers, device and
versions. A candidate's result is compared with the default's on random data before its time counts. Where the time for
measuring ends before the candidates do, the next tuning goes on where this one stopped.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from zlib import compress

from ...compiler.record_name import record_name
from .measure import Bench
from .plan import Choice, Copy, Dispatch, Kernel, Plan
from .recorded import identity, key_of
from .records import Records
from .run import Loaded

SECONDS = 30.0
AHEAD = 4  # jobs, and choices of each, that are made ready while one is measured
GIVEN_UP = 3.0  # times the best: a first run that takes as long is not repeated


@dataclass
class Job:
    """One kernel to choose a form for.

    Args:
        dispatch: one of those that it does.
        count: how many there are.
        key: of its record.
        timings: milliseconds by choice.
        failed: why a choice is none, by choice.
    """

    dispatch: Dispatch
    count: int
    key: str
    timings: dict[Choice, float] = field(default_factory=dict[Choice, float])
    failed: dict[Choice, str] = field(default_factory=dict[Choice, str])

    @property
    def untried(self) -> list[Choice]:
        """Choices that nothing is known about."""
        return [c for c in self.dispatch.choices if c not in self.timings and c not in self.failed]

    @property
    def best(self) -> float:
        """Milliseconds of the fastest so far."""
        return min(self.timings.values(), default=0.0)

    @property
    def hope(self) -> float:
        """What another candidate may be worth: less the more were tried."""
        return self.best * self.count / (2 + len(self.timings) + len(self.failed))

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The fastest first; those that were not measured come after, those that failed not at all."""
        known = sorted(self.timings, key=lambda c: self.timings[c])
        return (*known, *self.untried)


def tuned(plan: Plan, loaded: Loaded, seconds: float = SECONDS, records: Records | None = None) -> Plan:
    """The plan with the fastest choices first.

    Args:
        plan: with several choices for a dispatch.
        loaded: the plan on the device.
        seconds: to measure for, at most; records are used all the same.
        records: of earlier measurements; None: nothing is kept.
    """
    end = time.monotonic() + seconds
    jobs = jobs_of(plan)
    if records is not None:
        for job in jobs.values():
            _remember(job, plan, records.find(job.key))
    with_work = [job for job in jobs.values() if len(job.dispatch.choices) > 1 and job.untried]
    measured: list[Job] = []
    if with_work and time.monotonic() < end:
        with Bench(loaded) as bench:
            measured = _measured(with_work, bench, end)
    if records is not None:
        for job in measured:
            records.keep(job.key, _record(job, plan))
    steps = [s if isinstance(s, Copy) else replace(s, choices=jobs[identity(plan, s)].choices) for s in plan.steps]
    return replace(plan, steps=tuple(steps))


def _measured(jobs: Sequence[Job], bench: Bench, end: float) -> list[Job]:
    """Jobs of which something is known when the time has come, or everything is."""
    bench.want(job.dispatch.choices[0] for job in jobs)
    for job in jobs:
        if job.dispatch.choices[0] not in job.timings and time.monotonic() < end:
            job.timings[job.dispatch.choices[0]] = bench.time(job.dispatch, job.dispatch.choices[0])
    measured = [job for job in jobs if job.timings]
    while (left := [job for job in measured if job.untried]) and time.monotonic() < end:
        left.sort(key=lambda job: -job.hope)
        bench.want(choice for job in left[:AHEAD] for choice in job.untried[:AHEAD])
        _try(left[0], left[0].untried[0], bench)
    return measured


def jobs_of(plan: Plan) -> dict[tuple[Any, ...], Job]:
    """What there is to choose: dispatches of the same kernels on buffers of the same sizes are one job."""
    found: dict[tuple[Any, ...], Job] = {}
    for dispatch in plan.dispatches:
        same = identity(plan, dispatch)
        if same in found:
            found[same].count += 1
        else:
            found[same] = Job(dispatch, 1, key_of(plan, dispatch))
    return found


def _try(job: Job, choice: Choice, bench: Bench) -> None:
    default = job.dispatch.choices[0]
    try:
        wrong = bench.difference(job.dispatch, default, choice)
        if wrong:
            job.failed[choice] = wrong
        else:
            job.timings[choice] = bench.time(job.dispatch, choice, GIVEN_UP * job.best)
    except Exception as error:  # a driver may refuse what another takes: its own words go into the record
        job.failed[choice] = f"{type(error).__name__}: {error}"[:500]


# --- records ----------------------------------------------------------------------------------------------------------


def _record(job: Job, plan: Plan) -> dict[str, Any]:
    timings = {_name(plan, c): round(ms, 7) for c, ms in job.timings.items()}
    best = min(job.timings, key=lambda c: job.timings[c])
    return {
        "label": job.dispatch.label,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "default": _name(plan, job.dispatch.choices[0]),
        "timings": timings,
        "failed": {_name(plan, c): why for c, why in job.failed.items()},
        "best": _packed(plan.kernels[best.kernel], best),
    }


def _remember(job: Job, plan: Plan, record: Mapping[str, Any] | None) -> None:
    if record is None:
        return
    by_name = {_name(plan, c): c for c in job.dispatch.choices}
    job.timings |= {by_name[n]: float(ms) for n, ms in record["timings"].items() if n in by_name}
    job.failed |= {by_name[n]: str(why) for n, why in record["failed"].items() if n in by_name}


def _packed(kernel: Kernel, choice: Choice) -> dict[str, Any]:
    """The kernel itself: a plan that has no other form than the default can use it."""
    source = b64encode(compress(kernel.source.encode(), 9)).decode()
    return {"source": source, "features": list(kernel.features), "workgroups": list(choice.workgroups)}


def _name(plan: Plan, choice: Choice) -> str:
    kernel: Kernel = plan.kernels[choice.kernel]
    return record_name([kernel.source, choice.workgroups])[:16]

"""The fastest kernels that records know, put into a plan."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from typing import Any
from zlib import decompress

from .plan import Choice, Copy, Dispatch, Kernel, Plan
from .records import Records, job_key


def identity(plan: Plan, dispatch: Dispatch) -> tuple[Any, ...]:
    """The same for dispatches of the same kernels on buffers of the same sizes."""
    return dispatch.choices, tuple(plan.buffers[b] for b in dispatch.buffers)


def key_of(plan: Plan, dispatch: Dispatch) -> str:
    """The name of a dispatch's record."""
    first = dispatch.choices[0]
    return job_key(plan.kernels[first.kernel], first.workgroups, [plan.buffers[b] for b in dispatch.buffers])


def recorded(plan: Plan, records: Records) -> Plan:
    """The plan with the fastest kernels that records know, whatever choices it has."""
    kernels, best = dict.fromkeys(plan.kernels), dict[tuple[Any, ...], Choice]()
    for dispatch in plan.dispatches:
        if identity(plan, dispatch) in best or (record := records.find(key_of(plan, dispatch))) is None:
            continue
        packed, written = record["best"], plan.kernels[dispatch.choices[0].kernel].written
        kernel = Kernel(decompress(b64decode(packed["source"])).decode(), written, tuple(packed["features"]))
        kernels.setdefault(kernel)
        x, y, z = packed["workgroups"]
        best[identity(plan, dispatch)] = Choice(list(kernels).index(kernel), (x, y, z))
    steps = list(plan.steps)
    for number, step in enumerate(steps):
        choice = None if isinstance(step, Copy) else best.get(identity(plan, step))
        if choice is not None and not isinstance(step, Copy):
            rest = tuple(c for c in step.choices if c != choice)
            steps[number] = replace(step, choices=(choice, *rest))
    return replace(plan, kernels=tuple(kernels), steps=tuple(steps))

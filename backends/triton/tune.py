"""Each kernel's settings, chosen by measuring on the device; every record is kept.

A record's key names all that a time depends on: kernel, shapes, what is fused, dtype, device and versions. Candidates
are compiled side by side and measured in a child process (`tune_child`), which checks an output before its time counts;
one that hangs or crashes takes the child with it and nothing else. What a child has measured is kept as it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import onnx_ir as ir
from torch import fx

from ...compiler.price import Stored
from ...compiler.progress import progress
from ...compiler.record_name import record_name
from .children import Children
from .jobs import KINDS, Job, fields_of
from .records import shipped

KEY_VERSION = 1


class Tuner:
    """Picks settings from the records, or measures.

    Args:
        store: where records are kept.
        environment: device and versions.
        measure: False takes what the records have, and the kernel's defaults else.
    """

    def __init__(self, store: Stored, environment: str, *, measure: bool = True) -> None:
        self._store, self._environment, self._measure = store, environment, measure
        self._children = Children()

    def choose(self, module: fx.GraphModule, model: ir.Model) -> None:
        """Write the settings into every call of a kernel in a program that was made of a model."""
        written = {n.name: n for n in model.graph.all_nodes()}
        asked: list[tuple[fx.Node, int, Job]] = []
        for kind in KINDS:
            for node in module.graph.find_nodes(op="call_function", target=kind.target):
                job = kind.of_call(module, node, written.get(node.meta["onnx"][2]))
                if job is not None:
                    asked.append((node, kind.settings, job))
        new = [job for job in dict.fromkeys(job for *_, job in asked) if self._measure and self._record(job) is None]
        if len(new) > 1:
            self._children.ahead(new)
        for node, place, job in asked:
            node.update_arg(place, self.candidate(job))
        module.recompile()

    def candidate(self, job: Job) -> list[int] | None:
        """The fastest settings known for a job; measured when there is no record. None: the kernel's defaults."""
        record = self._record(job)
        if record is None and self._measure:
            record = self._tune(job)
            if record["timings"]:
                self._store.put_verdict(self.key(job), record)
        timings = [] if record is None else record["timings"]
        return list(min(timings, key=lambda t: t["milliseconds"])["candidate"]) if timings else None

    def _record(self, job: Job) -> Mapping[str, Any] | None:
        return self._store.verdict(self.key(job)) or shipped(fields_of(job), self._environment)

    def key(self, job: Job) -> str:
        """The record's name in the store."""
        return record_name(["tune", KEY_VERSION, fields_of(job), self._environment])

    def _tune(self, job: Job) -> dict[str, Any]:
        progress(f"tuning {job}")
        timings, failed = self._children.measure(job)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {
            "job": fields_of(job),
            "environment": self._environment,
            "date": now,
            "timings": timings,
            "failed": failed,
        }

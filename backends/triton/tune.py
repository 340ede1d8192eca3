"""Each kernel's settings, chosen by measuring on the device; every record is kept.

A record's key names all that a time depends on: kernel, shapes, what is fused, dtype, device and versions. Candidates
are compiled side by side and measured in a child process (`tune_child`), which checks an output before its time counts;
one that hangs or crashes takes the child with it and nothing else. What a child has measured is kept as it comes.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx

from ...compiler.ir import dims
from ...compiler.price import Stored
from ...compiler.progress import progress
from .children import Children
from .jobs import AttentionStepJob, GemvJob, Job
from .lowering import CANDIDATE, LINEAR
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
        for target, place in CANDIDATE.items():
            for node in module.graph.find_nodes(op="call_function", target=target):
                source = written.get(node.meta["onnx"][2])
                job = _gemv(module, node) if target is LINEAR else _attention_step(source)
                if job is not None:
                    node.update_arg(place, self.candidate(job))
        module.recompile()

    def candidate(self, job: Job) -> list[int] | None:
        """The fastest settings known for a job; measured when there is no record. None: the kernel's defaults."""
        key = self.key(job)
        record = self._store.verdict(key) or shipped(asdict(job), self._environment)
        if record is None and self._measure:
            record = self._tune(job)
            if record["timings"]:
                self._store.put_verdict(key, record)
        timings = [] if record is None else record["timings"]
        return list(min(timings, key=lambda t: t["milliseconds"])["candidate"]) if timings else None

    def key(self, job: Job) -> str:
        """The record's name in the store."""
        text = json.dumps(["tune", KEY_VERSION, asdict(job), self._environment], sort_keys=True)
        return blake2b(text.encode(), digest_size=20).hexdigest()

    def _tune(self, job: Job) -> dict[str, Any]:
        progress(f"tuning {job}")
        timings, failed = self._children.measure(job)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {
            "job": asdict(job),
            "environment": self._environment,
            "date": now,
            "timings": timings,
            "failed": failed,
        }


def _attention_step(node: ir.Node | None) -> AttentionStepJob | None:
    """What a step asks for; None where its shapes are not known before it runs."""
    if node is None or node.inputs[0] is None or node.inputs[6] is None:
        return None
    query, cache = node.inputs[0], node.inputs[6]
    q, shape = dims(query), dims(cache)
    if q is None or shape is None or cache.dtype is None:
        return None
    sizes = [d for d in (*q, *shape) if isinstance(d, int)]
    if len(sizes) != 8:
        return None
    _, queries, _, _, _, heads, length, size = sizes
    return AttentionStepJob(heads, queries // heads, size, length, str(cache.dtype.numpy()))


def _gemv(module: fx.GraphModule, node: fx.Node) -> GemvJob | None:
    """What a product asks for; None where its weight is no constant of the program."""
    _, w, gate, scale, residual, _, activation, _ = node.args
    weight = _constant(module, w)
    if weight is None:
        return None
    n, k = weight.shape
    dtype = str(weight.dtype).removeprefix("torch.")
    return GemvJob(n, k, dtype, gate is not None, scale is not None, residual is not None, str(activation))


def _constant(module: fx.GraphModule, argument: Any) -> Tensor | None:
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    found: Any = module
    for name in str(argument.target).split("."):
        found = getattr(found, name)
    return found if isinstance(found, torch.Tensor) else None

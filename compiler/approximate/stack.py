"""Samples run together: one scale for a whole tensor depends on what else is in the batch.

A model that takes any batch is judged in batches as large as the owner's largest workload, and by itself: an outlier of
one sample widens the step of all that share its tensor, and only running them together shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ..facts import Array
from ..ir import dims
from ..streaming import outputs_for_each
from .calibration import Sample

Program = Callable[[Mapping[str, Array]], Sequence[Any]]


def takes_batches(graph: ir.Graph) -> bool:
    """Whether the first dimension of every input and output is one free size."""
    inputs = [v for v in graph.inputs if v.name not in graph.initializers]
    shapes = [dims(v) for v in (*inputs, *graph.outputs)]
    leading = {shape[0] if shape else None for shape in shapes}
    return len(leading) == 1 and isinstance(next(iter(leading)), str)


def together(samples: Sequence[Sample], batch: int) -> list[list[Sample]]:
    """Neighbours of equal shapes in groups of at most `batch` examples."""
    groups: list[list[Sample]] = []
    held = 0
    for sample in samples:
        count = examples(sample)
        if groups and held + count <= batch and _alike(groups[-1][0], sample):
            groups[-1].append(sample)
            held += count
        else:
            groups.append([sample])
            held = count
    return groups


def examples(sample: Sample) -> int:
    """How many examples a sample holds."""
    return max((np.shape(a)[0] for a in sample.feeds.values() if np.ndim(a)), default=1)


def _alike(a: Sample, b: Sample) -> bool:
    return all(np.shape(a.feeds[n])[1:] == np.shape(b.feeds[n])[1:] for n in a.feeds)


def stacked(group: Sequence[Sample]) -> Sample | None:
    """The group as one sample; None where its targets cannot be put together."""
    if len(group) == 1:
        return group[0]
    feeds = _feeds(group)
    targets = [s.target for s in group]
    if all(t is None for t in targets):
        return Sample(feeds, None)
    if all(isinstance(t, np.ndarray) and t.ndim for t in targets):
        return Sample(feeds, np.concatenate(targets))
    import torch

    if all(isinstance(t, torch.Tensor) and t.dim() for t in targets):
        return Sample(feeds, torch.cat(targets))
    return None


def run_together(program: Program, groups: Sequence[Sequence[Sample]]) -> Iterator[list[list[Any]]]:
    """For each group, each sample's outputs from one run of all."""
    return map(_apart, outputs_for_each(program, [_feeds(group) for group in groups]), groups)


def _feeds(group: Sequence[Sample]) -> Mapping[str, Array]:
    if len(group) == 1:
        return group[0].feeds
    return {n: np.concatenate([s.feeds[n] for s in group]) for n in group[0].feeds}


def _apart(outputs: Sequence[Any], group: Sequence[Sample]) -> list[list[Any]]:
    if len(group) == 1:
        return [list(outputs)]
    cuts = np.cumsum([examples(s) for s in group])[:-1]
    parts = [np.split(np.asarray(o), cuts) for o in outputs]
    return [[part[i] for part in parts] for i in range(len(group))]

"""One basis for the whole residual stream, cut to its first directions: no shortcuts, nothing added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ...compiler.approximate.structure import Observed, Variant, structure
from ...compiler.facts import Floats
from ...compiler.report import Figures
from .canonical import canonical
from .directions import cuts, described, moments_at_points, principal
from .residual_stream import Stream, find_streams
from .rotation import rotated


@structure(paper="Ashkboos et al., SliceGPT, ICLR 2024, arXiv:2401.15024, with one rotation for all layers")
def shared_rotation(observed: Observed) -> Iterator[Variant]:
    """RMSNorm(x·Q)·Qᵀ·W = RMSNorm(x)·W for orthogonal Q; of Q the first d columns stay, the same for all points.

    Q are the eigenvectors of Σ Cₖ/tr(Cₖ) over the points k at which the stream is read: without the traces, the last
    layers, where the stream is longest, would choose alone.
    """
    model = canonical(observed.model)
    streams = find_streams(model.graph)
    moments = moments_at_points(observed, model, streams)
    full = [(stream, principal(pooled_moment(moments, stream))) for stream in streams]
    before = Figures.of(observed.model).bytes
    for cut in cuts(streams):
        bases: dict[str, Floats] = {}
        for stream, directions in full:
            bases |= one_basis(stream, directions[:, : cut[stream.width]])
        found = rotated(model, bases, "shared_rotation")
        if Figures.of(found).bytes < before:
            yield Variant(described(cut), found)


def one_basis(stream: Stream, basis: Floats) -> dict[str, Floats]:
    """The same basis for all points of a stream, as `rotated` takes it."""
    return {point.name or "": basis for point in stream.bases().values()}


def pooled_moment(moments: Mapping[str, Floats], stream: Stream) -> Floats:
    """Σ Cₖ/tr(Cₖ) over the stream's points: [features, features]."""
    found = [moments[point.name or ""] for point in stream.points]
    return np.sum([m / np.trace(m) for m in found], axis=0)

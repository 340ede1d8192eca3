"""SliceGPT: a basis for each point at which the residual stream is read, cut to its first directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ...compiler.approximate.structure import Observed, Variant, structure
from ...compiler.approximate.taps import arguments
from ...compiler.facts import Floats
from ...compiler.report import Figures
from ...compiler.rule import Skip
from .canonical import canonical
from .directions import cuts, described, principal, require_spread, second_moment
from .residual_stream import Stream, find_streams
from .rotation import rotated

if TYPE_CHECKING:
    from torch import fx


@structure(paper="Ashkboos et al., SliceGPT, ICLR 2024, arXiv:2401.15024")
def slicegpt(observed: Observed) -> Iterator[Variant]:
    """RMSNorm(x·Q)·Qᵀ·W = RMSNorm(x)·W for orthogonal Q; at each point k the first d columns of its own Qₖ stay.

    Between two points the residual is multiplied by QₖᵀQₖ₊₁. Qₖ are the eigenvectors of E[xᵀx] for the x that come in
    when all points before are cut already. The shortcuts cost as much as a sixth of a block: only from about 13 % on
    is the result smaller at all.
    """
    model = canonical(observed.model)
    streams = find_streams(model.graph)
    before = Figures.of(observed.model).bytes
    for cut in cuts(streams):
        if Figures.of(rotated(model, any_bases(streams, cut), "slicegpt")).bytes >= before:
            continue
        yield Variant(described(cut), rotated(model, bases_in_order(observed, model, streams, cut), "slicegpt"))


def any_bases(streams: Sequence[Stream], cut: Mapping[int, int]) -> dict[str, Floats]:
    """Bases of these sizes: what the sliced network would hold does not depend on which."""
    return {
        point.name or "": np.eye(stream.width, cut[stream.width])
        for stream in streams
        for point in stream.bases().values()
    }


def bases_in_order(
    observed: Observed, model: ir.Model, streams: Sequence[Stream], cut: Mapping[int, int]
) -> dict[str, Floats]:
    """Each point's first principal directions, of what it sees when those before it are cut.

    A stream that is cut to the directions Q holds x·QQᵀ, expressed in them: so the uncut network, with that projection
    at each point, computes what the sliced one does. All samples walk through it side by side.

    Args:
        observed: its samples are run.
        model: from `canonical`.
        streams: of the model.
        cut: features of a stream → directions that stay.

    Raises:
        Skip: calibration saw nothing on the stream, or values that are not finite.
    """
    basis_of = {v.name: p.name or "" for s in streams for v, p in s.bases().items()}
    axes = {v.name: axis for s in streams for v, axis in s.values.items()}
    size = {p.name or "": cut[s.width] for s in streams for p in s.bases().values()}
    found: dict[str, Floats] = {}
    for node, runs in _side_by_side(model, observed, set(size)):
        name = str(node.meta["onnx_value"])
        moment = second_moment([np.moveaxis(run.env[node].numpy(), axes[name], -1) for run in runs])
        require_spread(moment)
        found[name] = np.ascontiguousarray(principal(moment)[:, : size[name]])
        for run in runs:
            _project(run, name, found[name], basis_of, axes)
    missing = size.keys() - found.keys()
    if missing:
        raise Skip(f"{min(missing)} on the residual stream could not be observed")
    return found


def _side_by_side(
    model: ir.Model, observed: Observed, points: set[str]
) -> Iterator[tuple[fx.Node, list[fx.Interpreter]]]:
    """Run the program on every sample up to each point, and hand out the point and the runs."""
    import torch
    from torch import fx

    from ...compiler.torch_program import torch_program

    program = torch_program(model)
    runs = [fx.Interpreter(program) for _ in observed.samples]
    for run, sample in zip(runs, observed.samples, strict=True):
        run.args_iter = iter(arguments(program, sample.feeds))
    segment: list[fx.Node] = []
    remaining = {n.meta["onnx_value"]: n for n in program.graph.nodes if n.meta.get("onnx_value") in points}
    for node in program.graph.nodes:
        if not remaining:
            return
        segment.append(node)
        if remaining.get(node.meta.get("onnx_value")) is not node:
            continue
        with torch.no_grad():
            for run in runs:
                _advance(run, segment)
        yield node, runs
        segment = []
        del remaining[node.meta["onnx_value"]]


def _advance(run: Any, nodes: Sequence[fx.Node]) -> None:
    for node in nodes:
        run.env[node] = run.run_node(node)
        for dead in run.user_to_last_uses.get(node, ()):
            del run.env[dead]


def _project(
    run: Any, point: str, basis: Floats, basis_of: Mapping[str | None, str], axes: Mapping[str | None, int]
) -> None:
    """Multiply by QQᵀ every value in the point's basis that is still to be read."""
    import torch

    projection = torch.from_numpy((basis @ basis.T).astype(np.float32))
    for node, value in run.env.items():
        name = node.meta.get("onnx_value")
        if basis_of.get(name) == point and isinstance(value, torch.Tensor):
            axis = axes[name]
            run.env[node] = (value.movedim(axis, -1) @ projection).movedim(-1, axis)

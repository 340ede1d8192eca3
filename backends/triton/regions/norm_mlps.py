"""LayerNorm and the two products that alone read it as one operator: what is normalised stays in registers.

A depthwise convolution that took its norm in gives it up again: it is a plain one then, for which other settings and
faster forms are measured. So a place is decided, as all are, by the time of the whole program with and without it, each
with every kernel tuned: the norm ahead and what the convolution wins or loses count, not the products alone.

    MLP(LayerNormalization(x, s, t), …) → NormMLP(x, …, s, t)
    MLP(ConvLayerNorm(x, k, d, s, t), …) → NormMLP(Conv(x, k, d) channels last, …, s, t)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from ....compiler.ir import metadata, static_dims
from ....compiler.operators import DOMAIN
from ....compiler.operators.mlp import MLPS
from ....compiler.optimise import Names
from ....compiler.replace import replace
from ..row_norm import centres_rows, epsilon_of
from .mlps import sizes_of
from .region import distinct, fused

PLAIN = frozenset(o.name for o in MLPS)
LAST = [0, 2, 3, 1]  # the order of a picture's axes, channels last


@dataclass(frozen=True)
class NormPlace:
    """What is fused and its sizes; `convolution`: the picture, the kernel and the pads of one ahead, else nothing."""

    products: str
    rows: int
    inner: int
    hidden: int
    out: int
    dtype: str
    convolution: tuple[tuple[int, ...], ...]


def norm_mlp_places(model: ir.Model) -> list[NormPlace]:
    """The different places of a model whose products are fused, in order of appearance."""
    return distinct(model, _found)


def fuse_norm_mlps(model: ir.Model, place: NormPlace) -> ir.Model | None:
    """The model with all of one place fused; None where there is none."""
    return fused(model, place, _found, _write)


def _found(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node, NormPlace]]:
    """Norms whose only readers are two products."""
    for products in graph:
        if products.domain != DOMAIN or products.op_type not in PLAIN or products.inputs[0] is None:
            continue
        rows = products.inputs[0]
        norm = rows.producer()
        if norm is None or norm.graph is not graph or len(rows.uses()) != 1 or rows.is_graph_output():
            continue
        convolution = _convolution(norm) if _convolves(norm) else ()
        if convolution is None or (not convolution and not centres_rows(norm)):
            continue
        sizes = sizes_of(rows, products.inputs[1], products.inputs[3])
        if sizes is not None:
            yield norm, products, NormPlace(products.op_type, *sizes, convolution)


def _convolves(norm: ir.Node) -> bool:
    return norm.domain == DOMAIN and norm.op_type == "ConvLayerNorm"


def _convolution(norm: ir.Node) -> tuple[tuple[int, ...], ...] | None:
    """The picture, the kernel and the pads of a convolution that normalises; None where sizes are not known."""
    x, kernel = (None if v is None else static_dims(v) for v in norm.inputs[:2])
    return None if x is None or kernel is None else (x, kernel, tuple(norm.attributes["pads"].as_ints()))


def _write(graph: ir.Graph, norm: ir.Node, products: ir.Node, place: NormPlace, fresh: Names) -> None:
    factors = norm.inputs[-2:]
    x = _convolved(graph, norm, fresh) if _convolves(norm) else norm.inputs[0]
    old = products.outputs[0]
    result = ir.Value(name=fresh("tamago/value"), type=old.type, shape=old.shape)
    node = ir.Node(
        DOMAIN,
        f"Norm{place.products}",
        [x, *products.inputs[1:5], *factors, *products.inputs[5:]],
        [ir.AttrFloat32("epsilon", epsilon_of(norm))],
        outputs=[result],
        name=fresh("tamago/norm_mlp"),
        metadata_props=dict(metadata("norm_mlps", [norm.name or "", products.name or ""])),
    )
    graph.insert_before(products, node)
    replace(old, result, fresh)


def _convolved(graph: ir.Graph, norm: ir.Node, fresh: Names) -> ir.Value:
    """The convolution without its norm, its channels last: that changes the order of the axes' names alone."""
    rows = norm.outputs[0]
    last = rows.shape
    assert last is not None
    n, height, width, channels = last
    picture = ir.Value(name=fresh("tamago/value"), type=rows.type, shape=ir.Shape([n, channels, height, width]))
    turned = ir.Value(name=fresh("tamago/value"), type=rows.type, shape=ir.Shape(list(last)))
    strides = ir.AttrInt64s("strides", [1, 1])
    attributes = [strides, norm.attributes["pads"], norm.attributes["group"]]
    noted = dict(metadata("norm_mlps", [norm.name or ""]))
    name = fresh("tamago/convolution")
    conv = ir.Node(DOMAIN, "Conv", norm.inputs[:3], attributes, outputs=[picture], name=name, metadata_props=noted)
    perm = [ir.AttrInt64s("perm", LAST)]
    view = ir.Node("", "Transpose", [picture], perm, outputs=[turned], name=fresh("tamago/view"))
    graph.insert_before(norm, [conv, view])
    return turned

"""LayerNorm and the product of few rows that alone reads it as one operator: rows are normalised where they lie.

A kernel less to wait for, where a product is done in microseconds; each place is decided by the whole program's time.

    Affine…(LayerNormalization(x, s, t), w, b, …) → NormAffine…(x, w, b, s, t, …)
    MatMul(LayerNormalization(x, s, t), wᵀ) → NormAffine(x, w, 0, s, t)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from ....compiler.ir import constant_tensor, metadata, static_dims
from ....compiler.operators import DOMAIN
from ....compiler.operators.affine import AFFINES
from ....compiler.optimise import Names
from ....compiler.replace import replace
from ..kernels.whole_settings import takes
from ..row_norm import centres_rows, epsilon_of
from .epilogues import alone, write
from .fused_epilogue import Fused, fused_at
from .region import distinct, fused

PRODUCTS = frozenset(o.name for o in AFFINES)


@dataclass(frozen=True)
class NormedPlace:
    """What is fused and its sizes."""

    product: str
    rows: int
    k: int
    n: int
    dtype: str


def norm_affine_places(model: ir.Model) -> list[NormedPlace]:
    """The different places of a model with its epilogues fused, in order of appearance."""
    return distinct(model, _pairs)


def fuse_norm_affines(model: ir.Model, place: NormedPlace) -> ir.Model | None:
    """The model with all of one place fused; None where there is none."""
    return fused(model, place, _pairs, _write)


def _pairs(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node, NormedPlace]]:
    """Norms whose only reader is a product of few rows."""
    for norm in graph:
        if not centres_rows(norm) or norm.outputs[0].is_graph_output():
            continue
        readers = [(use.node, use.idx) for use in norm.outputs[0].uses()]
        if len(readers) == 1 and readers[0][0].graph is graph and readers[0][1] == 0:
            place = _place(norm, readers[0][0])
            if place is not None:
                yield norm, readers[0][0], place


def _place(norm: ir.Node, product: ir.Node) -> NormedPlace | None:
    """None where sizes are not known, the kernel does not take them, or what it reads ahead is computed."""
    ours, plain = product.domain == DOMAIN and product.op_type in PRODUCTS, _plain(product)
    w = product.inputs[1] if ours or plain is not None else None
    shape, weight = static_dims(norm.outputs[0]), None if w is None else static_dims(w)
    if shape is None or weight is None or norm.outputs[0].dtype is None:
        return None
    turned = plain is not None and not plain.attributes[0].as_int()
    n, k = weight[::-1] if turned else weight
    rows = prod(shape[:-1])
    name = product.op_type if ours else "Affine"
    known = rows > 0 and takes(rows, n, k) and all(_is_constant(v) for v in (*norm.inputs[1:], *product.inputs[1:3]))
    return NormedPlace(name, rows, k, n, norm.outputs[0].dtype.name) if known else None


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and constant_tensor(value) is not None


def _plain(product: ir.Node) -> Fused | None:
    """A product that nothing is done to."""
    found = fused_at(product)
    return found if found is not None and found.kind == "Affine" and alone(found) else None


def _write(graph: ir.Graph, norm: ir.Node, product: ir.Node, place: NormedPlace, fresh: Names) -> None:
    plain = _plain(product)
    if plain is not None:
        product = write(graph, plain, {}, fresh)
    old = product.outputs[0]
    result = ir.Value(name=fresh("tamago/value"), type=old.type, shape=old.shape)
    x, *factors = norm.inputs
    node = ir.Node(
        DOMAIN,
        f"Norm{place.product}",
        [x, *product.inputs[1:3], *factors, *product.inputs[3:]],
        [ir.AttrFloat32("epsilon", epsilon_of(norm))],
        outputs=[result],
        name=fresh("tamago/norm_affine"),
        metadata_props=dict(metadata("norm_affines", [norm.name or "", product.name or ""])),
    )
    graph.insert_before(product, node)
    replace(old, result, fresh)

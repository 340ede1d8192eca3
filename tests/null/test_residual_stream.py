"""What is a residual stream, and what is none and why: graphs by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from tamago.compiler.inference import infer
from tamago.compiler.ir import dims, op_name
from tamago.compiler.rule import Skip
from tamago.rewrites.slicing.canonical import canonical
from tamago.rewrites.slicing.residual_stream import Stream, find_streams
from tamago.rewrites.slicing.rotation import rotated
from tamago.rewrites.slicing.shared_rotation import one_basis

D = 8
SHAPES = {
    "table": (16, D),
    "position": (1, 3, D),
    "g": (D,),
    "h": (D,),
    "up": (D, 12),
    "up_bias": (12,),
    "down": (12, D),
    "down_bias": (D,),
    "head": (D, 16),
    "head_rows": (16, D),
    "filter": (D, 1, 2, 2),
    "two": (1,),
}
CONTENTS = {"axes": [1], "flat": [-1, D], "split": [2, 3, 4, 2], "rows": [0, 2, 1], "image": [2, D, 9], "ones": [-1]}
Row = Sequence[Any]


class Graph:
    """Nodes as (operator, operands, result, attributes), constants by name."""

    def __init__(self, *rows: Row, outputs: Sequence[str] = ("logits",), opset: int = 23) -> None:
        random = np.random.default_rng(0)
        self.values = {
            "ids": ir.Value(name="ids", shape=ir.Shape([2, 3]), type=ir.TensorType(ir.DataType.INT64)),
            "x": ir.Value(name="x", shape=ir.Shape([2, 3, D]), type=ir.TensorType(ir.DataType.FLOAT)),
            "picture": ir.Value(name="picture", shape=ir.Shape([2, 1, 6, 6]), type=ir.TensorType(ir.DataType.FLOAT)),
        }
        inputs, constants = list(self.values.values()), list[ir.Value]()
        arrays = {n: random.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}
        arrays |= {n: np.asarray(c, np.int64) for n, c in CONTENTS.items()}
        for name, array in arrays.items():
            tensor = ir.tensor(array, name=name)
            shape, kind = ir.Shape(array.shape), ir.TensorType(tensor.dtype)
            constants.append(ir.Value(name=name, const_value=tensor, shape=shape, type=kind))
            self.values[name] = constants[-1]
        nodes = [self._node(*row) for row in rows]
        graph = ir.Graph(
            inputs,
            [self.values[n] for n in outputs],
            nodes=nodes,
            initializers=constants,
            opset_imports={"": opset},
        )
        self.model = ir.Model(graph, ir_version=10)
        infer(self.model)

    def _node(self, op: str, operands: str, results: str, attributes: dict[str, Any] | None = None) -> ir.Node:
        domain, name = op.split("::") if "::" in op else ("", op)
        outputs = [ir.Value(name=None if r == "_" else r) for r in results.split()]
        self.values |= {str(v.name): v for v in outputs}
        inputs = [None if o == "_" else self.values[o] for o in operands.split()]
        return ir.node(name, inputs, attributes or {}, domain=domain, outputs=outputs, name=f"{name} of {results}")

    @property
    def stream(self) -> Stream:
        (found,) = find_streams(self.model.graph)
        return found


EMBED = ("Gather", "table ids", "e")
NORM = ("RMSNormalization", "e g", "n")
UP = ("MatMul", "n up", "u")
ACT = ("Gelu", "u", "a")
DOWN = ("MatMul", "a down", "d")
SUM = ("Add", "e d", "s")
LAST = ("RMSNormalization", "s g", "m")
HEAD = ("MatMul", "m head", "logits")
CENTRED = ("LayerNormalization", "e g h", "n")
CENTRED_LAST = ("LayerNormalization", "s g h", "m")
BLOCK: tuple[Row, ...] = (EMBED, NORM, UP, ACT, DOWN, SUM, LAST, HEAD)


def names(values: Sequence[ir.Value]) -> list[str]:
    return [str(v.name) for v in values]


def test_a_block_of_rms_norms() -> None:
    stream = Graph(*BLOCK).stream

    assert names(list(stream.values)) == ["e", "d", "s"]
    assert names(stream.points) == ["e", "s"]
    assert [w.node.name for w in stream.writers] == ["MatMul of d"]
    assert [r.layer.node.name for r in stream.readings] == ["MatMul of u", "MatMul of logits"]
    assert [e.node.inputs[e.position].name for e in stream.constants] == ["table"]  # type: ignore[union-attr]
    assert not stream.centred


def test_what_is_written_takes_the_basis_of_what_reads_it_next() -> None:
    found = {str(v.name): str(p.name) for v, p in Graph(*BLOCK).stream.bases().items()}

    assert found == {"e": "e", "d": "s", "s": "s"}


def test_layer_norms_become_rms_norms_of_a_centred_stream() -> None:
    graph = Graph(EMBED, CENTRED, UP, ACT, DOWN, ("Add", "d down_bias", "b"), ("Sum", "e b", "s"), CENTRED_LAST, HEAD)

    assert graph.stream.centred
    model = canonical(graph.model)
    (stream,) = find_streams(model.graph)

    assert [op_name(n.node) for n in stream.norms] == ["RMSNormalization"] * 2
    assert all(np.all(n.scale == 1) for n in stream.norms)
    for edge in stream.constants:
        value = edge.node.inputs[edge.position]
        assert value is not None
        assert value.const_value is not None
        assert np.allclose(value.const_value.numpy().mean(-1), 0, atol=1e-6)
    assert [op_name(n) for n in model.graph].count("Add") == 3  # both shifts times the weight; the first bias


def test_a_shift_goes_into_the_bias_that_is_there() -> None:
    gelu = ("com.microsoft::BiasGelu", "u up_bias", "a")
    graph = Graph(EMBED, CENTRED, UP, gelu, DOWN, SUM, CENTRED_LAST, HEAD)

    model = canonical(graph.model)

    assert [op_name(n) for n in model.graph].count("Add") == 2
    (node,) = [n for n in model.graph if n.op_type == "BiasGelu"]
    assert node.inputs[1] is not None
    assert node.inputs[1].name != "up_bias"


def test_a_tied_table_is_copied() -> None:
    head = ("com.microsoft::FusedMatMul", "m head_rows", "logits", {"transB": 1})
    graph = Graph(("Gather", "head_rows ids", "e"), *BLOCK[1:7], head)
    model = canonical(graph.model)
    (stream,) = find_streams(model.graph)

    found = rotated(model, one_basis(stream, np.eye(D)[:, :4]), "test")

    gather, product = found.graph[0], found.graph[-1]
    assert dims(gather.inputs[0]) == (16, 4)  # type: ignore[arg-type]
    assert dims(product.inputs[1]) == (16, 4)  # type: ignore[arg-type]
    assert gather.inputs[0] is not product.inputs[1]


def test_sums_inside_norms_are_taken_out() -> None:
    skip = ("com.microsoft::SkipSimplifiedLayerNormalization", "e d g", "m _ _ s")
    again = ("com.microsoft::SkipLayerNormalization", "e d g h down_bias", "m _ _ s")
    for row, kind in ((skip, "RMSNormalization"), (again, "LayerNormalization")):
        first = NORM if kind == "RMSNormalization" else CENTRED
        graph = Graph(
            EMBED,
            first,
            UP,
            ACT,
            DOWN,
            row,
            ("MatMul", "m up", "v"),
            ("MatMul", "v down", "f"),
            ("Add", "s f", "t"),
            (kind, "t g", "w"),
            ("MatMul", "w head", "logits"),
        )

        (stream,) = find_streams(canonical(graph.model).graph)

        assert len(stream.points) == 3
        assert len(stream.norms) == 3


def test_a_stream_is_followed_through_what_moves_its_rows() -> None:
    embed = (
        ("Conv", "picture filter", "c", {"strides": [2, 2]}),
        ("Reshape", "c image", "i"),
        ("Transpose", "i", "t", {"perm": [0, 2, 1]}),
        ("Reshape", "t flat", "e"),
    )
    graph = Graph(*embed, *BLOCK[1:])

    axes = {str(v.name): axis for v, axis in graph.stream.values.items()}

    assert axes == {"c": -3, "i": -2, "t": -1, "e": -1, "d": -1, "s": -1}
    model = canonical(graph.model)
    (stream,) = find_streams(model.graph)
    found = rotated(model, one_basis(stream, np.eye(D)[:, :4]), "test")
    shapes = {v.name: dims(v) for n in found.graph for v in n.outputs}
    assert (shapes["c"], shapes["i"], shapes["e"]) == ((2, 4, 3, 3), (2, 4, 9), (18, 4))


def test_a_scale_and_a_shift_behind_a_norm_are_taken_in() -> None:
    graph = Graph(EMBED, NORM, ("Mul", "n h", "p"), ("Add", "p down_bias", "q"), ("MatMul", "q up", "u"), *BLOCK[3:])

    model = canonical(graph.model)

    assert not find_streams(model.graph)[0].affine
    assert "Mul" not in [op_name(n) for n in model.graph]


def test_a_gemm_that_adds_the_residual_writes_and_passes_on() -> None:
    graph = Graph(
        ("Reshape", "ids ones", "flat_ids"),
        ("Gather", "table flat_ids", "e"),
        *BLOCK[1:4],
        ("Gemm", "a down e", "s"),
        *BLOCK[6:],
    )
    model = canonical(graph.model)
    (stream,) = find_streams(model.graph)

    assert names(list(stream.values)) == ["e", "s"]
    found = rotated(model, {"e": np.eye(D)[:, :4], "s": np.eye(D)[:, 4:]}, "test")
    (gemm,) = [n for n in found.graph if op_name(n) == "Gemm"]
    assert gemm.inputs[2] is not None
    shortcut = gemm.inputs[2].producer()
    assert shortcut is not None
    assert op_name(shortcut) == "MatMul"


NO_STREAM: dict[str, tuple[Graph, str]] = {
    "an activation": (Graph(EMBED, ("Relu", "e", "r"), ("RMSNormalization", "r g", "m"), HEAD), "acts on the features"),
    "an output": (Graph(*BLOCK, outputs=("logits", "s")), "is an output"),
    "an input": (Graph(("RMSNormalization", "x g", "m"), HEAD), "an input"),
    "a product": (
        Graph(EMBED, ("Mul", "e g", "f"), ("RMSNormalization", "f g", "m"), HEAD),
        "multiplies the stream by more than a number",
    ),
    "a join": (Graph(*BLOCK, ("Concat", "s e", "c", {"axis": 2})), "joins along the features"),
    "a norm after the sum": (Graph(*BLOCK[:7], ("Add", "m e", "q"), ("MatMul", "q head", "logits")), "made by|reads"),
    "a norm that is an output": (Graph(*BLOCK[:7], outputs=("m",)), "is an output"),
    "two kinds of norms": (Graph(EMBED, CENTRED, *BLOCK[2:]), "take the mean off and some do not"),
    "a mean": (
        Graph(EMBED, CENTRED, UP, ACT, DOWN, SUM, ("MatMul", "s head", "logits")),
        "its mean is taken off",
    ),
    "a softmax": (Graph(EMBED, NORM, ("Softmax", "n", "m"), HEAD), "reads a normalised value"),
    "no norm": (Graph(EMBED, ("MatMul", "e head", "logits")), "nothing in the model is normalised"),
}


@pytest.mark.parametrize("what", NO_STREAM)
def test_what_is_no_stream_and_why(what: str) -> None:
    graph, reason = NO_STREAM[what]

    with pytest.raises(Skip, match=reason):
        find_streams(graph.model.graph)


def test_the_first_directions_narrow_every_value() -> None:
    model = canonical(Graph(*BLOCK).model)
    (stream,) = find_streams(model.graph)

    found = rotated(model, one_basis(stream, np.eye(D)[:, :4]), "test")

    shapes = {v.name: dims(v) for n in found.graph for v in n.outputs}
    assert {n: shapes[n] for n in ("e", "n", "u", "d", "s", "logits")} == {
        "e": (2, 3, 4),
        "n": (2, 3, 4),
        "u": (2, 3, 12),
        "d": (2, 3, 4),
        "s": (2, 3, 4),
        "logits": (2, 3, 16),
    }
    assert all(n.metadata_props["tamago.rule"] == "test" for n in found.graph if op_name(n) == "MatMul")
    assert [op_name(n) for n in found.graph].count("MatMul") == 3


def test_different_bases_are_joined_by_shortcuts() -> None:
    model = canonical(Graph(*BLOCK).model)

    found = rotated(model, {"e": np.eye(D)[:, :4], "s": np.eye(D)[:, 4:]}, "test")

    products = [n for n in found.graph if op_name(n) == "MatMul"]
    assert len(products) == 4
    (shortcut,) = [n for n in products if n.inputs[0] is not None and n.inputs[0].name == "e"]
    assert dims(shortcut.inputs[1]) == (4, 4)  # type: ignore[arg-type]

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, parser, shape_inference

from tamago.compiler.facts import Constant, Contradiction, Fact, Shape
from tamago.compiler.inference import infer, infer_node
from tamago.compiler.ir import attribute_values, dims, op_name
from tamago.compiler.shapes.layout import reshaped

FLOAT, INT64, BOOL, HALF = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT16


def floats(*shape: int | str | None) -> Fact:
    return Fact(FLOAT, shape)


def constant(*numbers: float, dtype: Any = np.int64, shape: tuple[int, ...] | None = None) -> Fact:
    array = np.asarray(numbers, dtype=dtype)
    array = array if shape is None else array.reshape(shape)
    return Fact(int(ir.DataType.from_numpy(array.dtype)), array.shape, Constant.of(array))


# --- one node ---------------------------------------------------------------------------------------------------

NODES: list[tuple[str, dict[str, Any], list[Fact | None], Shape | None]] = [
    ("Add", {}, [floats("n", 1, 3), floats(4, 3)], ("n", 4, 3)),
    ("Add", {}, [floats("n", 3), floats("m", 3)], (None, 3)),
    ("Add", {}, [floats("n"), floats(5)], (5,)),
    ("Where", {}, [Fact(BOOL, (2, 1)), floats(3), floats(1)], (2, 3)),
    ("MatMul", {}, [floats("b", 2, 3, 4), floats(4, 5)], ("b", 2, 3, 5)),
    ("MatMul", {}, [floats(4), floats(4, 5)], (5,)),
    ("MatMul", {}, [floats(3, 4), floats(4)], (3,)),
    ("Gemm", {"transA": 1, "transB": 1}, [floats(4, "n"), floats(5, 4), floats(5)], ("n", 5)),
    ("Reshape", {}, [floats("b", "s", 768), constant(0, 0, 12, 64)], ("b", "s", 12, 64)),
    ("Reshape", {}, [floats("b", "s", 12, 64), constant(0, -1, 768)], ("b", "s", 768)),
    ("Reshape", {}, [floats(2, 3, 4), constant(-1, 6)], (4, 6)),
    ("Reshape", {}, [floats(0, 3), constant(0, 3)], (0, 3)),
    ("Reshape", {"allowzero": 1}, [floats(0, 3), constant(3, 0)], (3, 0)),
    ("Reshape", {}, [floats(2, 3), Fact(INT64, (4,))], (None,) * 4),
    ("Transpose", {"perm": (1, 0, 2)}, [floats("a", 2, "c")], (2, "a", "c")),
    ("Transpose", {}, [floats("a", 2)], (2, "a")),
    ("Concat", {"axis": -1}, [floats("n", 2), floats(5, 3)], (5, 5)),
    ("Concat", {"axis": 0}, [floats("n", 2), floats(3, None)], (None, 2)),
    ("Slice", {}, [floats("n", 10), constant(1), constant(2**40), constant(1), constant(3)], ("n", 3)),
    ("Slice", {}, [floats(10), constant(-1), constant(-(2**40)), constant(0), constant(-2)], (5,)),
    ("Slice", {}, [floats("n", 10), constant(0), constant(2**62), constant(0)], ("n", 10)),
    ("Slice", {}, [floats("n", 10), constant(0), constant(-1), constant(0)], (None, 10)),
    ("Gather", {"axis": 1}, [floats("n", 5, 3), Fact(INT64, (2, "k"))], ("n", 2, "k", 3)),
    ("Gather", {}, [floats("n", 5), constant(2, shape=())], (5,)),
    ("GatherND", {"batch_dims": 1}, [floats(2, 3, 4), Fact(INT64, (2, 5, 1))], (2, 5, 4)),
    ("Unsqueeze", {}, [floats("n", 3), constant(0, -1)], (1, "n", 3, 1)),
    ("Squeeze", {}, [floats("n", 1, 3), constant(-2)], ("n", 3)),
    ("Squeeze", {}, [floats(2, 1, 3)], (2, 3)),
    ("Squeeze", {}, [floats("n", 1, 3)], None),
    ("Expand", {}, [floats("n", 1), constant(2, 1, 4)], (2, "n", 4)),
    ("Tile", {}, [floats("n", 3), constant(1, 2)], ("n", 6)),
    ("Pad", {}, [floats("n", 3), constant(0, 1, 0, 2)], ("n", 6)),
    ("Pad", {}, [floats("n", 3), constant(1, 2), None, constant(1)], ("n", 6)),
    ("Flatten", {"axis": 2}, [floats("n", 1, 3, 4)], ("n", 12)),
    ("ReduceMean", {}, [floats("n", 3, 4), constant(-1)], ("n", 3, 1)),
    ("ReduceMean", {"keepdims": 0}, [floats("n", 3, 4), constant(1, 2)], ("n",)),
    ("ReduceSum", {"keepdims": 0}, [floats("n", 3)], ()),
    ("ReduceSum", {"noop_with_empty_axes": 1}, [floats("n", 3)], ("n", 3)),
    ("ArgMax", {"axis": 1, "keepdims": 0}, [floats("n", 3)], ("n",)),
    ("TopK", {}, [floats("n", 30), constant(5)], ("n", 5)),
    ("Conv", {"pads": (1, 1, 1, 1)}, [floats("n", 3, "h", 32), floats(8, 3, 3, 3)], ("n", 8, "h", 32)),
    ("Conv", {"strides": (2, 2)}, [floats(1, 3, "h", 32), floats(8, 3, 3, 3)], (1, 8, None, 15)),
    ("Conv", {"auto_pad": "SAME_UPPER", "strides": (2, 2)}, [floats(1, 3, 5, 6), floats(8, 3, 3, 3)], (1, 8, 3, 3)),
    ("Conv", {"group": 4, "dilations": (2,)}, [floats(1, 8, 9), floats(12, 2, 3)], (1, 12, 5)),
    ("ConvTranspose", {"strides": (2, 2)}, [floats(1, 4, 3, 3), floats(4, 2, 3, 3)], (1, 2, 7, 7)),
    ("MaxPool", {"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1}, [floats(1, 2, 6, 7)], (1, 2, 3, 3)),
    ("AveragePool", {"kernel_shape": (9,), "strides": (9,), "ceil_mode": 1}, [floats(1, 2, 4)], (1, 2, 1)),
    ("GlobalAveragePool", {}, [floats("n", 8, 5, 5)], ("n", 8, 1, 1)),
    ("Shape", {"start": 1}, [floats("n", 3, 4)], (2,)),
    ("ConstantOfShape", {}, [constant(2, 3)], (2, 3)),
    ("Range", {}, [constant(0, shape=()), constant(10, shape=()), constant(3, shape=())], (4,)),
    ("OneHot", {}, [Fact(INT64, ("n",)), constant(5), floats(2)], ("n", 5)),
    ("NonZero", {}, [floats("n", 3)], (2, None)),
    ("Resize", {}, [floats("n", 3, 4, 4), None, constant(1, 1, 2, 2.5, dtype=np.float32)], (None, 3, 8, 10)),
    (
        "Attention",
        {"q_num_heads": 4, "kv_num_heads": 2},
        [floats("b", "s", 32), floats("b", "t", 16), floats("b", "t", 16)],
        ("b", "s", 32),
    ),
    ("SimplifiedLayerNormalization", {}, [floats("n", 8), floats(8)], ("n", 8)),
    ("com.microsoft::Gelu", {}, [floats("n", 8)], ("n", 8)),
    ("com.microsoft::BiasGelu", {}, [floats("n", 8), floats(8)], ("n", 8)),
    ("com.microsoft::FusedMatMul", {"transB": 1}, [floats("b", 3, 4), floats("b", 5, 4)], ("b", 3, 5)),
    ("com.microsoft::FusedConv", {"activation": "Relu"}, [floats(1, 3, 8, 8), floats(4, 3, 3, 3)], (1, 4, 6, 6)),
    ("com.microsoft::MultiHeadAttention", {"num_heads": 2}, [floats("b", "s", 8)] * 3, ("b", "s", 8)),
    (
        "com.microsoft::GroupQueryAttention",
        {"num_heads": 4, "kv_num_heads": 2},
        [floats("b", "s", 32), floats("b", "s", 16), floats("b", "s", 16)],
        ("b", "s", 32),
    ),
    ("com.microsoft::SkipSimplifiedLayerNormalization", {}, [floats("n", 8)] * 3, ("n", 8)),
]


@pytest.mark.parametrize(("op", "attributes", "facts", "wanted"), NODES, ids=lambda v: v if isinstance(v, str) else "")
def test_shapes(op: str, attributes: dict[str, Any], facts: list[Fact | None], wanted: Shape | None) -> None:
    first = infer_node(op, attributes, facts)[0]

    assert first.shape == wanted
    assert infer_node(op, attributes, facts)[0] == first


@pytest.mark.parametrize(
    ("op", "attributes", "facts"),
    [
        ("Add", {}, [floats(2), floats(3)]),
        ("Add", {}, [floats(2), Fact(HALF, (2,))]),
        ("MatMul", {}, [floats(2, 3), floats(4, 5)]),
        ("MatMul", {}, [floats(), floats(4, 5)]),
        ("Gemm", {}, [floats(2, 3, 4), floats(4, 5)]),
        ("Reshape", {}, [floats(2, 3), constant(4, -1)]),
        ("Reshape", {}, [floats(2, 3), constant(7)]),
        ("Transpose", {"perm": (0, 0)}, [floats(2, 3)]),
        ("Concat", {"axis": 0}, [floats(2, 3), floats(2, 4)]),
        ("Concat", {"axis": 5}, [floats(2, 3)]),
        ("Concat", {}, [floats(2, 3)]),
        ("Split", {}, [floats(5), constant(2, 2)]),
        ("Squeeze", {}, [floats(2, 3), constant(0)]),
        ("Unsqueeze", {}, [floats(2), constant(0, 0)]),
        ("Conv", {}, [floats(1, 3, 8, 8), floats(4, 5, 3, 3)]),
        ("Conv", {}, [floats(1, 3, 2, 2), floats(4, 3, 3, 3)]),
        ("LSTM", {"hidden_size": 4}, [floats(3, 4), floats(4, 4), floats(4)]),
    ],
)
def test_what_cannot_be_is_a_contradiction(op: str, attributes: dict[str, Any], facts: list[Fact | None]) -> None:
    with pytest.raises(Contradiction):
        infer_node(op, attributes, facts)


def test_dtypes() -> None:
    half = Fact(HALF, (2,))
    assert infer_node("Cast", {"to": INT64}, [half])[0].dtype == INT64
    assert infer_node("CastLike", {}, [half, floats(3)])[0] == floats(2)
    assert infer_node("Less", {}, [half, half])[0].dtype == BOOL
    assert infer_node("Pow", {}, [half, floats(1)])[0].dtype == HALF
    assert infer_node("QuantizeLinear", {}, [half, floats(), None])[0].dtype == TensorProto.UINT8
    assert infer_node("DequantizeLinear", {}, [Fact(TensorProto.INT8, (2,)), floats()])[0].dtype == FLOAT
    assert infer_node("ConstantOfShape", {"value": np.ones(1, np.int32)}, [constant(2)])[0].dtype == TensorProto.INT32
    assert infer_node("EyeLike", {"dtype": INT64}, [floats(2, 2)])[0].dtype == INT64


def test_several_outputs() -> None:
    parts = infer_node("Split", {"num_outputs": 3}, [floats(7, 2)], outputs=3)
    assert [f.shape for f in parts] == [(3, 2), (3, 2), (1, 2)]
    normal, mean, deviation = infer_node("LayerNormalization", {}, [Fact(HALF, ("n", 8)), Fact(HALF, (8,))], outputs=3)
    assert (normal.dtype, mean.dtype, deviation.shape) == (HALF, FLOAT, ("n", 1))
    values, indices = infer_node("TopK", {"axis": 0}, [floats("n", 3), constant(2)], outputs=2)
    assert (values.shape, indices) == ((2, 3), Fact(INT64, (2, 3)))


def test_an_operator_is_read_at_the_opset_it_is_marked_with() -> None:
    assert infer_node("Squeeze@11", {"axes": (0,)}, [floats(1, "n")])[0].shape == ("n",)
    assert infer_node("Split@11", {"split": (1, 3)}, [floats(4)], outputs=2)[1].shape == (3,)
    assert infer_node("Upsample", {}, [floats(1, 1, 2, 2), constant(1, 1, 2, 2, dtype=np.float32)], 9)[0].shape == (
        1,
        1,
        4,
        4,
    )


def test_unknown_operators_are_unknown() -> None:
    assert infer_node("com.example::Mystery", {}, [floats(2)], outputs=2) == [Fact(), Fact()]
    assert infer_node("NoSuchOperator", {}, [floats(2)]) == [Fact()]


def test_contents_that_differ_between_instances_decide_nothing() -> None:
    same, other = np.asarray([2, 3]), np.asarray([3, 2])

    def shape_of(*arrays: np.ndarray[Any, Any]) -> Shape | None:
        target = Fact(INT64, (2,), Constant([lambda a=a: a for a in arrays]))
        return infer_node("Reshape", {}, [floats(6), target])[0].shape

    assert shape_of(same, same.copy()) == (2, 3)
    assert shape_of(same, other) == (None, None)


# --- against onnx and the truth ---------------------------------------------------------------------------------


@cache
def node_cases() -> tuple[Any, ...]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    single: list[Any] = [c for c in found if c.model is not None and len(c.model.graph.node) == 1]
    return tuple(c for c in single if not _holds_bodies(c.model.graph.node[0]))


def _holds_bodies(node: onnx.NodeProto) -> bool:
    return any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)


def _facts(case: Any) -> Iterator[tuple[onnx.NodeProto, list[Fact | None], list[Any]]]:
    """Facts of the inputs as the case's data have them, and the outputs that belong to them."""
    node = case.model.graph.node[0]
    for given, wanted in case.data_sets:
        values = dict(zip((i.name for i in case.model.graph.input), given, strict=False))
        if all(isinstance(v, np.ndarray) and v.dtype.kind in "fiub" for v in values.values()):
            facts = [_fact(values[n]) if n in values else None for n in node.input]
            yield node, facts, list(wanted)


def _fact(array: np.ndarray[Any, Any]) -> Fact:
    return Fact(int(ir.DataType.from_numpy(array.dtype)), array.shape, Constant.of(array))


@pytest.mark.parametrize("part", range(4))
def test_nodes_of_the_backend_suite(part: int) -> None:
    """Nothing inferred contradicts the true outputs, and nothing onnx infers is missed."""
    checked = 0
    for case in node_cases()[part::4]:
        opsets = {o.domain: o.version for o in case.model.opset_import}
        node = next(iter(ir.from_proto(case.model).graph))
        version = opsets.get(node.domain, opsets.get("", 1))
        declared = _ask_onnx(case.model)
        for proto, facts, wanted in _facts(case):
            found = infer_node(op_name(node), attribute_values(node), facts, version, outputs=len(proto.output))
            named = [f for f, name in zip(found, proto.output, strict=True) if name]
            for fact, truth, known in zip(named, wanted, declared, strict=False):
                checked += _check(case.name, fact, truth, known)
    assert checked > 200


def _ask_onnx(model: onnx.ModelProto) -> list[tuple[int, Shape | None]]:
    """What onnx infers of the graph's outputs from its declared inputs alone."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = ir.from_proto(shape_inference.infer_shapes(bare, data_prop=True))
    return [(int(v.dtype or 0), dims(v)) for v in inferred.graph.outputs]


def _check(name: str, fact: Fact, truth: Any, known: tuple[int, Shape | None]) -> int:
    if not isinstance(truth, np.ndarray):
        return 0
    if fact.dtype is not None:
        assert ir.DataType(fact.dtype).numpy() == truth.dtype, name
    if fact.shape is not None:
        assert len(fact.shape) == truth.ndim, name
        assert all(d is None or d == t for d, t in zip(fact.shape, truth.shape, strict=True)), (name, fact, truth.shape)
    if known[1] is not None and None not in known[1]:
        assert fact.shape is not None, name
        assert not [d for d, k in zip(fact.shape, known[1], strict=True) if d is None and isinstance(k, int)], name
    return 1


# --- whole models -----------------------------------------------------------------------------------------------


def inferred(text: str, opset: int = 23) -> dict[str, ir.Value]:
    imports = f'"": {opset}, "com.microsoft": 1'
    model = ir.from_proto(parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> test {text}"))
    infer(model)
    found: dict[str, ir.Value] = {}
    stack = [model.graph]
    while stack:
        graph = stack.pop()
        for node in graph:
            found.update({v.name or "": v for v in node.outputs})
            stack += [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
        found.update({v.name or "": v for v in graph.inputs})
    return found


def test_names_survive_a_computed_shape() -> None:
    values = inferred(
        "(float[b,s,64] x) => (y) <int64[1] zero = {0}, int64[1] one = {1}, int64[2] rest = {4, 16}> "
        "{ d = Shape (x) p = Gather (d, zero) q = Gather (d, one) t = Concat <axis = 0> (p, q, rest) "
        "r = Reshape (x, t) y = Transpose <perm = [0, 2, 1, 3]> (r) }"
    )

    assert dims(values["t"]) == (4,)
    assert dims(values["r"]) == ("b", "s", 4, 16)
    assert dims(values["y"]) == ("b", 4, "s", 16)
    assert values["y"].dtype == ir.DataType.FLOAT


def test_contents_of_constant_nodes_are_read() -> None:
    values = inferred(
        "(float[n,6] x) => (y, z) { s = Constant <value = int64[3] {0, 2, 3}> () a = Constant <value_ints = [1]> () "
        "y = Reshape (x, s) z = ReduceMax (y, a) }"
    )

    assert dims(values["y"]) == ("n", 2, 3)
    assert dims(values["z"]) == ("n", 1, 3)


def test_what_is_declared_wins_where_it_says_more() -> None:
    values = inferred("(float[?,3] x) => (float[m,3] y) <float[7,k] t> { t = Relu (x) y = Identity (t) }")

    assert dims(values["t"]) == (7, 3)  # 7 against nothing: more; k against 3: less
    assert dims(values["y"]) == ("m", 3)  # the interface keeps its names


@pytest.mark.parametrize("wrong", ["float[2,9] t", "float[2,1,3] t", "float[9] t"])
def test_what_a_file_declares_otherwise_is_wrong(wrong: str) -> None:
    """Neither a size nor a rank that contradicts the operators, of a value within or of an output."""
    values = inferred(f"(float[2,3] x) => (float[7,3] y) <{wrong}> {{ t = Relu (x) y = Neg (t) }}")

    assert dims(values["t"]) == (2, 3)
    assert dims(values["y"]) == (2, 3)


def test_sizes_from_before_a_dimension_was_freed_are_forgotten() -> None:
    values = inferred(
        "(float[n,3,h,8] x, float[4,3,3,3] w) => (float[1,4,3,3] y) <float[1,3,8,8] t, float[1,4,3,3] c> "
        "{ t = Relu (x) c = Conv <strides = [2, 2]> (t, w) y = Neg (c) }"
    )

    assert dims(values["t"]) == ("n", 3, "h", 8)
    assert dims(values["c"]) == ("n", 4, None, 3)  # 3 was right for 8 rows; h may be any number
    assert dims(values["y"]) == ("n", 4, None, 3)


def test_one_word_for_every_unknown_dimension_is_no_name() -> None:
    values = inferred("(float[None,None] x, float[None] z) => (y) { y = Add (x, z) }")

    assert dims(values["y"]) == (None, None)


def test_if_knows_what_both_branches_agree_on() -> None:
    values = inferred(
        "(bool c, float[n,3] x) => (y, z) { y, z = If (c) <"
        "then_branch = a () => (p, q) { p = Relu (x) q = Concat <axis = 0> (x, x) }, "
        "else_branch = b () => (r, s) { r = Neg (x) s = Relu (x) }> }"
    )

    assert dims(values["y"]) == ("n", 3)
    assert dims(values["z"]) == (None, 3)


LOOP = (
    "(int64 m, bool c, float[2,3] x, float[1,3] g) => (y, h, z) {{ y, h, z = Loop (m, c, x, g) <body = step "
    "(int64 i, bool go, a, b) => (on, a2, b2, out) "
    "{{ on = Identity (go) a2 = {0} (a) b2 = Concat <axis = 0> (b, b) out = Neg (a2) }}> }}"
)


def test_a_loop_keeps_the_shapes_its_body_upholds() -> None:
    values = inferred(LOOP.format("Relu"))

    assert dims(values["a"]) == (2, 3)
    assert dims(values["b"]) == (None, 3)  # doubles in every round
    assert dims(values["y"]) == (2, 3)
    assert dims(values["h"]) == (None, 3)
    assert dims(values["z"]) == (None, 2, 3)
    assert dims(values["i"]) == ()
    assert values["b2"].dtype == ir.DataType.FLOAT


def test_a_loop_forgets_a_shape_that_its_body_changes() -> None:
    values = inferred(LOOP.format("Transpose"))

    assert dims(values["a"]) == (None, None)
    assert dims(values["y"]) == (None, None)
    assert dims(values["out"]) == (None, None)


def test_scan() -> None:
    values = inferred(
        "(float[3] s, float[t,n,3] x) => (y, z) { y, z = Scan <num_scan_inputs = 1, scan_output_axes = [1], "
        "body = step (before, row) => (after, out) { out = Add (row, before) axis = Constant <value_ints = [0]> () "
        "after = ReduceSum <keepdims = 0> (out, axis) }> (s, x) }"
    )

    assert dims(values["row"]) == ("n", 3)
    assert dims(values["z"]) == ("n", "t", 3)
    assert dims(values["y"]) == (3,)


def test_sequences_are_typed() -> None:
    values = inferred("(float[2] a, float[3] b) => (n) { s = SequenceConstruct (a, b) n = SequenceLength (s) }")

    assert isinstance(values["s"].type, ir.SequenceType)
    assert values["n"].dtype == ir.DataType.INT64


def test_old_opsets_are_inferred_as_they_are() -> None:
    values = inferred(
        "(float[2,1,6] x) => (y, p, q, r) { y = Squeeze <axes = [1]> (x) p, q = Split <axis = 1, split = [2, 4]> (y) "
        "r = ReduceMean <axes = [1], keepdims = 0> (y) }",
        11,
    )

    assert dims(values["y"]) == (2, 6)
    assert dims(values["q"]) == (2, 4)
    assert dims(values["r"]) == (2,)


class _Unreadable(ir.LazyTensor):
    """A weight that must not be read."""

    def __init__(self, name: str) -> None:
        def refuse() -> ir.TensorProtocol:
            raise AssertionError("a weight was read")

        super().__init__(refuse, dtype=ir.DataType.FLOAT, shape=ir.Shape([1 << 20, 1 << 14]), name=name)


def test_no_weight_is_read() -> None:
    weight = ir.Value(name="w", const_value=_Unreadable("w"))
    data = ir.Value(name="x", shape=ir.Shape(["n", 1 << 20]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.Node("", "MatMul", [data, weight])
    graph = ir.Graph([data], node.outputs, nodes=[node], initializers=[weight], opset_imports={"": 23})

    infer(ir.Model(graph, ir_version=10))

    assert dims(node.outputs[0]) == ("n", 1 << 14)


def test_a_second_pass_changes_nothing() -> None:
    text = "(float[b,3,8,8] x, float[4,3,3,3] w) => (y) { c = Conv <pads = [1, 1, 1, 1]> (x, w) y = Relu (c) }"
    model = ir.from_proto(parser.parse_model(f'<ir_version: 10, opset_import: ["": 23]> test {text}'))
    infer(model)
    first = ir.to_proto(model).SerializeToString()

    infer(model)

    assert ir.to_proto(model).SerializeToString() == first


@pytest.mark.parametrize(
    ("source", "wanted", "found"),
    [
        (("batch", 5, 48), (-1, 48), ("5*batch", 48)),
        (("5*batch", 48), (-1, 5, 48), ("batch", 5, 48)),
        (("tokens", "batch", 64), (-1, 64), ("batch*tokens", 64)),  # one text for one product
        (("batch*tokens", 64), ("batch", -1, 64), ("batch", "tokens", 64)),
        (("batch", 6), (-1, 4), (None, 4)),  # 6·batch/4 need not be whole for every batch
        (("past + 1", 4), (-1,), (None,)),  # a name of its own is not multiplied
        (("past + 1", 4), (-1, 4), ("past + 1", 4)),
        (("batch", None), (-1,), (None,)),
        (("batch", 4), ("tokens", -1), ("tokens", None)),
    ],
)
def test_sizes_of_named_dimensions_multiply_and_cancel(
    source: Shape, wanted: tuple[int | str, ...], found: Shape
) -> None:
    assert reshaped(source, wanted, False) == found


def test_numbers_that_do_not_divide_are_a_contradiction() -> None:
    with pytest.raises(Contradiction):
        reshaped(("batch", 5), ("batch", -1, 2), False)

"""Which channels can only leave together: groups that are found, and twins that are refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from tamago.compiler.facts import Dim
from tamago.compiler.inference import infer
from tamago.compiler.ir import dims
from tamago.compiler.rule import Skip
from tamago.rewrites.pruning.coupling import channel_groups
from tamago.rewrites.pruning.dead_channels import living
from tamago.rewrites.pruning.groups import Group
from tamago.rewrites.pruning.heads import head_groups
from tamago.rewrites.pruning.layout import Layout, regrouped
from tamago.rewrites.pruning.removal import without
from tamago.rewrites.pruning.selection import select

Array = np.ndarray[Any, Any]


def floats(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def model(text: str, inputs: str, constants: Mapping[str, Any], output: str = "y") -> ir.Model:
    """A model from the text form of its nodes; its constants are initializers."""
    head = '<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>'
    proto = onnx.parser.parse_model(f"{head} g ({inputs}) => (float[] {output}) {{ {text} }}")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    for name, contents in constants.items():
        array: Array = np.asarray(contents, np.int64) if isinstance(contents, list) else np.asarray(contents)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    found = ir.from_proto(proto)
    for node in found.graph:  # what a rule that makes a contrib operator says of its output
        infer(found)
        if node.domain and node.inputs[0] is not None:
            node.outputs[0].shape, node.outputs[0].type = node.inputs[0].shape, node.inputs[0].type
    infer(found)
    return found


def claims(group: Group) -> set[tuple[str, int, int, str]]:
    """(constant, axis, elements of a unit, role)."""
    return {(s.constant.name or "", s.layout.axis, s.layout.each, s.role) for s in group.slices}


def only(found: ir.Model) -> Group:
    (group,), _ = channel_groups(found)
    return group


def reasons(found: ir.Model) -> str:
    """Why nothing can be removed."""
    groups, refused = channel_groups(found)
    assert groups == []
    return "; ".join(r.reason for r in refused)


CONVS = {"a": floats(8, 3, 3, 3), "b": floats(8), "c": floats(4, 8, 1, 1)}
IMAGE = "float[N,3,9,9] x"


def between(middle: str, **constants: Any) -> ir.Model:
    """A convolution to 8 channels `h`, something that makes `z` of them, a convolution of `z`."""
    return model(f"h = Conv(x, a, b) {middle} y = Conv(z, c)", IMAGE, CONVS | constants)


def test_channels_between_two_convolutions() -> None:
    group = only(between("z = Relu(h)"))
    assert claims(group) == {("a", 0, 1, "source"), ("b", 0, 1, "each"), ("c", 1, 1, "sink")}
    assert group.units == 8


PASSED: dict[str, tuple[str, dict[str, Any]]] = {
    "per-channel constants": ("s = Mul(h, m) z = Add(s, o)", {"m": floats(8, 1, 1), "o": floats(1)}),
    "a gate of itself": ("s = Sigmoid(h) z = Mul(h, s)", {}),
    "batch normalization": (
        "z = BatchNormalization(h, s, t, u, v)",
        {n: np.abs(floats(8)) for n in "stuv"},
    ),
    "instance normalization": ("z = InstanceNormalization(h, s, t)", {"s": floats(8), "t": floats(8)}),
    "pooling": ("z = MaxPool <kernel_shape = [2, 2]> (h)", {}),
    "padding of positions": ("z = Pad(h, p)", {"p": [0, 0, 1, 1, 0, 0, 1, 1]}),
    "resizing of positions": ("z = Resize(h, , s)", {"s": np.asarray([1, 1, 2, 2], np.float32)}),
    "clipping": ("z = Clip(h, l, u)", {"l": np.float32(0), "u": np.float32(6)}),
    "there and back": (
        "s = Transpose <perm = [0, 2, 3, 1]> (h) t = Relu(s) z = Transpose <perm = [0, 3, 1, 2]> (t)",
        {},
    ),
    "a mean over positions": ("z = ReduceMean <keepdims = 1> (h, i)", {"i": [2, 3]}),
    "a softmax over positions": ("z = Softmax <axis = 3> (h)", {}),
    "a size of positions": ("s = Shape <start = 2> (h) t = Size(s) u = Cast <to = 1> (t) z = Mul(h, u)", {}),
    "concatenation of positions": ("z = Concat <axis = 2> (h, h)", {}),
    "pooling in three dimensions": (
        "s = Unsqueeze(h, o) t = MaxPool <kernel_shape = [1, 2, 2]> (s) z = Squeeze(t, o)",
        {"o": [1]},
    ),
}


@pytest.mark.parametrize("name", PASSED)
def test_what_keeps_channels_apart_is_passed(name: str) -> None:
    middle, constants = PASSED[name]
    group = only(between(middle, **constants))
    assert {("a", 0, 1, "source"), ("b", 0, 1, "each"), ("c", 1, 1, "sink")} <= claims(group)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a softmax over channels": ("z = Softmax <axis = 1> (h)", {}, "sums over the channels"),
    "an operator that is not known": ("z = LRN <size = 3> (h)", {}, "LRN is not known"),
    "padding of channels": (
        "t = Pad(h, p) z = Slice(t, u, v, w)",
        {"p": [0, 1] + [0] * 6, "u": [1], "v": [9], "w": [1]},
        "padded",
    ),
    "a mean over everything": ("m = ReduceMean <keepdims = 1> (h) z = Sub(h, m)", {}, "takes channels together"),
    "a range of them": (
        "s = Slice(h, u, v, w) t = Slice(h, v, r, w) z = Concat <axis = 1> (s, t)",
        {"u": [0], "v": [4], "r": [8], "w": [1]},
        "",
    ),
    "concatenation": ("z = Concat <axis = 1> (h, h)", {"c": floats(4, 16, 1, 1)}, "concatenated"),
    "pooling over channels": (
        "s = Unsqueeze(h, o) t = MaxPool <kernel_shape = [2, 2, 2], pads = [0, 0, 0, 1, 0, 0]> (s) z = Squeeze(t, o)",
        {"o": [1]},
        "takes channels together",
    ),
    "the number of channels itself": ("s = Size(h) t = Cast <to = 1> (s) z = Div(h, t)", {}, "Size is not known"),
    "a sum with an input": ("z = Add(h, e)", {}, "from outside"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_mixes_channels_is_refused(name: str) -> None:
    middle, constants, because = REFUSED[name]
    inputs = IMAGE + (", float[N,8,7,7] e" if "e)" in middle else "")
    found = model(f"h = Conv(x, a, b) {middle} y = Conv(z, c)", inputs, CONVS | constants)
    assert because in reasons(found)


def test_a_graph_output_stays() -> None:
    found = model("y = Conv(x, a, b) z = Conv(y, c)", IMAGE, CONVS)
    assert "output of the model" in reasons(found)


def test_a_sum_of_branches_couples_what_makes_them() -> None:
    """The stream of a residual network, and the channels inside one of its blocks."""
    text = "h = Conv(x, a) r = Relu(h) s = Conv(r, b) t = Relu(s) u = Conv(t, c) v = Add(u, r) y = Conv(v, d)"
    weights = {"a": floats(8, 3, 1, 1), "b": floats(6, 8, 1, 1), "c": floats(8, 6, 1, 1), "d": floats(2, 8, 1, 1)}
    stream, block = channel_groups(model(text, IMAGE, weights))[0]
    assert claims(stream) == {
        ("a", 0, 1, "source"),
        ("c", 0, 1, "source"),
        ("b", 1, 1, "sink"),
        ("d", 1, 1, "sink"),
    }
    assert claims(block) == {("b", 0, 1, "source"), ("c", 1, 1, "sink")}


def test_a_depthwise_convolution_goes_along() -> None:
    group = only(between("z = Conv <group = 8> (h, d)", d=floats(8, 1, 3, 3)))
    assert ("d", 0, 1, "each") in claims(group)
    assert [(c.name, c.each) for c in group.counts] == [("group", 1)]


def test_a_depthwise_convolution_with_two_outputs_for_each_channel() -> None:
    group = only(between("z = Conv <group = 8> (h, d)", d=floats(16, 1, 3, 3), c=floats(4, 16, 1, 1)))
    assert {("d", 0, 2, "each"), ("c", 1, 2, "sink"), ("a", 0, 1, "source")} <= claims(group)


def test_groups_of_several_channels_are_refused() -> None:
    assert "groups of several" in reasons(between("z = Conv <group = 2> (h, d)", d=floats(8, 4, 3, 3)))


def test_rows_after_flattening_come_in_runs() -> None:
    text = "h = Conv(x, a, b) r = Relu(h) f = Reshape(r, s) y = Gemm <transB = 1> (f, w)"
    group = only(model(text, IMAGE, {"a": CONVS["a"], "b": CONVS["b"], "w": floats(5, 8 * 49), "s": [-1, 8 * 49]}))
    assert ("w", 1, 49, "sink") in claims(group)
    assert [(s.position, s.each) for s in group.sizes] == [(1, 49)]


def test_rows_after_a_global_pool() -> None:
    text = "h = Conv(x, a) p = GlobalAveragePool(h) f = Flatten(p) y = Gemm(f, w)"
    assert ("w", 0, 1, "sink") in claims(only(model(text, IMAGE, {"a": CONVS["a"], "w": floats(8, 5)})))


TOKENS = "float[N,7,16] x"


@pytest.mark.parametrize(
    "activation", ["s = Sigmoid(g) t = Mul(g, s)", "t = com.microsoft.QuickGelu <alpha = 1.0> (g)"]
)
def test_a_gated_layer_is_one_group(activation: str) -> None:
    text = f"g = MatMul(x, a) u = MatMul(x, b) {activation} m = Mul(t, u) y = MatMul(m, c)"
    group = only(model(text, TOKENS, {"a": floats(16, 24), "b": floats(16, 24), "c": floats(24, 16)}))
    assert claims(group) == {("a", 1, 1, "source"), ("b", 1, 1, "source"), ("c", 0, 1, "sink")}


def test_a_layer_after_a_norm_over_channels() -> None:
    """ConvNeXt: what the norm averages over stays, what lies between the products can go."""
    text = """
        h = Conv <group = 3> (x, d) t = Transpose <perm = [0, 2, 3, 1]> (h) n = LayerNormalization(t, s)
        u = MatMul(n, a) g = com.microsoft.BiasGelu(u, b) v = MatMul(g, c)
        w = Transpose <perm = [0, 3, 1, 2]> (v) y = Add(w, x)
    """
    weights = {"d": floats(3, 1, 1, 1), "s": floats(3), "a": floats(3, 12), "b": floats(12), "c": floats(12, 3)}
    assert claims(only(model(text, IMAGE, weights))) == {
        ("a", 1, 1, "source"),
        ("b", 0, 1, "each"),
        ("c", 0, 1, "sink"),
    }


def test_a_table_makes_channels() -> None:
    found = model("h = Gather(t, i) y = MatMul(h, w)", "int64[N] i", {"t": floats(50, 8), "w": floats(8, 3)})
    assert claims(only(found)) == {("t", 1, 1, "source"), ("w", 0, 1, "sink")}


def test_a_weight_that_is_read_elsewhere_stays() -> None:
    text = "h = MatMul(x, a) r = Relu(h) y = MatMul(r, c) o = Softmax(y) p = MatMul(o, a)"
    assert "read elsewhere" in reasons(model(text, TOKENS, {"a": floats(16, 24), "c": floats(24, 16)}, "p"))


# --- heads --------------------------------------------------------------------------------------------------------

WEIGHTS = {"wq": floats(16, 16), "wk": floats(16, 8), "wv": floats(16, 8), "wo": floats(16, 16)}
PROJECTED = "q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)"
ATTENDED: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "Attention": (
        "a = Attention <q_num_heads = 4, kv_num_heads = 2> (q, k, v)",
        {},
        {"q_num_heads": 2, "kv_num_heads": 1},
    ),
    "GroupQueryAttention": (
        "a = com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2> (q, k, v, , , l, m)",
        {"l": np.asarray([6], np.int32), "m": np.int32(7)},
        {"num_heads": 2, "kv_num_heads": 1},
    ),
    "written out": (
        """q4 = Reshape(q, sq) qt = Transpose <perm = [0, 2, 1, 3]> (q4)
        k4 = Reshape(k, sk) kt = Transpose <perm = [0, 2, 3, 1]> (k4) ku = Unsqueeze(kt, i) ke = Expand(ku, ek)
        kr = Reshape(ke, rk) v4 = Reshape(v, sk) vt = Transpose <perm = [0, 2, 1, 3]> (v4) vu = Unsqueeze(vt, i)
        ve = Expand(vu, ev) vr = Reshape(ve, rv) s = MatMul(qt, kr) p = Softmax(s) o = MatMul(p, vr)
        ot = Transpose <perm = [0, 2, 1, 3]> (o) a = Reshape(ot, so)""",
        {"sq": [0, 0, 4, 4], "sk": [0, 0, 2, 4], "i": [2], "ek": [1, 2, 2, 4, 7], "ev": [1, 2, 2, 7, 4]}
        | {"rk": [0, 4, 4, 7], "rv": [0, 4, 7, 4], "so": [0, 0, 16]},
        {},
    ),
}


def attention(name: str, text: str = "y = MatMul(a, wo)", **constants: Any) -> ir.Model:
    middle, more, _ = ATTENDED[name]
    return model(f"{PROJECTED} {middle} {text}", "float[1,7,16] x", WEIGHTS | more | constants)


@pytest.mark.parametrize("name", ATTENDED)
def test_grouped_heads_go_with_their_key_and_value(name: str) -> None:
    (group,), _ = head_groups(attention(name))
    assert claims(group) == {
        ("wq", 1, 8, "source"),
        ("wk", 1, 4, "source"),
        ("wv", 1, 4, "source"),
        ("wo", 0, 8, "sink"),
    }
    assert {c.name: c.each for c in group.counts} == ATTENDED[name][2]


@pytest.mark.parametrize("name", ATTENDED)
def test_single_channels_of_heads_are_refused(name: str) -> None:
    groups, _ = channel_groups(attention(name))
    assert groups == []


def test_a_norm_over_all_heads_keeps_them() -> None:
    found = attention("Attention", "n = RMSNormalization(a, s) y = MatMul(n, wo)", s=floats(16))
    groups, refused = head_groups(found)
    assert groups == []
    assert "averages over the channels" in refused[0].reason


# --- layouts, selection, removal ----------------------------------------------------------------------------------

REGROUPED: list[tuple[Layout, tuple[Dim, ...], tuple[Dim, ...], Layout]] = [
    (Layout(1, 8), ("n", 8, 3, 3), ("n", 72), Layout(1, 8, 9)),
    (Layout(1, 8, 9), ("n", 72), ("n", 8, 3, 3), Layout(1, 8)),
    (Layout(2, 4), ("n", 7, 4, 16), ("n", 7, 64), Layout(2, 4, 16)),
    (Layout(3, 4), ("n", 7, 3, 4, 16), ("n", 7, 192), Layout(2, 4, 16, 3)),
    (Layout(1, 2, 3), ("n", 6, 5), ("n", 2, 3, 5), Layout(1, 2)),
    (Layout(1, 8), ("n", 8, 1, 1), ("n", 8), Layout(1, 8)),
]


@pytest.mark.parametrize(("layout", "before", "after", "wanted"), REGROUPED)
def test_a_reshape_moves_units(layout: Layout, before: tuple[Dim, ...], after: tuple[Dim, ...], wanted: Layout) -> None:
    assert regrouped(layout, before, after) == wanted
    assert regrouped(wanted, after, before) == layout


@pytest.mark.parametrize(("before", "after"), [((4, 6), (6, 4)), (("n", 6), (None, 3)), ((2, 6), (3, 4))])
def test_a_reshape_that_mixes_units_is_refused(before: tuple[Dim, ...], after: tuple[Dim, ...]) -> None:
    with pytest.raises(Skip):
        regrouped(Layout(1, 6), before, after)


def test_a_wide_group_keeps_multiples_of_eight_and_no_group_goes_whole() -> None:
    wide, narrow = Group("wide", 60), Group("narrow", 5)
    scores = [np.arange(60.0), np.arange(5.0)]
    for fraction in (0.1, 0.4, 1.0):
        first, second = select([wide, narrow], scores, [1.0, 1.0], fraction)
        assert len(first) in (60, *range(8, 57, 8))
        assert len(second) >= 1
        assert set(first) == set(range(60 - len(first), 60))


def test_the_cheapest_loss_goes_first() -> None:
    """Of two groups the one whose units save more for the same loss."""
    groups = [Group("a", 8), Group("b", 8)]
    first, second = select(groups, [np.ones(8), np.ones(8)], [1.0, 10.0], 30.5 / 88)
    assert len(first) == 8
    assert len(second) == 5


def test_what_is_removed_leaves_every_shape_true() -> None:
    text = "h = Conv(x, a, b) d = Conv <group = 8> (h, e) r = Relu(d) f = Reshape(r, s) y = MatMul(f, w)"
    constants = {"a": CONVS["a"], "b": CONVS["b"], "e": floats(8, 1, 1, 1), "w": floats(392, 5), "s": [-1, 392]}
    found = model(text, IMAGE, constants)
    result = without(found, [(only(found), np.array([1, 4, 6]))])
    declared = {v.name: dims(v) for n in result.graph for v in n.outputs}
    for node in result.graph:
        for value in node.outputs:
            value.shape = None
    infer(result)
    assert declared == {v.name: dims(v) for n in result.graph for v in n.outputs}
    assert declared["r"] == ("N", 3, 7, 7)
    assert [i.name for i in result.graph.inputs] == ["x"]


MASKED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "convolutions": (
        """h = Conv(x, a, b) d = Conv <group = 8> (h, e) r = Relu(d)
        p = MaxPool <kernel_shape = [2, 2]> (r) y = Conv(p, c)""",
        "float[2,3,9,9] x",
        CONVS | {"e": floats(16, 1, 1, 1), "c": floats(4, 16, 1, 1)},
    ),
    "a flattened picture": (
        "h = Conv(x, a, b) r = Relu(h) f = Reshape(r, s) g = Gemm <transB = 1> (f, w, v) t = Tanh(g) y = MatMul(t, u)",
        "float[2,3,9,9] x",
        CONVS | {"w": floats(24, 392), "v": floats(24), "u": floats(24, 3), "s": [0, 392]},
    ),
    "a stream": (
        "h = Conv(x, a) r = Relu(h) s = Conv(r, b) t = Relu(s) u = Conv(t, c) v = Add(u, r) y = Conv(v, d)",
        "float[2,3,9,9] x",
        {"a": floats(8, 3, 1, 1), "b": floats(6, 8, 1, 1), "c": floats(8, 6, 1, 1), "d": floats(2, 8, 1, 1)},
    ),
    "a gate": (
        "g = MatMul(x, a) u = MatMul(x, b) s = Sigmoid(g) t = Mul(g, s) m = Mul(t, u) y = MatMul(m, c)",
        "float[2,7,16] x",
        {"a": floats(16, 24), "b": floats(16, 24), "c": floats(24, 16)},
    ),
}


@pytest.mark.parametrize("name", [*MASKED, "Attention", "written out"])
def test_units_removed_are_units_that_nothing_reads(name: str) -> None:
    """As if the rows that read them were zero; every group of the program at once."""
    found = attention(name) if name in ATTENDED else model(*MASKED[name])
    groups, _ = head_groups(found) if name in ATTENDED else channel_groups(found)
    kept = [(g, np.arange(1, g.units, 2)) for g in groups]
    masked = found.clone()
    for group, units in kept:
        gone = np.setdiff1d(np.arange(group.units), units)
        for part in group.of("sink"):
            value = masked.graph.initializers[part.constant.name or ""]
            assert value.const_value is not None
            array = np.moveaxis(value.const_value.numpy().copy(), part.layout.axis, 0)
            array[part.layout.indices(gone)] = 0
            value.const_value = ir.tensor(np.moveaxis(array, 0, part.layout.axis))

    smaller = without(found, kept)

    (wanted,), (result,) = outputs(masked), outputs(smaller)
    assert groups
    np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)


def outputs(found: ir.Model) -> list[Array]:
    proto = ir.to_proto(found)
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    return [np.asarray(a) for a in ReferenceEvaluator(proto).run(None, {"x": floats(*shape)})]


def test_dead_channels_are_those_that_weights_prove() -> None:
    a, b, c = (CONVS[n].copy() for n in "abc")
    a[[1, 2]], b[1], b[2] = 0.0, -3.0, 3.0  # Relu makes 0 of one of them, 3 of the other
    c[:, 5] = 0.0
    group = only(model("h = Conv(x, a, b) z = Relu(h) y = Conv(z, c)", IMAGE, {"a": a, "b": b, "c": c}))
    assert living(group).tolist() == [0, 2, 3, 4, 6, 7]

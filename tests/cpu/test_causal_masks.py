"""Masks that follow from subscripts alone: found where sizes are free, and never where they are something else."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import parser

from tamago.compiler.causal_masks import mark_causal_masks
from tamago.compiler.inference import infer
from tamago.compiler.ir import CAUSAL

HEAD = '<ir_version: 10, opset_import: ["": 23]>\n'
SIZES = """
    shape = Shape (x)
    n1 = Gather (shape, one1)
    n = Squeeze (n1)
    i = Range (zero, n, one)
    row = Unsqueeze (i, last)
    column = Unsqueeze (i, first)
"""
CONSTANTS = """int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64[1] one1 = {1}, int64[1] two1 = {2},
    int64[1] zero1 = {0}, int64[1, 1] minus = {-1}, int64[1] first = {0}, int64[1] last = {1}, float none = {0},
    int64[1] many = {9223372036854775807}, float far = {-3.4028234663852886e38}, float near = {-5}, float half = {0.5},
    int64[2] both = {0, 1}"""

SQUARE = "size = Concat <axis = 0> (n1, n1)\n"


def model_of(body: str, kind: str) -> onnx.ModelProto:
    # Exporters write down the shapes of what is between, which inference need not find.
    between = ", int64[b, n] now, int64[b, n] then" if "now =" in body else ""
    text = f"{HEAD} g (float[b, n] x) => ({kind} y) <{CONSTANTS}{between}> {{ {SIZES} {body} }}"
    return parser.parse_model(text)


def is_causal(proto: onnx.ModelProto) -> bool:
    model = ir.from_proto(proto)
    infer(model)
    mark_causal_masks(model.graph)
    return bool(model.graph.outputs[0].meta.get(CAUSAL))


def computed(proto: onnx.ModelProto, size: int) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return np.asarray(session.run(None, {"x": np.zeros((3, size), np.float32)})[0])


CAUSAL_MASKS = {
    "at most": "y = LessOrEqual (column, row)",
    "at least": "y = GreaterOrEqual (row, column)",
    "less than the next": "next = Add (row, one)\n y = Less (column, next)",
    "more than the one before": "before = Sub (column, one)\n y = Greater (row, before)",
    "not above": "above = Greater (column, row)\n y = Not (above)",
    "shifted alike": "a = Add (row, two)\n b = Add (two, column)\n y = LessOrEqual (b, a)",
    "scaled alike": "a = Mul (row, two)\n b = Mul (two, column)\n y = LessOrEqual (b, a)",
    "half a step": "a = Mul (row, two)\n b = Mul (two, column)\n c = Sub (b, one)\n y = LessOrEqual (c, a)",
    "with what is always true": "m = LessOrEqual (column, row)\n same = Equal (row, row)\n y = And (same, m)",
    "with what is never true": "m = LessOrEqual (column, row)\n never = Less (row, row)\n y = Or (m, never)",
    "lower triangle": f"{SQUARE} ones = ConstantOfShape <value = bool[1] {{1}}> (size)\n y = Trilu <upper = 0> (ones)",
    "in one text of a packed sequence": "wide = Expand (column, shape)\n b1 = Gather (shape, zero1)\n"
    " size = Concat <axis = 0> (b1, one1)\n before = Expand (minus, size)\n all = Concat <axis = -1> (before, wide)\n"
    " end = Add (n1, one1)\n now = Slice (all, one1, end, last, one1)\n then = Slice (all, zero1, n1, last, one1)\n"
    " step = Sub (now, then)\n jumps = Equal (step, one)\n no = Not (jumps)\n count = Cast <to = 7> (no)\n"
    " sum = CumSum (count, one)\n k = Unsqueeze (sum, one1)\n q = Unsqueeze (sum, two1)\n"
    " same = Equal (k, q)\n m = LessOrEqual (column, row)\n y = And (m, same)",
}
ADDED = {
    "chosen": "m = LessOrEqual (column, row)\n y = Where (m, none, far)",
    "chosen the other way": "m = Greater (column, row)\n y = Where (m, far, none)",
    "upper triangle": f"{SQUARE} f = ConstantOfShape <value = float[1] {{-3.4e38}}> (size)\n"
    " y = Trilu <upper = 1> (f, one)",
    "apart": "m = LessOrEqual (column, row)\n f = Where (m, none, far)\n y = Unsqueeze (f, both)",
}
OTHERS = {
    "strictly below": "y = Less (column, row)",
    "one more": "next = Add (row, one)\n y = LessOrEqual (column, next)",
    "the other triangle": "y = GreaterOrEqual (column, row)",
    "above": "y = Greater (column, row)",
    "another pace": "a = Mul (row, two)\n y = LessOrEqual (column, a)",
    "moved": "tail = Slice (column, one1, many, last, one1)\n y = LessOrEqual (tail, row)",
    "from the end": "back = Sub (n, column)\n y = LessOrEqual (back, row)",
    "one row hidden": "m = LessOrEqual (column, row)\n never = Less (row, row)\n y = And (m, never)",
    "all seen": "m = LessOrEqual (column, row)\n same = Equal (row, row)\n y = Or (m, same)",
    "in a type that wraps": "a = Cast <to = 3> (row)\n b = Cast <to = 3> (column)\n y = LessOrEqual (b, a)",
    "cut to whole numbers": "f = Cast <to = 1> (row)\n h = Mul (f, half)\n a = Cast <to = 7> (h)\n"
    " y = LessOrEqual (column, a)",
    "inputs": "wide = ReduceMean <keepdims = 1> (x, first)\n high = Transpose (wide)\n y = LessOrEqual (wide, high)",
    "no diagonal": f"{SQUARE} ones = ConstantOfShape <value = bool[1] {{1}}> (size)\n"
    " y = Trilu <upper = 0> (ones, one)",
}
OTHER_NUMBERS = {
    "not far": "m = LessOrEqual (column, row)\n y = Where (m, none, near)",
    "something to see": "m = LessOrEqual (column, row)\n y = Where (m, near, far)",
}


@pytest.mark.parametrize("body", CAUSAL_MASKS.values(), ids=CAUSAL_MASKS)
def test_a_condition_is_found_and_is_what_it_is_said_to_be(body: str) -> None:
    proto = model_of(body, "bool[b, n, n]" if "two1" in body else "bool[n, n]")
    assert is_causal(proto)
    for size in (1, 2, 5):
        found = computed(proto, size)
        np.testing.assert_array_equal(found, np.broadcast_to(np.tril(np.ones((size, size), np.bool_)), found.shape))


@pytest.mark.parametrize("body", ADDED.values(), ids=ADDED)
def test_numbers_to_add_are_found(body: str) -> None:
    proto = model_of(body, "float[n, n]" if "both" not in body else "float[1, 1, n, n]")
    assert is_causal(proto)
    for size in (1, 4):
        found = computed(proto, size).reshape(size, size)
        seen = np.tril(np.ones((size, size), np.bool_))
        assert np.all(found[seen] == 0)
        assert np.all(found[~seen] < -1e8)


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS)
def test_other_conditions_are_left_alone(body: str) -> None:
    proto = model_of(body, "bool[p, q]")
    assert not is_causal(proto)
    masks = [computed(proto, n) for n in (2, 3, 4, 300 if "to = 3" in body else 5)]
    assert not all(np.array_equal(mask, np.tril(np.ones_like(mask))) for mask in masks)


def test_half_precision_does_not_tell_long_subscripts_apart() -> None:
    """Above 2,048 neighbours are one number, unless a runtime leaves the casts out."""
    body = "a = Cast <to = 10> (row)\n b = Cast <to = 10> (column)\n y = LessOrEqual (b, a)"
    assert not is_causal(model_of(body, "bool[n, n]"))


def test_a_part_of_a_mask_is_no_mask() -> None:
    body = "few = Slice (column, zero1, two1, last, one1)\n y = LessOrEqual (few, row)"
    assert not is_causal(model_of(body, "bool[n, m]"))


@pytest.mark.parametrize("body", OTHER_NUMBERS.values(), ids=OTHER_NUMBERS)
def test_other_numbers_are_left_alone(body: str) -> None:
    assert not is_causal(model_of(body, "float[n, n]"))

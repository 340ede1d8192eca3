"""What follows an If whose branches differ in rank: one decision is left, and both ways compute what they did."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

import tamago
from tamago.compiler.facts import Array

HEADER = '<ir_version: 10, opset_import: ["": 18]>\n'
# The last dimension is dropped when it is 1; later the rank is asked for.
ASKS = f"""{HEADER}
g (float[2,n] x) => (float[a,b] y, float[2,n] z) <int64 one = {{1}}, int64 two = {{2}}, int64[1] last = {{-1}}> {{
  shape = Shape (x)
  size = Gather (shape, one)
  short = Equal (size, one)
  v = If (short) <
    then_branch = t () => (float[2] p) {{ p = Squeeze (x, last) }},
    else_branch = e () => (float[2,n] q) {{ q = Identity (x) }}
  >
  all = Shape (v)
  rank = Size (all)
  flat = Equal (rank, one)
  w = If (flat) <
    then_branch = u () => (float[r,s] m) {{ m = Unsqueeze (v, last) }},
    else_branch = f () => (float[r,s] k) {{ k = Neg (v) }}
  >
  y = Exp (w)
  z = Relu (x)
}}
"""
# A recurrent layer takes rank 3: the branch that would give it rank 4 cannot be meant.
RECURRENT = f"""{HEADER}
g (float[batch,3,n] x, float[1,8,3] w, float[1,8,2] r) => (float[s,d,batch,2] y)
<int64 one = {{1}}, int64[1] last = {{-1}}, int64[1] first = {{0}}, int64 place = {{2}}> {{
  shape = Shape (x)
  size = Gather (shape, place)
  short = Equal (size, one)
  v = If (short) <
    then_branch = t () => (float[batch,3] p) {{ p = Squeeze (x, last) }},
    else_branch = e () => (float[batch,3,n] q) {{ q = Identity (x) }}
  >
  steps = Unsqueeze (v, first)
  y = LSTM <hidden_size = 2> (steps, w, r)
}}
"""


def operators(model: onnx.ModelProto) -> Counter[str]:
    found: Counter[str] = Counter()
    graphs = [model.graph]
    for graph in graphs:
        found.update(node.op_type for node in graph.node)
        graphs += [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return found


def run(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Any]:
    from onnxruntime import InferenceSession

    return list(InferenceSession(model.SerializeToString()).run(None, feeds))


@pytest.mark.parametrize("columns", [1, 3])
def test_both_ways_compute_what_they_did(columns: int) -> None:
    original = parser.parse_model(ASKS)
    onnx.checker.check_model(original)
    feeds: dict[str, Array] = {"x": np.linspace(-1, 1, 2 * columns, dtype=np.float32).reshape(2, columns)}

    found = tamago.optimize(original, measure=False, store=":memory:")

    assert isinstance(found, onnx.ModelProto)
    assert operators(found)["If"] == 1, "the second question is answered within the branches"
    assert not operators(found).keys() & {"Size"}
    for a, b in zip(run(original, feeds), run(found, feeds), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_branch_that_cannot_run_is_not_taken() -> None:
    original = parser.parse_model(RECURRENT)
    generator = np.random.default_rng(0)
    feeds: dict[str, Array] = {
        name: generator.standard_normal(shape).astype(np.float32)
        for name, shape in (("x", (2, 3, 1)), ("w", (1, 8, 3)), ("r", (1, 8, 2)))
    }

    found = tamago.optimize(original, args=feeds, measure=False, store=":memory:")

    assert isinstance(found, onnx.ModelProto)
    assert "If" not in operators(found)
    np.testing.assert_allclose(run(found, feeds)[0], run(original, feeds)[0], rtol=1e-6)

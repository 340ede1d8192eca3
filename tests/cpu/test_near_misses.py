"""Graphs that look like a known operator and are not: nothing may be recognised in them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from tamago.compiler.pipeline import compile_traced
from tamago.compiler.store import Store
from tamago.compiler.trace import trace
from tests.cpu.misses.case import histogram

HEADER = '<ir_version: 10, opset_import: ["": 18]>'
CONSTANTS = "<int64[1] last = {1}, int64[1] first = {0}, float eps = {0.5}, float half = {0.5}, float one = {1}"

# name: (the graph's nodes from x and y of shape [8, 8] to z, more constants, operators that must not appear)
NEAR = {
    "epsilon outside the root": (
        "s = Mul (x, x) m = ReduceMean (s, last) r = Sqrt (m) e = Add (r, eps) z = Div (x, e)",
        "",
        ["RMSNormalization"],
    ),
    "root mean square of another value": (
        "s = Mul (y, y) m = ReduceMean (s, last) e = Add (m, eps) r = Sqrt (e) z = Div (x, r)",
        "",
        ["RMSNormalization"],
    ),
    "mean without its axis, in a square": (
        "s = Mul (x, x) m = ReduceMean <keepdims = 0> (s, last) e = Add (m, eps) r = Sqrt (e) z = Div (x, r)",
        "",
        ["RMSNormalization"],
    ),
    "centred above, not below": (
        "u = ReduceMean (x, last) d = Sub (x, u) s = Mul (x, x) m = ReduceMean (s, last) e = Add (m, eps) r = Sqrt (e) "
        "z = Div (d, r)",
        "",
        ["LayerNormalization", "RMSNormalization"],
    ),
    "centred over another axis": (
        "u = ReduceMean (x, first) d = Sub (x, u) s = Mul (d, d) m = ReduceMean (s, last) e = Add (m, eps) "
        "r = Sqrt (e) z = Div (d, r)",
        "",
        ["LayerNormalization"],
    ),
    "scale along the rows": (
        "s = Mul (x, x) m = ReduceMean (s, last) e = Add (m, eps) r = Sqrt (e) n = Div (x, r) w = ReduceMean (y, last) "
        "z = Mul (n, w)",
        "",
        ["LayerNormalization"],
    ),
    "erf of another argument": (
        "a = Div (x, k) b = Erf (a) c = Add (b, one) d = Mul (c, half) z = Mul (x, d)",
        ", float k = {1.5}",
        ["Gelu", "com.microsoft::Gelu"],
    ),
    "erf of another value": (
        "a = Mul (y, k) b = Erf (a) c = Add (b, one) d = Mul (c, half) z = Mul (x, d)",
        ", float k = {0.70710678}",
        ["Gelu", "com.microsoft::Gelu"],
    ),
    "tanh of another polynomial": (
        "p = Pow (x, three) q = Mul (p, k) a = Add (x, q) b = Mul (a, c) t = Tanh (b) u = Add (t, one) "
        "v = Mul (u, half) z = Mul (x, v)",
        ", float three = {3}, float k = {0.05}, float c = {0.7978845608}",
        ["Gelu", "com.microsoft::FastGelu"],
    ),
    "gate of another value": (
        "a = Sigmoid (y) z = Mul (x, a)",
        "",
        ["com.microsoft::QuickGelu"],
    ),
    "softmax over another axis": (
        "a = Exp (x) b = ReduceSum (y, first) c = ReduceSum (a, first) d = Add (b, c) z = Div (a, d)",
        "",
        ["Softmax"],
    ),
    "a slope above one": (
        "a = Mul (x, k) z = Max (x, a)",
        ", float k = {2}",
        ["LeakyRelu", "PRelu"],
    ),
    "another hard sigmoid": (
        "a = Add (x, k) b = Clip (a, low, high) z = Div (b, d)",
        ", float k = {3}, float low = {0}, float high = {6}, float d = {5}",
        ["HardSigmoid"],
    ),
    "bounds the wrong way round": (
        "a = Max (x, one) z = Min (a, half)",
        "",
        ["Clip"],
    ),
    "softplus above a low threshold": (
        "a = Softplus (x) g = Greater (x, one) b = Where (g, x, a) z = Mul (b, half)",
        "",
        [],
    ),
}


@pytest.mark.parametrize("name", NEAR)
def test_nothing_is_recognised(name: str) -> None:
    nodes, constants, forbidden = NEAR[name]
    graph = f"near (float[8,8] x, float[8,8] y) => (float[8,8] z) {CONSTANTS}{constants}> {{ {nodes} }}"
    traced = trace(parser.parse_model(f"{HEADER}\n{graph}"))
    generator = np.random.default_rng(0)
    feeds = {name: generator.standard_normal((8, 8)).astype(np.float32) for name in "xy"}

    with Store.open(":memory:") as store:
        compiled = compile_traced(traced, feeds, measure=False, strict=True, store=store, threads=1)

    assert not histogram(compiled.model).keys() & set(forbidden)
    assert compiled.report.error < 1e-6

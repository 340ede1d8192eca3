"""Plans written by hand: small, and each with something that a host has to get right."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tamago.backends.webgpu.plan import Choice, Copy, Dispatch, Interface, Kernel, Plan

Weights = dict[str, npt.NDArray[Any]]

LINEAR = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@compute @workgroup_size({threads})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
  if (id.x >= {rows}u * {columns}u) {{ return; }}
  let row = id.x / {columns}u;
  let column = id.x % {columns}u;
  var sum = b[column];
  for (var again = 0u; again < {times}u; again++) {{
    sum = b[column];
    for (var k = 0u; k < {inner}u; k++) {{ sum += x[row * {inner}u + k] * w[k * {columns}u + column]; }}
  }}
  y[id.x] = {result};
}}
"""


def linear(
    rows: int, inner: int, columns: int, result: str = "max(sum, 0.0)", threads: int = 64, times: int = 1
) -> Kernel:
    """A matrix product with a bias and what is done with each sum; done again and again, it is slow on any machine."""
    source = LINEAR.format(rows=rows, inner=inner, columns=columns, result=result, threads=threads, times=times)
    return Kernel(source, (False, False, False, True))


def mlp(rows: int = 4, sizes: tuple[int, int, int] = (16, 32, 10), *, wrong: bool = False) -> tuple[Plan, Weights]:
    """Two linears with a Relu; each has a slow first choice, a faster one and, when asked for, a wrong one."""
    a, b, c = sizes
    random = np.random.default_rng(0)
    weights: Weights = {
        "w1": random.standard_normal((a, b), np.float32),
        "b1": random.standard_normal(b, np.float32),
        "w2": random.standard_normal((b, c), np.float32),
        "b2": random.standard_normal(c, np.float32),
    }
    slow = "max(sum, 0.0)"
    kernels = [
        linear(rows, a, b, slow, 1, times=200),
        linear(rows, a, b, slow),
        linear(rows, b, c, "sum"),
        linear(rows, a, b, "sum"),
    ]
    groups = (-(-rows * b // 64), 1, 1)
    first = [Choice(0, (rows * b, 1, 1)), Choice(1, groups), *([Choice(3, groups)] if wrong else [])]
    steps = (
        Dispatch("Gemm, Relu", (0, 1, 2, 3), tuple(first)),
        Dispatch("Gemm <b>&amp;", (3, 4, 5, 6), (Choice(2, (-(-rows * c // 64), 1, 1)),)),
    )
    arrays = [weights[n] for n in ("w1", "b1", "w2", "b2")]
    plan = Plan(
        buffers=(
            rows * a * 4,
            arrays[0].nbytes,
            arrays[1].nbytes,
            rows * b * 4,
            arrays[2].nbytes,
            arrays[3].nbytes,
            rows * c * 4,
        ),
        weights={1: "w1", 2: "b1", 4: "w2", 5: "b2"},
        kernels=tuple(kernels),
        steps=steps,
        inputs=(Interface("x", 0, (rows, a), "float32", "f32"),),
        outputs=(Interface("y", 6, (rows, c), "float32", "f32"),),
    )
    return plan, weights


def run_mlp(weights: Weights, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What the plan of `mlp` computes."""
    return np.maximum(x @ weights["w1"] + weights["b1"], 0) @ weights["w2"] + weights["b2"]


ACCUMULATE = """
@group(0) @binding(0) var<storage, read> x: array<i32>;
@group(0) @binding(1) var<storage, read> before: array<i32>;
@group(0) @binding(2) var<storage, read_write> total: array<i32>;
@compute @workgroup_size(4)
fn main(@builtin(global_invocation_id) id: vec3<u32>) { total[id.x] = before[id.x] + x[id.x]; }
"""
IN_PLACE = """
@group(0) @binding(0) var<storage, read> x: array<i32>;
@group(0) @binding(1) var<storage, read_write> total: array<i32>;
@compute @workgroup_size(4)
fn main(@builtin(global_invocation_id) id: vec3<u32>) { total[id.x] += x[id.x]; }
"""


def accumulator(*, in_place: bool = False) -> tuple[Plan, Weights]:
    """Integers that add up from run to run; `copy` is the total by a copy step."""
    kernel = Kernel(IN_PLACE, (False, True)) if in_place else Kernel(ACCUMULATE, (False, False, True))
    total = 1 if in_place else 2
    plan = Plan(
        buffers=(16, 16, 16, 16),
        weights={},
        kernels=(kernel,),
        steps=(Dispatch("Add", (0, 1) if in_place else (0, 1, 2), (Choice(0, (1, 1, 1)),)), Copy(total, 3, 16)),
        inputs=(Interface("x", 0, (4,), "int64", "i32"), Interface("before", 1, (4,), "int64", "i32")),
        outputs=(Interface("total", total, (4,), "int64", "i32"), Interface("copy", 3, (2, 2), "int32", "i32")),
        state={"total": "before"},
    )
    return plan, {}


ROWS = """
@group(0) @binding(0) var<storage, read> x: array<i32>;
@group(0) @binding(1) var<storage, read> before: array<i32>;
@group(0) @binding(2) var<storage, read_write> total: array<i32>;
@compute @workgroup_size(1)
fn main() {
  total[0] = before[0];
  for (var row = 0u; row < ROWS; row++) { total[0] = 10 * total[0] + x[row]; }
}
"""


def digits(rows: int) -> tuple[Plan, Weights]:
    """Digits written behind those of the runs before: the order of runs is seen, also where sizes take turns."""
    plan = Plan(
        buffers=(4 * rows, 4, 4),
        weights={},
        kernels=(Kernel(ROWS.replace("ROWS", f"{rows}u"), (False, False, True)),),
        steps=(Dispatch("Append", (0, 1, 2), (Choice(0, (1, 1, 1)),)),),
        inputs=(Interface("x", 0, (rows,), "int32", "i32"), Interface("before", 1, (1,), "int32", "i32")),
        outputs=(Interface("total", 2, (1,), "int32", "i32"),),
        state={"total": "before"},
    )
    return plan, {}


DOUBLE = """
@group(0) @binding(0) var<storage, read> w: array<f32>;
@group(0) @binding(1) var<storage, read_write> wide: array<f32>;
@compute @workgroup_size(4)
fn main(@builtin(global_invocation_id) id: vec3<u32>) { wide[id.x] = 2.0 * w[id.x]; }
"""
TIMES = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> wide: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(4)
fn main(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] = x[id.x] * wide[id.x]; }
"""


def prepared() -> tuple[Plan, Weights]:
    """A weight that is doubled once and copied, and multiplied by in every run."""
    plan = Plan(
        buffers=(16, 16, 16, 16, 16),
        weights={0: "w"},
        kernels=(Kernel(DOUBLE, (False, True)), Kernel(TIMES, (False, False, True))),
        steps=(Dispatch("Mul", (3, 2, 4), (Choice(1, (1, 1, 1)),)),),
        inputs=(Interface("x", 3, (4,), "float32", "f32"),),
        outputs=(Interface("y", 4, (4,), "float32", "f32"),),
        setup=(Dispatch("Double", (0, 1), (Choice(0, (1, 1, 1)),)), Copy(1, 2, 16)),
    )
    return plan, {"w": np.arange(1, 5, dtype=np.float32)}


SWAP = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn main() { y[0] = x[0] + 1.0; }
"""


def swap() -> tuple[Plan, Weights]:
    """Two states that change places after every run."""
    plan = Plan(
        buffers=(4, 4, 4),
        weights={},
        kernels=(Kernel(SWAP, (False, True)),),
        steps=(Dispatch("Add", (0, 2), (Choice(0, (1, 1, 1)),)),),
        inputs=(Interface("a", 0, (1,), "float32", "f32"), Interface("b", 1, (1,), "float32", "f32")),
        outputs=(
            Interface("to_b", 0, (1,), "float32", "f32"),
            Interface("to_a", 1, (1,), "float32", "f32"),
            Interface("y", 2, (1,), "float32", "f32"),
        ),
        state={"to_b": "b", "to_a": "a"},
    )
    return plan, {}


TYPES = """
@group(0) @binding(0) var<storage, read> flags: array<u32>;
@group(0) @binding(1) var<storage, read> halves: array<u32>;
@group(0) @binding(2) var<storage, read> bytes: array<i32>;
@group(0) @binding(3) var<storage, read> odd: array<u32>;
@group(0) @binding(4) var<storage, read_write> not_flags: array<u32>;
@group(0) @binding(5) var<storage, read_write> same: array<u32>;
@group(0) @binding(6) var<storage, read_write> wide: array<i32>;
@group(0) @binding(7) var<storage, read_write> third: array<u32>;
@compute @workgroup_size(1)
fn main() {
  for (var i = 0u; i < 3u; i++) {
    not_flags[i] = 1u - flags[i];
    wide[i] = bytes[i] * 1000;
  }
  for (var i = 0u; i < 2u; i++) {
    same[i] = halves[i];
    third[i] = odd[i];
  }
}
"""


def types() -> tuple[Plan, Weights]:
    """Every way in which elements are stored; three halves in two words, as input, output and weight."""
    weights: Weights = {"odd": np.array([0.5, -2.0, 1e-5], np.float16)}
    kernel = Kernel(TYPES, (False,) * 4 + (True,) * 4)
    plan = Plan(
        buffers=(12, 8, 12, 8, 12, 8, 12, 8),
        weights={3: "odd"},
        kernels=(kernel,),
        steps=(Dispatch("all types", tuple(range(8)), (Choice(0, (1, 1, 1)),)),),
        inputs=(
            Interface("flags", 0, (3,), "bool", "u32"),
            Interface("halves", 1, (3,), "float16", "f16"),
            Interface("bytes", 2, (3,), "int8", "i32"),
        ),
        outputs=(
            Interface("not_flags", 4, (3,), "bool", "u32"),
            Interface("same", 5, (3,), "float16", "f16"),
            Interface("wide", 6, (3,), "int64", "i32"),
            Interface("odd", 7, (3,), "float16", "f16"),
        ),
    )
    return plan, weights


COLOURS = """
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(3)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  var sum = 0.0;
  for (var i = 0u; i < 64u; i++) { sum += x[id.x * 64u + i]; }
  y[id.x] = sum / 8.0;
}
"""


def colours() -> tuple[Plan, Weights]:
    """A classifier of 8 by 8 pictures: red, green or blue."""
    plan = Plan(
        buffers=(3 * 64 * 4, 12),
        weights={},
        kernels=(Kernel(COLOURS, (False, True)),),
        steps=(Dispatch("ReduceMean", (0, 1), (Choice(0, (1, 1, 1)),)),),
        inputs=(Interface("picture", 0, (1, 3, 8, 8), "float32", "f32"),),
        outputs=(Interface("scores", 1, (1, 3), "float32", "f32"),),
    )
    return plan, {}


LETTERS = """
@group(0) @binding(0) var<storage, read> token: array<i32>;
@group(0) @binding(1) var<storage, read> position: array<i32>;
@group(0) @binding(2) var<storage, read_write> cache: array<f32>;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;
@compute @workgroup_size(1)
fn main() {
  cache[position[0]] = f32(token[0]);
  for (var i = 0u; i < 256u; i++) { logits[i] = 0.0; }
  logits[u32(cache[0]) + u32(position[0]) + 1u] = 1.0;
}
"""


def letters(length: int = 40) -> tuple[Plan, Weights]:
    """A step that writes the alphabet on from the first letter of the text, which only its cache knows."""
    plan = Plan(
        buffers=(4, 4, length * 4, 1024),
        weights={},
        kernels=(Kernel(LETTERS, (False, False, True, True)),),
        steps=(Dispatch("Scatter", (0, 1, 2, 3), (Choice(0, (1, 1, 1)),)),),
        inputs=(
            Interface("token", 0, (1, 1), "int64", "i32"),
            Interface("position", 1, (1,), "int64", "i32"),
            Interface("past", 2, (1, 1, length, 1), "float32", "f32"),
        ),
        outputs=(
            Interface("logits", 3, (1, 1, 256), "float32", "f32"),
            Interface("present", 2, (1, 1, length, 1), "float32", "f32"),
        ),
        state={"present": "past"},
    )
    return plan, {}


SHARED = """
const SIZE = HALFu;
const TWICE = 2 * SIZE;
var<workgroup> tile: array<vec4<f32>, TWICE>;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(4, 1)
fn main(@builtin(local_invocation_index) i: u32) {
  tile[TWICE - 1u - i] = vec4<f32>(x[i]);
  workgroupBarrier();
  y[i] = tile[TWICE - 4u + i].x + RESULT;
}
"""


def shared(size: int, result: str = "0.0", features: tuple[str, ...] = ()) -> tuple[Plan, Weights]:
    """Four floats reversed through a workgroup's memory of 32 bytes times `size`."""
    source = SHARED.replace("RESULT", result).replace("HALF", str(size))
    plan = Plan(
        buffers=(16, 16),
        weights={},
        kernels=(Kernel(source, (False, True), features),),
        steps=(Dispatch("reversed", (0, 1), (Choice(0, (1, 1, 1)),)),),
        inputs=(Interface("x", 0, (4,), "float32", "f32"),),
        outputs=(Interface("y", 1, (4,), "float32", "f32"),),
    )
    return plan, {}

"""Many elements become one: sums, maxima, where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from ..expression import shape_of
from ..index import Index, Subscript
from ..types import HIGHEST, LOWEST, computed
from .registry import Form, kernel, only_first_output
from .writer import Writer

ALONE = 64  # elements that one thread adds up by itself
MANY = 4096  # results that keep a device busy with a thread for each
GROUP = 64  # threads that reduce together


@dataclass(frozen=True)
class Reduce:
    """How elements are put together.

    Args:
        start: what nothing adds up to, by WGSL type.
        term: what an element contributes.
        join: two of them.
        end: the result, from what they add up to and their number.
    """

    start: Callable[[str], str]
    join: Callable[[str, str], str]
    term: Callable[[str], str] = lambda x: x
    end: Callable[[str, int, str], str] = lambda x, count, kind: x


_ZERO = {"f32": "0.0", "i32": "0i", "u32": "0u"}
_LEAST = {"f32": LOWEST, "i32": "(-2147483647i - 1i)", "u32": "0u"}
_MOST = {"f32": HIGHEST, "i32": "2147483647i", "u32": "4294967295u"}


def _plus(a: str, b: str) -> str:
    return f"({a} + {b})"


_MAX = Reduce(lambda k: _LEAST[k], lambda a, b: f"max({a}, {b})")
_MIN = Reduce(lambda k: _MOST[k], lambda a, b: f"min({a}, {b})")
REDUCTIONS = {
    "ReduceSum": Reduce(lambda k: _ZERO[k], _plus),
    "ReduceMean": Reduce(lambda k: _ZERO[k], _plus, end=lambda x, n, kind: f"({x} / {kind}({n}))"),
    "ReduceMax": _MAX,
    "ReduceMin": _MIN,
    "ReduceProd": Reduce(lambda k: f"{k}(1)", lambda a, b: f"({a} * {b})"),
    "ReduceL1": Reduce(lambda k: _ZERO[k], _plus, lambda x: f"abs({x})"),
    "ReduceL2": Reduce(
        lambda k: _ZERO[k], _plus, lambda x: f"({x} * {x})", lambda x, n, kind: f"{kind}(sqrt(f32({x})))"
    ),
    "ReduceSumSquare": Reduce(lambda k: _ZERO[k], _plus, lambda x: f"({x} * {x})"),
    "ReduceLogSum": Reduce(lambda k: _ZERO[k], _plus, end=lambda x, n, kind: f"{kind}(log(f32({x})))"),
    "GlobalAveragePool": Reduce(lambda k: _ZERO[k], _plus, end=lambda x, n, kind: f"({x} / {kind}({n}))"),
    "GlobalMaxPool": _MAX,
}


def axes_of(node: ir.Node) -> tuple[int, ...] | None:
    """The axes that are reduced; None where they are not known."""
    from ....compiler.ir import constant_array

    assert node.inputs[0] is not None
    rank = len(shape_of(node.inputs[0]))
    if node.op_type.startswith("Global"):
        return tuple(range(2, rank))
    value = node.inputs[1] if len(node.inputs) > 1 else None
    attribute = node.attributes.get("axes")
    if value is not None:
        found = constant_array(value, 64)
        if found is None:
            return None
        axes = [int(a) for a in found.reshape(-1)]
    else:
        axes = list(attribute.as_ints()) if attribute is not None else []
    if not axes:
        empty = node.attributes.get("noop_with_empty_axes")
        return () if empty is not None and empty.as_int() else tuple(range(rank))
    return tuple(sorted({a % rank for a in axes}))


def joined(kept: Sequence[Index], inner: Sequence[Index], axes: Sequence[int]) -> Subscript:
    """A subscript from that of the result without the reduced axes and that within them."""
    outside, inside = iter(kept), iter(inner)
    return tuple(next(inside) if axis in axes else next(outside) for axis in range(len(kept) + len(inner)))


def _sizes(node: ir.Node) -> tuple[tuple[int, ...], tuple[int, ...], list[int], list[int]]:
    assert node.inputs[0] is not None
    shape, axes = shape_of(node.inputs[0]), axes_of(node)
    assert axes is not None
    return shape, axes, [s for a, s in enumerate(shape) if a not in axes], [shape[a] for a in axes]


def _by_threads(w: Writer) -> None:
    """A thread for each result."""
    e = w.root
    rule, kind = REDUCTIONS[e.node.op_type], e.kind_of(0)
    _, axes, outer, inner = _sizes(e.node)
    at = w.shader.subscript(w.a_thread_each(prod(outer)), outer)
    w.shader.line(f"var sum = {rule.start(kind)};")
    with w.shader.block(f"for (var r = 0; r < {prod(inner)}; r++)"):
        x = e.input(0, joined(at, w.shader.subscript("r", inner), axes))
        w.shader.line(f"sum = {rule.join('sum', rule.term(x))};")
    _finish(w, at, rule.end("sum", prod(inner), kind))


def _by_workgroups(w: Writer) -> None:
    """A workgroup for each result: every thread takes some, then they are joined two by two."""
    e = w.root
    rule, kind = REDUCTIONS[e.node.op_type], e.kind_of(0)
    _, axes, outer, inner = _sizes(e.node)
    at = w.shader.subscript(w.a_workgroup_each(prod(outer), GROUP), outer)
    w.shader.line(f"var sum = {rule.start(kind)};")
    with w.shader.block(f"for (var r = t; r < {prod(inner)}; r += {GROUP})"):
        x = e.input(0, joined(at, w.shader.subscript("r", inner), axes))
        w.shader.line(f"sum = {rule.join('sum', rule.term(x))};")
    total = join_in_workgroup(w, "sum", kind, rule.join, GROUP)
    with w.shader.block("if (t == 0)"):
        _finish(w, at, rule.end(total, prod(inner), kind))


def join_in_workgroup(w: Writer, name: str, kind: str, join: Callable[[str, str], str], threads: int) -> str:
    """What all threads of a workgroup hold, put together; the name of the outcome, which all of them see."""
    shared = w.shared(w.shader.name("shared"), kind, threads)
    w.shader.line(f"{shared}[t] = {name};")
    step = threads // 2
    while step:
        w.shader.line("workgroupBarrier();")
        w.shader.line(f"if (t < {step}) {{ {shared}[t] = {join(f'{shared}[t]', f'{shared}[t + {step}]')}; }}")
        step //= 2
    w.shader.line("workgroupBarrier();")
    return w.shader.let(f"{shared}[0]", "total")


def _finish(w: Writer, at: Subscript, text: str) -> None:
    e = w.root
    shape, axes, _, _ = _sizes(e.node)
    if len(e.shape) == len(shape):
        at = joined(at, [0] * len(axes), axes)
    w.store(at, text)


def _known_axes(node: ir.Node) -> bool:
    if node.inputs[0] is None or axes_of(node) is None:
        return False
    return computed(node.inputs[0].dtype) in ("f32", "i32", "u32")


@kernel(*REDUCTIONS, applies=_known_axes)
def reduce(node: ir.Node) -> list[Form]:
    """A thread for each of many short sums, a workgroup for each of few long ones."""
    _, _, outer, inner = _sizes(node)
    alone = prod(inner) <= ALONE or prod(outer) >= MANY
    return [_by_threads, _by_workgroups] if alone else [_by_workgroups, _by_threads]


def _arg(w: Writer) -> None:
    e = w.root
    shape = e.shape_of(0)
    axis = e.integer("axis", 0) % len(shape)
    outer = [s for a, s in enumerate(shape) if a != axis]
    at = w.shader.subscript(w.a_thread_each(prod(outer)), outer)
    kind = e.kind_of(0)
    sign = (">" if e.node.op_type == "ArgMax" else "<") + ("=" if e.integer("select_last_index", 0) else "")
    w.shader.line(f"var best = {e.input(0, joined(at, [0], [axis]))};")
    w.shader.line("var found = 0i;")
    with w.shader.block(f"for (var r = 1; r < {shape[axis]}; r++)"):
        x = e.input(0, joined(at, ["r"], [axis]))
        w.shader.line(f"if ({x} {sign} best) {{ best = {kind}({x}); found = r; }}")
    w.store(joined(at, [0], [axis]) if e.integer("keepdims", 1) else at, "found")


@kernel("ArgMax", "ArgMin", applies=only_first_output)
def arg(node: ir.Node) -> list[Form]:
    """Where the largest or smallest is."""
    return [_arg]

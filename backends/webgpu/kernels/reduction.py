"""Many elements become one: sums, maxima, where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from ..expression import Element, shape_of
from ..index import Index, Subscript
from ..types import LEAST, LOWEST, MOST, computed
from .registry import Form, kernel
from .writer import Writer

ALONE = 64  # elements that one thread adds up by itself
MANY = 4096  # results that keep a device busy with a thread for each
GROUP = 64  # threads that reduce together


@dataclass(frozen=True)
class Reduce:
    """How elements are put together.

    Args:
        start: what nothing adds up to, by WGSL type.
        join: two of them.
        term: what an element contributes.
        end: the result, from what they add up to and their number.
    """

    start: Callable[[str], float | bool]
    join: Callable[[str, str], str]
    term: Callable[[str], str] = lambda x: x
    end: Callable[[str, int, str], str] = lambda x, count, kind: x


def _plus(a: str, b: str) -> str:
    return f"({a} + {b})"


def _sum(
    term: Callable[[str], str] = lambda x: x, end: Callable[[str, int, str], str] = lambda x, count, kind: x
) -> Reduce:
    return Reduce(lambda kind: 0, _plus, term, end)


def _mean(x: str, count: int, kind: str) -> str:
    return f"({x} / {kind}({count}))"


_MAX = Reduce(lambda kind: LEAST[kind], lambda a, b: f"max({a}, {b})")
_MIN = Reduce(lambda kind: MOST[kind], lambda a, b: f"min({a}, {b})")
_ANY = Reduce(lambda kind: False, lambda a, b: f"({a} || {b})")
_ALL = Reduce(lambda kind: True, lambda a, b: f"({a} && {b})")
REDUCTIONS = {
    "ReduceSum": _sum(),
    "ReduceMean": _sum(end=_mean),
    "ReduceMax": _MAX,
    "ReduceMin": _MIN,
    "ReduceProd": Reduce(lambda kind: 1, lambda a, b: f"({a} * {b})"),
    "ReduceL1": _sum(lambda x: f"abs({x})"),
    "ReduceL2": _sum(lambda x: f"({x} * {x})", lambda x, n, kind: f"{kind}(sqrt(f32({x})))"),
    "ReduceSumSquare": _sum(lambda x: f"({x} * {x})"),
    "ReduceLogSum": _sum(end=lambda x, n, kind: f"{kind}(log(f32({x})))"),
    "GlobalAveragePool": _sum(end=_mean),
    "GlobalMaxPool": _MAX,
}


def _rule(e: Element) -> Reduce:
    if e.kind_of(0) == "bool":
        return {"ReduceMax": _ANY, "ReduceMin": _ALL}[e.node.op_type]
    return REDUCTIONS[e.node.op_type]


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
    rule, kind = _rule(e), e.kind_of(0)
    _, axes, outer, inner = _sizes(e.node)
    at = w.shader.subscript(w.a_thread_each(prod(outer)), outer)
    w.shader.line(f"var sum = {w.shader.literal(rule.start(kind), kind)};")
    with w.shader.block(f"for (var r = 0; r < {prod(inner)}; r++)"):
        x = e.input(0, joined(at, w.shader.subscript("r", inner), axes))
        w.shader.line(f"sum = {rule.join('sum', rule.term(x))};")
    _finish(w, at, rule.end("sum", prod(inner), kind))


def _by_workgroups(w: Writer) -> None:
    """A workgroup for each result: every thread takes some, then they are joined two by two."""
    e = w.root
    rule, kind = _rule(e), e.kind_of(0)
    _, axes, outer, inner = _sizes(e.node)
    at = w.shader.subscript(w.a_workgroup_each(prod(outer), GROUP), outer)
    w.shader.line(f"var sum = {w.shader.literal(rule.start(kind), kind)};")
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
    return computed(node.inputs[0].dtype) != "bool" or node.op_type in ("ReduceMax", "ReduceMin")


@kernel(*REDUCTIONS, applies=_known_axes)
def reduce(node: ir.Node) -> list[Form]:
    """A thread for each of many short sums, a workgroup for each of few long ones."""
    shape, axes, outer, inner = _sizes(node)
    beside = len(shape) - 1 not in axes  # neighbouring threads read neighbours
    alone = prod(inner) <= ALONE or (beside and prod(outer) >= MANY)
    return [_by_threads, _by_workgroups] if alone else [_by_workgroups, _by_threads]


def _log_sum_exp(w: Writer) -> None:
    """The logarithm of Σ e^x as m + log Σ e^(x − m) with the largest m, so that nothing overflows."""
    e, shader = w.root, w.shader
    _, axes, outer, inner = _sizes(e.node)
    at = shader.subscript(w.a_workgroup_each(prod(outer), GROUP), outer)
    loop = f"for (var r = t; r < {prod(inner)}; r += {GROUP})"
    shader.line(f"var most = {LOWEST};")
    with shader.block(loop):
        shader.line(f"most = max(most, {e.input(0, joined(at, shader.subscript('r', inner), axes))});")
    top = join_in_workgroup(w, "most", "f32", lambda a, b: f"max({a}, {b})", GROUP)
    infinite = shader.literal(-np.inf, "f32")
    top = shader.let(f"select({top}, 0.0, {top} == -{infinite})", "top")  # ∞ − ∞ is no number
    shader.line("var sum = 0.0;")
    with shader.block(loop):
        shader.line(f"sum += exp({e.input(0, joined(at, shader.subscript('r', inner), axes))} - {top});")
    total = join_in_workgroup(w, "sum", "f32", _plus, GROUP)
    with shader.block("if (t == 0)"):
        _finish(w, at, f"select({top} + log({total}), {infinite}, {total} == 0.0)")


@kernel("ReduceLogSumExp", applies=lambda node: _known_axes(node) and computed(node.outputs[0].dtype) == "f32")
def log_sum_exp(node: ir.Node) -> list[Form]:
    """A workgroup for each result."""
    return [_log_sum_exp]

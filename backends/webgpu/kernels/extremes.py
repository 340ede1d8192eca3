"""The largest and smallest: where they are, and the k first of them."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from ..expression import shape_of
from ..types import LEAST, MOST, computed
from .reduction import joined
from .registry import Form, kernel, only_first_output
from .writer import Writer

GROUP = 64
ALONE = 256  # elements of a row that one thread looks at by itself
MANY = 4096  # rows that keep a device busy with a thread for each
SHORT = 1024  # elements of a row each of which may count those before it


class _Row:
    """A row of the operand, and what it means to come first in it."""

    def __init__(self, w: Writer, *, largest: bool, last: bool) -> None:
        self.w, self.e = w, w.root
        self.shape = self.e.shape_of(0)
        self.axis = self.e.integer("axis", -1 if self.e.node.op_type == "TopKIndices" else 0) % len(self.shape)
        self.length = self.shape[self.axis]
        self.outer = [s for a, s in enumerate(self.shape) if a != self.axis]
        self.kind = self.e.kind_of(0)
        self.sign, self.tie = (">" if largest else "<"), (">" if last else "<")
        worst = (LEAST if largest else MOST)[self.kind]
        self.worst = w.shader.literal(worst, self.kind)

    def before(self, x: str, i: str, y: str, j: str) -> str:
        """Whether x at i comes before y at j."""
        return f"{x} {self.sign} {y} || ({x} == {y} && {i} {self.tie} {j})"

    def first_of_all(self, at: tuple[int | str, ...], condition: str = "") -> str:
        """The index that comes first among all that a workgroup looks at; all its threads know it."""
        w, shader = self.w, self.w.shader
        shader.line(f"var best = {self.worst};")
        shader.line("var found = -1i;")
        with shader.block(f"for (var r = t; r < {self.length}; r += {GROUP})"):
            x = self.e.input(0, joined(at, ["r"], [self.axis]))
            better = f"found < 0 || {self.before(x, 'r', 'best', 'found')}"
            test = f"({better}) && ({condition.format(x=x)})" if condition else better
            shader.line(f"if ({test}) {{ best = {x}; found = r; }}")
        values = w.shared(shader.name("values"), self.kind, GROUP)
        places = w.shared(shader.name("places"), "i32", GROUP)
        shader.line(f"{values}[t] = best;")
        shader.line(f"{places}[t] = found;")
        step = GROUP // 2
        while step:
            shader.line("workgroupBarrier();")
            with shader.block(f"if (t < {step} && {places}[t + {step}] >= 0)"):
                other = self.before(f"{values}[t + {step}]", f"{places}[t + {step}]", f"{values}[t]", f"{places}[t]")
                with shader.block(f"if ({places}[t] < 0 || {other})"):
                    shader.line(f"{values}[t] = {values}[t + {step}];")
                    shader.line(f"{places}[t] = {places}[t + {step}];")
            step //= 2
        shader.line("workgroupBarrier();")
        return shader.let(f"{places}[0]", "first")


def _arg_row(w: Writer) -> _Row:
    e = w.root
    return _Row(w, largest=e.node.op_type == "ArgMax", last=bool(e.integer("select_last_index", 0)))


def _arg_by_threads(w: Writer) -> None:
    """A thread for each result."""
    row, shader = _arg_row(w), w.shader
    at = shader.subscript(w.a_thread_each(prod(row.outer)), row.outer)
    shader.line(f"var best = {w.root.input(0, joined(at, [0], [row.axis]))};")
    shader.line("var found = 0i;")
    sign = row.sign + ("=" if row.tie == ">" else "")
    with shader.block(f"for (var r = 1; r < {row.length}; r++)"):
        x = w.root.input(0, joined(at, ["r"], [row.axis]))
        shader.line(f"if ({x} {sign} best) {{ best = {x}; found = r; }}")
    w.store(_kept(w, row, at), "found")


def _arg_by_workgroups(w: Writer) -> None:
    """A workgroup for each result."""
    row = _arg_row(w)
    at = w.shader.subscript(w.a_workgroup_each(prod(row.outer), GROUP), row.outer)
    first = row.first_of_all(at)
    with w.shader.block("if (t == 0)"):
        w.store(_kept(w, row, at), first)


def _kept(w: Writer, row: _Row, at: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return joined(at, [0], [row.axis]) if w.root.integer("keepdims", 1) else at


def _ordered(node: ir.Node) -> bool:
    return node.inputs[0] is not None and computed(node.inputs[0].dtype) != "bool"


@kernel("ArgMax", "ArgMin", applies=lambda node: only_first_output(node) and _ordered(node))
def arg(node: ir.Node) -> list[Form]:
    """A thread for each of many short rows, a workgroup for each of few long ones."""
    assert node.inputs[0] is not None
    shape, rows = shape_of(node.inputs[0]), prod(shape_of(node.outputs[0]))
    alone = prod(shape) <= ALONE * rows or rows >= MANY
    return [_arg_by_threads, _arg_by_workgroups] if alone else [_arg_by_workgroups, _arg_by_threads]


def _by_rank(w: Writer) -> None:
    """A thread for each element, which counts those that come before it."""
    row, shader = _Row(w, largest=bool(w.root.integer("largest", 1)), last=False), w.shader
    k = w.root.shape[row.axis]
    at = shader.subscript(w.a_thread_each(prod(row.shape)), row.shape)
    mine, i = w.root.input(0, at), f"{at[row.axis]}"
    outer = tuple(x for a, x in enumerate(at) if a != row.axis)
    shader.line("var rank = 0;")
    with shader.block(f"for (var r = 0; r < {row.length}; r++)"):
        x = w.root.input(0, joined(outer, ["r"], [row.axis]))
        shader.line(f"rank += select(0, 1, {row.before(x, 'r', mine, i)});")
    with shader.block(f"if (rank < {k})"):
        w.store(joined(outer, ["rank"], [row.axis]), i)


def _by_rounds(w: Writer) -> None:
    """A workgroup for each row: again and again the first of those that come after the last one found."""
    row, shader = _Row(w, largest=bool(w.root.integer("largest", 1)), last=False), w.shader
    k = w.root.shape[row.axis]
    at = shader.subscript(w.a_workgroup_each(prod(row.outer), GROUP), row.outer)
    shader.line(f"var reached = {row.worst};")
    shader.line("var at_last = -1i;")
    with shader.block(f"for (var k = 0; k < {k}; k++)"):
        after = row.before("reached", "at_last", "{x}", "r")
        first = row.first_of_all(at, f"at_last < 0 || {after}")
        shader.line(f"at_last = {first};")
        shader.line(f"reached = {w.root.input(0, joined(at, ['at_last'], [row.axis]))};")
        with shader.block("if (t == 0)"):
            w.store(joined(at, ["k"], [row.axis]), first)
        shader.line("workgroupBarrier();")


@kernel("TopKIndices", domain="ai.tamago", applies=_ordered)
def top_k(node: ir.Node) -> list[Form]:
    """By counting in short rows, by rounds for the first few of long ones."""
    value, found = node.inputs[0], node.outputs[0]
    assert value is not None
    axis = node.attributes["axis"].as_int()
    length, k = shape_of(value)[axis], shape_of(found)[axis]
    return [_by_rank] if length <= SHORT or k > GROUP else [_by_rounds]

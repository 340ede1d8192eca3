"""One kernel being written: statements, where its result goes, and the module around them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from ..expression import Element, Shader, lies, shape_of
from ..group import Group
from ..index import Subscript
from ..limits import Limits
from ..operators import MOVES
from ..plan import F16, Kernel
from .turns import turns

THREADS = 64
MOST_GROUPS = 65535  # of workgroups along one axis


class Writer:
    """One form of a group's kernel.

    Args:
        group: what the kernel does.
        half: whether the device has f16.
        slots: the order of buffers in another form of the same kernel.
    """

    def __init__(self, group: Group, *, half: bool, slots: dict[ir.Value, int] | None = None) -> None:
        self.group = group
        self.shader = Shader(group.inlined, half=half)
        self.shader.slots = dict(slots or {})
        self.threads: tuple[int, int, int] = (THREADS, 1, 1)
        self.workgroups: tuple[int, int, int] = (1, 1, 1)
        self.declarations: list[str] = []  # of the module: workgroup memory
        self.memory = 0  # bytes of it
        self.avoidable = False  # whether threads wait for each other, and another form does without
        self.halves = False  # whether it computes in half precision
        self.copied: ir.Value | None = None  # what the result is a copy of before the kernel runs

    @property
    def root(self) -> Element:
        """The root as an operator's file sees one."""
        node = self.group.root
        assert node is not None
        return Element(node, node.outputs[0], self.shader, ())

    # --- threads ----------------------------------------------------------------------------------------------

    def a_thread_each(self, count: int, threads: int = THREADS) -> str:
        """Let each thread do one of so many things; the name of its number."""
        self.threads = (threads, 1, 1)
        groups = -(-count // threads)
        self._spread(groups)
        across = self.workgroups[0] * threads
        self.shader.line(f"let n = i32(id.x + id.y * {across}u);")
        self.shader.line(f"if (n >= {count}) {{ return; }}")
        return "n"

    def a_workgroup_each(self, count: int, threads: int = THREADS) -> str:
        """Let each workgroup do one of so many things; the name of its number."""
        self.threads = (threads, 1, 1)
        self._spread(count)
        self.shader.line(f"let n = i32(group.x + group.y * {self.workgroups[0]}u);")
        if prod(self.workgroups) != count:
            self.shader.line(f"if (n >= {count}) {{ return; }}")
        self.shader.line("let t = i32(local.x);")
        return "n"

    def _spread(self, groups: int) -> None:
        rows = -(-groups // MOST_GROUPS)
        self.workgroups = (-(-groups // rows), rows, 1) if groups else (0, 1, 1)

    def shared(self, name: str, kind: str, count: int) -> str:
        """Memory of the workgroup."""
        self.declarations.append(f"var<workgroup> {name}: array<{kind}, {count}>;")
        self.memory += count * _size(kind)
        return name

    def fits(self, limits: Limits) -> bool:
        """Whether a device with these limits runs it."""
        return (
            not (limits.software and self.avoidable)
            and not (self.halves and not self.shader.half)
            and prod(self.threads) <= limits.threads
            and self.memory <= limits.memory
            and len(self.buffers) <= limits.buffers
            and max(self.workgroups) <= MOST_GROUPS
            and (limits.turns is None or turns(self.shader.body) <= limits.turns)
        )

    # --- the result -------------------------------------------------------------------------------------------

    def store(self, at: Subscript, text: str) -> None:
        """An element of the root's result: what follows the root is done with it, and the outcome is stored."""
        shader, group = self.shader, self.group
        value = group.result if group.root is None else group.root.outputs[0]
        name = shader.let(text, "y")
        shader.know(value, at, name)
        for step in group.path:
            if isinstance(step, ir.Node):
                at = tuple(shader.index(i) for i in MOVES[step.op_type].function(step, at))
                value = step.outputs[0]
                shader.know(value, at, name)
            else:
                value = step
                name = shader.element(value, at)
        self.put(at, name)

    def put(self, at: Subscript, name: str) -> None:
        """An element of the kernel's result, as it is."""
        result = self.group.result
        position = self.shader.position(at, shape_of(result))
        self.shader.line(f"out[{position}] = {self.shader.kept(result, name)};")

    # --- the module -------------------------------------------------------------------------------------------

    @property
    def buffers(self) -> list[ir.Value]:
        """What is bound, in order; the result comes last."""
        return [*self.shader.slots, self.group.result]

    def kernel(self) -> Kernel:
        """The module."""
        half = self.shader.half
        kinds = [lies(v, half=half) for v in self.buffers]
        names = [*(f"b{i}" for i in range(len(kinds) - 1)), "out"]
        held = [
            f"vec4<{kind}>" if v in self.shader.quads else kind for v, kind in zip(self.buffers, kinds, strict=True)
        ]
        bindings = [
            f"@group(0) @binding({i}) var<storage, {'read_write' if name == 'out' else 'read'}> {name}: array<{kind}>;"
            for i, (name, kind) in enumerate(zip(names, held, strict=True))
        ]
        x, y, z = self.threads
        entry = [
            f"@compute @workgroup_size({x}, {y}, {z})",
            "fn main(@builtin(global_invocation_id) id: vec3u, @builtin(local_invocation_id) local: vec3u,",
            "        @builtin(workgroup_id) group: vec3u) {",
        ]
        parts = [*bindings, *self.declarations, *self.shader.functions.values(), *entry, self.shader.body, "}"]
        written = tuple(name == "out" for name in names)
        return Kernel("\n".join(parts) + "\n", written, (F16,) if self.halves or "f16" in kinds else ())


def _size(kind: str) -> int:
    """Bytes of an element of workgroup memory: `array<vec4<f32>, 8>` and the like."""
    if kind.startswith("array<"):
        inner, _, count = kind[6:-1].rpartition(", ")
        return _size(inner) * int(count)
    return 4 * _size(kind[5:-1]) if kind.startswith("vec4<") else 2 if kind == "f16" else 4


def every_element(writer: Writer) -> None:
    """The kernel without a root: each element of the result by itself."""
    result = writer.group.result
    shape: Sequence[int] = shape_of(result)
    at = writer.shader.subscript(writer.a_thread_each(prod(shape)), shape)
    writer.put(at, writer.shader.element(result, at))

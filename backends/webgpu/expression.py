"""An element of a value as statements of a shader: loaded where it lies in a buffer, computed where it does not."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from ...compiler.ir import constant_array
from .index import Index, Subscript, div, flatten, mod, mul, unflatten
from .narrow import in_pairs, is_narrow, starts_a_copy
from .types import PACKED, computed, kept, literal, loaded, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...compiler.facts import Array

LARGEST_CONSTANT = 1 << 16  # elements of what an operator may want to know while its kernel is written
FROM_BITS = "fn from_bits(bits: u32) -> f32 { var b = bits; return bitcast<f32>(b); }"
ELEMENT_OF = """fn element_of(v: vec4<f32>, i: i32) -> f32 {
  return select(select(v.x, v.y, i == 1), select(v.z, v.w, i == 3), i >= 2);
}"""


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """A value's sizes; every value of a program that is lowered has them."""
    assert value.shape is not None, value.name
    return tuple(int(d) for d in value.shape.numpy())


def packing(value: ir.Value) -> int:
    """How many elements of a value lie in a word: more than one of constants of few bits."""
    apart = value.const_value is None or value.const_value.size < 2 or value.is_graph_input() or value.is_graph_output()
    if apart or value.dtype is None or starts_a_copy(value):
        return 1
    return 2 if in_pairs(value) else PACKED.get(value.dtype, 1)


def lies(value: ir.Value, *, half: bool) -> str:
    """How an element of a value's buffer lies: f32, f16, i32 or u32."""
    if packing(value) > 1:
        return "u32"
    return "f16" if is_narrow(value) else stored(value.dtype, half=half)


class Shader:
    """The statements of one kernel, written in order.

    Args:
        inlined: the node that computes a value, for values that lie in no buffer.
        half: whether the device has f16.
    """

    def __init__(self, inlined: Mapping[ir.Value, ir.Node], *, half: bool) -> None:
        self.half = half
        self.slots: dict[ir.Value, int] = {}
        self.quads: set[ir.Value] = set()  # values whose buffers this kernel reads as vectors of four
        self.functions: dict[str, str] = {}  # helpers of the module, by name
        self.inlined = inlined
        self._lines: list[str] = []
        self._depth = 1
        self._names = 0
        self._known: list[dict[tuple[ir.Value, Subscript], str]] = [{}]
        self._flat: dict[tuple[Subscript, tuple[int, ...]], Index] = {}

    # --- statements -------------------------------------------------------------------------------------------

    @property
    def body(self) -> str:
        """What was written."""
        return "\n".join(self._lines)

    def line(self, text: str) -> None:
        """One statement."""
        self._lines.append("  " * self._depth + text)

    @contextmanager
    def block(self, head: str) -> Generator[None]:
        """`head { … }`; what becomes known inside is forgotten after it."""
        self.line(f"{head} {{" if head else "{")
        self._depth += 1
        self._known.append({})
        yield
        self._known.pop()
        self._depth -= 1
        self.line("}")

    def name(self, stem: str = "v") -> str:
        """A fresh identifier."""
        self._names += 1
        return f"{stem}_{self._names}"  # never the name of a type, such as i32

    def let(self, text: str, stem: str = "v") -> str:
        """A constant that holds a value."""
        if text.isidentifier() or text in ("true", "false"):
            return text
        name = self.name(stem)
        self.line(f"let {name} = {text};")
        return name

    def index(self, text: Index, stem: str = "i") -> Index:
        """A subscript, computed once."""
        return text if isinstance(text, int) else self.let(text, stem)

    def subscript(self, position: Index, shape: Sequence[int]) -> Subscript:
        """Of the element at a position; the way back is remembered."""
        found = tuple(self.index(i) for i in unflatten(position, shape))
        if any(isinstance(i, str) for i in found):  # else it says nothing of where the position is known
            self._flat[found, tuple(shape)] = position
        return found

    def say(self, subscript: Sequence[Index], shape: Sequence[int], position: Index) -> None:
        """Remember the position of the element with a subscript."""
        found = tuple(0 if size == 1 else i for i, size in zip(subscript, shape, strict=True))
        if any(isinstance(i, str) for i in found):
            self._flat[found, tuple(shape)] = self._flat[tuple(subscript), tuple(shape)] = position

    def position(self, subscript: Sequence[Index], shape: Sequence[int]) -> Index:
        """Of the element with a subscript."""
        known = self._flat.get((tuple(subscript), tuple(shape)))
        return flatten(subscript, shape) if known is None else known

    # --- elements ---------------------------------------------------------------------------------------------

    def element(self, value: ir.Value, subscript: Sequence[Index]) -> str:
        """The name of an element of a value."""
        shape = shape_of(value)
        key = (value, tuple(0 if size == 1 else i for i, size in zip(subscript, shape, strict=True)))
        for known in reversed(self._known):
            if key in known:
                return known[key]
        text = self._scalar(value)
        if text is not None:
            return text
        node = self.inlined.get(value)
        found = self.load(value, key[1]) if node is None else self._computed(node, value, key[1])
        name = self.let(found)
        self._known[-1][key] = name
        return name

    def know(self, value: ir.Value, subscript: Sequence[Index], name: str) -> None:
        """Say where an element is already."""
        shape = shape_of(value)
        self._known[-1][value, tuple(0 if s == 1 else i for i, s in zip(subscript, shape, strict=True))] = name

    def load(self, value: ir.Value, subscript: Sequence[Index]) -> str:
        """An element from its buffer."""
        return self.load_at(value, self.position(subscript, shape_of(value)))

    def load_at(self, value: ir.Value, position: Index, *, as_it_lies: bool = False) -> str:
        """The element at a position of a buffer, as a shader computes with it unless said."""
        slot = self.slots.setdefault(value, len(self.slots))
        kind = computed(value.dtype)
        assert kind is not None
        count = packing(value)
        if count > 1:
            word = f"b{slot}[{div(position, count)}]"
            if kind == "f32":
                return f"unpack2x16float({word})[{mod(position, count)}]"
            word = word if kind == "u32" else f"bitcast<i32>({word})"
            return f"extractBits({word}, u32({mul(mod(position, count), 32 // count)}), {32 // count}u)"
        text = f"b{slot}[{div(position, 4)}][{mod(position, 4)}]" if value in self.quads else f"b{slot}[{position}]"
        return text if as_it_lies else loaded(text, kind, lies(value, half=self.half))

    def word(self, value: ir.Value, number: Index) -> str:
        """Several elements of a packed value as they lie."""
        assert packing(value) > 1, value.name
        slot = self.slots.setdefault(value, len(self.slots))
        return f"b{slot}[{number}]"

    def quad(self, value: ir.Value, number: Index, *, as_it_lies: bool = False) -> str:
        """Four elements that lie side by side, of a value among `quads`: a vector of single precision unless said."""
        slot = self.slots.setdefault(value, len(self.slots))
        text = f"b{slot}[{number}]"
        return text if as_it_lies or lies(value, half=self.half) == "f32" else f"vec4<f32>({text})"

    def lane(self, vector: str, number: str) -> str:
        """An element of a vector of single precision, by a subscript that is no constant.

        Chosen, not indexed: an indexed vector has to lie in memory, and with it go the sums of the whole loop (4096³ on
        an H100: 27 ms, and 3 ms like this).
        """
        return f"{self.helper('element_of', ELEMENT_OF)}({vector}, {number})"

    def kept(self, value: ir.Value, text: str) -> str:
        """An element as the value's buffer holds it."""
        kind = computed(value.dtype)
        assert kind is not None
        return kept(text, kind, stored(value.dtype, half=self.half))

    def helper(self, name: str, source: str) -> str:
        """A function of the module; its name."""
        self.functions[name] = source
        return name

    def literal(self, value: float | bool, kind: str) -> str:
        """A number, of a WGSL type."""
        text = literal(value, kind)
        if text.startswith("from_bits"):
            self.helper("from_bits", FROM_BITS)
        return text

    def _scalar(self, value: ir.Value) -> str | None:
        if value.const_value is None or value.const_value.size != 1:
            return None
        array = constant_array(value, 1)
        kind = computed(value.dtype)
        return None if array is None or kind is None else self.literal(np.asarray(array).reshape(-1)[0].item(), kind)

    def _computed(self, node: ir.Node, value: ir.Value, subscript: Subscript) -> str:
        from .operators import ELEMENTS

        return ELEMENTS[node.op_type].function(Element(node, value, self, subscript))


class Element:
    """One element of an operator's result, as the operator's own file sees it.

    Args:
        node: the operator.
        value: which of its outputs.
        shader: where statements go.
        at: the subscript of the element.
    """

    def __init__(self, node: ir.Node, value: ir.Value, shader: Shader, at: Subscript) -> None:
        self.node, self.value, self.shader, self.at = node, value, shader, at

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        return shape_of(self.value)

    @property
    def kind(self) -> str:
        """WGSL type of the result."""
        kind = computed(self.value.dtype)
        assert kind is not None
        return kind

    def has(self, number: int) -> bool:
        """Whether there is an input of this number."""
        return number < len(self.node.inputs) and self.node.inputs[number] is not None

    def operand(self, number: int) -> ir.Value:
        """An input."""
        value = self.node.inputs[number]
        assert value is not None
        return value

    def shape_of(self, number: int) -> tuple[int, ...]:
        """Of an input."""
        return shape_of(self.operand(number))

    def kind_of(self, number: int) -> str:
        """WGSL type of an input."""
        kind = computed(self.operand(number).dtype)
        assert kind is not None
        return kind

    def input(self, number: int, subscript: Sequence[Index]) -> str:
        """An input's element."""
        return self.shader.element(self.operand(number), subscript)

    def scalar(self, number: int) -> str:
        """The only element of an input, whatever its rank."""
        return self.input(number, (0,) * len(self.shape_of(number)))

    def aligned(self, number: int) -> str:
        """An input's element that broadcasting puts beside this one."""
        from .index import broadcast

        return self.input(number, broadcast(self.at, self.shape_of(number)))

    def constant(self, number: int) -> Array | None:
        """An input that is known while the kernel is written."""
        return constant_array(self.operand(number), LARGEST_CONSTANT) if self.has(number) else None

    def attribute(self, name: str, default: object = None) -> object:
        """An attribute's value."""
        found = self.node.attributes.get(name)
        return default if found is None else found.value

    def integer(self, name: str, default: int) -> int:
        """An attribute that is an integer."""
        found = self.attribute(name, default)
        assert isinstance(found, int)
        return found

    def number(self, name: str, default: float) -> float:
        """An attribute that is a number."""
        found = self.attribute(name, default)
        assert isinstance(found, (int, float))
        return float(found)

    def text(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        return str(self.attribute(name, default))

    def integers(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """An attribute that is a list of integers."""
        found = self.attribute(name, default)
        assert isinstance(found, (tuple, list))
        return tuple(int(i) for i in found)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]

    def literal(self, value: float | bool, kind: str | None = None) -> str:
        """A number, of the result's type unless said."""
        return self.shader.literal(value, kind or self.kind)

    def when(self, condition: str, then: Callable[[], str], otherwise: Callable[[], str]) -> str:
        """One of two, of which only that one is computed."""
        shader, name = self.shader, self.shader.name("c")
        shader.line(f"var {name}: {self.kind};")
        with shader.block(f"if ({condition})"):
            shader.line(f"{name} = {then()};")
        with shader.block("else"):
            shader.line(f"{name} = {otherwise()};")
        return name

"""Arrays whose elements follow from their subscripts alone, whatever the sizes.

An array of indices is c + Σ sⱼ·iⱼ over its subscripts i: `Range` begins one, shapes are changed without touching it,
and sums and look-ups of such arrays are such again. What comparisons make of them is in `causal_masks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from .facts import Dim
from .ir import attribute_values, constant_array, dims, op_name

INTEGERS = "iub"
LARGEST = 1 << 20  # of an offset or a stride: what is larger could leave 32 bits at some length
WHOLE = (ir.DataType.INT32, ir.DataType.INT64)
EXACT = (*WHOLE, ir.DataType.FLOAT, ir.DataType.DOUBLE)  # types in which no index of any length is rounded or wrapped


@dataclass(frozen=True)
class Affine:
    """offset + Σ strides[j]·i[j]; an axis of size 1 has the stride 0."""

    offset: float
    strides: tuple[float, ...]

    @property
    def is_constant(self) -> bool:
        """Whether every element is the same."""
        return not any(self.strides)


@dataclass(frozen=True)
class Causal:
    """True (or 0) up to the diagonal of the last two axes and False (or far below 0) above it.

    Args:
        added: whether it is numbers to add to scores, and not a condition.
        inverted: True is above the diagonal.
    """

    added: bool = False
    inverted: bool = False


Known = Affine | Causal
Sizes = tuple[Dim, ...]


@dataclass
class Step:
    """One node, with what is known of its operands.

    Args:
        node: it.
        given: what is known of each operand.
        sizes: of the result.
        indices: the parts of GatherND's subscripts, where they are known.
    """

    node: ir.Node
    given: list[Known | None]
    sizes: Sizes
    indices: list[Affine] | None = None

    def affine(self, number: int) -> Affine | None:
        """An operand that is an array of indices."""
        found = self.given[number] if number < len(self.given) else None
        return found if isinstance(found, Affine) else None

    def mask(self, number: int) -> Causal | None:
        """An operand that is a mask over the last two axes of the result."""
        value, found = self.operand(number), self.given[number]
        own = None if value is None else dims(value)
        return found if isinstance(found, Causal) and own is not None and own[-2:] == self.sizes[-2:] else None

    def every(self) -> list[Affine] | None:
        """All operands, where all are known, with the result's axes."""
        found = [self.broadcast(i) for i in range(len(self.given))]
        return None if None in found else [f for f in found if f is not None]

    def operand(self, number: int) -> ir.Value | None:
        """An operand, None where it is not given."""
        return self.node.inputs[number] if number < len(self.node.inputs) else None

    def numbers(self, number: int) -> tuple[int, ...] | None:
        """A constant operand's integers."""
        value = self.operand(number)
        array = None if value is None else constant_array(value, 64)
        return None if array is None or array.dtype.kind != "i" else tuple(int(x) for x in array.reshape(-1))

    def broadcast(self, number: int) -> Affine | None:
        """An operand with the result's axes: 0 along those that it is repeated on."""
        value, found = self.operand(number), self.affine(number)
        own = None if value is None else dims(value)
        if found is None or own is None or len(own) > len(self.sizes):
            return None
        strides = [0.0] * (len(self.sizes) - len(own))
        for size, wanted, stride in zip(own, self.sizes[len(strides) :], found.strides, strict=True):
            if stride and (size is None or size != wanted):
                return None  # it may be 1 when it runs, and then be repeated
            strides.append(stride)
        return Affine(found.offset, tuple(strides))


def constant(value: ir.Value) -> Affine | None:
    """A small constant of one number."""
    array = constant_array(value, 64)
    if array is None or not array.size or array.dtype.kind not in INTEGERS + "f":
        return None
    flat = array.reshape(-1)
    return Affine(float(flat[0]), (0.0,) * array.ndim) if bool((flat == flat[0]).all()) else None


def is_exact(found: Affine, dtype: ir.DataType | None) -> bool:
    """Whether a type holds such indices, at any length, without rounding or wrapping."""
    return dtype in EXACT and all(abs(number) <= LARGEST for number in (found.offset, *found.strides))


def _range(step: Step) -> Affine | None:
    start, delta = step.affine(0), step.affine(2)
    return None if start is None or delta is None else Affine(start.offset, (delta.offset,))


def _same(step: Step) -> Known | None:
    return step.given[0]


def _cast(step: Step) -> Known | None:
    found, to = step.given[0], step.node.outputs[0].dtype
    if isinstance(found, Causal):
        return found if to == ir.DataType.BOOL or found.added else None
    if found is None or to not in (ir.DataType.BOOL, *EXACT):  # narrow types wrap around, halves are rounded
        return None
    if to == ir.DataType.BOOL:
        return Affine(float(found.offset != 0), found.strides) if found.is_constant else None
    whole = all(float(number).is_integer() for number in (found.offset, *found.strides))
    return found if whole or to not in WHOLE else None


def _reshape(step: Step) -> Known | None:
    """Axes of one element come and go; the others are the same ones."""
    value, found = step.operand(0), step.given[0]
    own = None if value is None else dims(value)
    if found is None or own is None:
        return None
    if isinstance(found, Causal):
        return step.mask(0)
    if found.is_constant:
        return Affine(found.offset, (0.0,) * len(step.sizes))
    kept = [(d, s) for d, s in zip(own, found.strides, strict=True) if d != 1]
    if None in own or [d for d, _ in kept] != [d for d in step.sizes if d != 1]:
        return None
    strides = iter([s for _, s in kept])
    return Affine(found.offset, tuple(0.0 if d == 1 else next(strides) for d in step.sizes))


def _expand(step: Step) -> Known | None:
    return step.mask(0) or step.broadcast(0)


def _slice(step: Step) -> Known | None:
    """From a known start on, one after the other."""
    starts, axes, steps = step.numbers(1), step.numbers(3), step.numbers(4)
    found, value = step.given[0], step.operand(0)
    if starts is None or found is None or value is None or (len(step.node.inputs) > 4 and set(steps or (0,)) != {1}):
        return None
    axes = axes if axes is not None else tuple(range(len(starts))) if step.operand(3) is None else None
    if axes is None or min(starts, default=0) < 0:
        return None
    if isinstance(found, Causal):
        return found if not any(starts) else None
    moved = sum(start * found.strides[axis] for start, axis in zip(starts, axes, strict=True))
    return Affine(found.offset + moved, found.strides)


def _concat(step: Step) -> Affine | None:
    """Pieces that go on where the one before ends; what is last may be of any length."""
    axis = int(attribute_values(step.node).get("axis", 0)) % len(step.sizes)
    pieces = [(step.affine(i), None if v is None else dims(v)) for i, v in enumerate(step.node.inputs)]
    long = [piece.strides for piece, shape in pieces if piece is not None and shape is not None and shape[axis] != 1]
    whole = long[0] if long else None
    start = at = pieces[0][0].offset if pieces[0][0] is not None else None
    for number, (piece, shape) in enumerate(pieces):
        if piece is None or shape is None or whole is None or at is None or piece.offset != at:
            return None
        # One element alone has no second one to say what its stride is.
        if any(
            s != w and not (j == axis and shape[j] == 1)
            for j, (s, w) in enumerate(zip(piece.strides, whole, strict=True))
        ):
            return None
        length = shape[axis]
        if number + 1 < len(pieces) and not isinstance(length, int):
            return None
        at += whole[axis] * (length if isinstance(length, int) else 0)
    return None if start is None or whole is None else Affine(start, whole)


def components(value: ir.Value | None, known: dict[ir.Value, Known]) -> list[Affine] | None:
    """The parts of an array of subscripts, each an array of its own, where they are put side by side."""
    node = None if value is None else value.producer()
    sizes = None if value is None else dims(value)
    if node is None or sizes is None or op_name(node) != "Concat":
        return None
    if int(attribute_values(node).get("axis", 0)) % len(sizes) != len(sizes) - 1:
        return None
    found: list[Affine] = []
    for part in node.inputs:
        own, array = (None, None) if part is None else (dims(part), known.get(part))
        if own is None or own[-1] != 1 or not isinstance(array, Affine):
            return None
        if array.offset < 0 or min(array.strides) < 0:  # negative subscripts count from the end
            return None
        found.append(Affine(array.offset, array.strides[:-1]))
    return found


def _gather_nd(step: Step) -> Affine | None:
    data, parts = step.affine(0), step.indices
    if data is None or int(attribute_values(step.node).get("batch_dims", 0)):
        return None
    if data.is_constant:
        return Affine(data.offset, (0.0,) * len(step.sizes))
    if parts is None or len(parts) != len(data.strides):
        return None
    offset = data.offset + sum(s * p.offset for s, p in zip(data.strides, parts, strict=True))
    axes = range(len(step.sizes))
    return Affine(offset, tuple(sum(s * p.strides[j] for s, p in zip(data.strides, parts, strict=True)) for j in axes))


def _cumsum(step: Step) -> Affine | None:
    data, axis = step.affine(0), step.numbers(1)
    stated = attribute_values(step.node)
    if data is None or not data.is_constant or (data.offset and (axis is None or stated.get("reverse", 0))):
        return None
    if not data.offset or axis is None:
        return data
    strides = [0.0] * len(step.sizes)
    strides[axis[0]] = data.offset
    return Affine(0.0 if stated.get("exclusive", 0) else data.offset, tuple(strides))


def _filled(step: Step) -> Affine:
    value = step.node.attributes.get("value")
    return Affine(0.0 if value is None else float(value.as_tensor().numpy().reshape(-1)[0]), (0.0,) * len(step.sizes))


def _sum(sign: int) -> Callable[[Step], Affine | None]:
    def follow(step: Step) -> Affine | None:
        both = step.every()
        return None if both is None else combined(both[0], both[1], sign)

    return follow


def combined(a: Affine, b: Affine, sign: int) -> Affine:
    """Their sum, or with the sign -1 their difference."""
    return Affine(a.offset + sign * b.offset, tuple(p + sign * q for p, q in zip(a.strides, b.strides, strict=True)))


def _product(step: Step) -> Affine | None:
    both = step.every()
    if both is None or not any(f.is_constant for f in both):
        return None
    scale, other = (both[0], both[1]) if both[0].is_constant else (both[1], both[0])
    return Affine(other.offset * scale.offset, tuple(s * scale.offset for s in other.strides))


Follow = Callable[[Step], "Known | None"]
ARRAYS: Mapping[str, Follow] = {
    "Range": _range,
    "ConstantOfShape": _filled,
    "Identity": _same,
    "Cast": _cast,
    "Reshape": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Expand": _expand,
    "Slice": _slice,
    "Concat": _concat,
    "GatherND": _gather_nd,
    "CumSum": _cumsum,
    "Add": _sum(1),
    "Sub": _sum(-1),
    "Mul": _product,
}

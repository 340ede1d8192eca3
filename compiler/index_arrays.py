"""Arrays whose elements follow from their subscripts alone, whatever the sizes, and the masks that comparisons make.

An array of indices is c + Σ sⱼ·iⱼ over its subscripts i: `Range` begins one, shapes are changed without touching it,
and sums and look-ups of such arrays are such again. A comparison of two of them that says "the column is at most the
row" is a causal mask, however it was come by; exporters build them out of dozens of nodes that no constant folding sees
through where sizes are free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx_ir as ir

from .facts import Dim
from .ir import CAUSAL, attribute_values, constant_array, dims, op_name

FAR = -1e8  # from here down a hidden score weighs exactly 0 beside any that is not hidden and not as far off itself
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


def mark_causal_masks(graph: ir.Graph) -> None:
    """Leave the word in the `meta` of every value that is one, for `ir.fact_of`; shapes are inferred."""
    known: dict[ir.Value, Known] = {}
    for node in graph:
        found = _follow(node, known)
        for value in node.outputs:
            value.meta.pop(CAUSAL, None)
        if found is None:
            continue
        known[node.outputs[0]] = found
        if isinstance(found, Causal) and _is_mask(found, node.outputs[0]):
            node.outputs[0].meta[CAUSAL] = True


def is_causal(value: ir.Value) -> bool:
    """Whether a value was marked."""
    return bool(value.meta.get(CAUSAL))


def _is_mask(found: Causal, value: ir.Value) -> bool:
    sizes = dims(value)
    square = sizes is not None and len(sizes) > 1 and sizes[-1] is not None and sizes[-1] == sizes[-2]
    return square and not found.inverted and (found.added or value.dtype == ir.DataType.BOOL)


@dataclass
class _Step:
    """One node, with what is known of its operands.

    Args:
        node: it.
        given: what is known of each operand.
        sizes: of the result.
    """

    node: ir.Node
    given: list[Known | None]
    sizes: Sizes
    indices: list[Affine] | None = None

    def affine(self, number: int) -> Affine | None:
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


def _follow(node: ir.Node, known: dict[ir.Value, Known]) -> Known | None:
    follow = _FOLLOW.get(op_name(node))
    sizes = dims(node.outputs[0]) if len(node.outputs) == 1 else None
    if follow is None or sizes is None:
        return None
    step = _Step(node, [None if v is None else known.get(v) or _constant(v) for v in node.inputs], sizes)
    if op_name(node) == "GatherND":
        step.indices = _components(node.inputs[1], known)
    found = follow(step)
    if isinstance(found, Affine) and not (found.is_constant or _is_exact(found, node.outputs[0].dtype)):
        return None
    if isinstance(found, Affine):  # an axis of one element has no second one to differ from it
        return replace(found, strides=tuple(0.0 if d == 1 else s for d, s in zip(sizes, found.strides, strict=True)))
    return found


def _is_exact(found: Affine, dtype: ir.DataType | None) -> bool:
    return dtype in EXACT and all(abs(number) <= LARGEST for number in (found.offset, *found.strides))


def _constant(value: ir.Value) -> Affine | None:
    array = constant_array(value, 64)
    if array is None or not array.size or array.dtype.kind not in INTEGERS + "f":
        return None
    flat = array.reshape(-1)
    return Affine(float(flat[0]), (0.0,) * array.ndim) if bool((flat == flat[0]).all()) else None


# --- arrays --------------------------------------------------------------------------------------------------------


def _range(step: _Step) -> Affine | None:
    start, delta = step.affine(0), step.affine(2)
    return None if start is None or delta is None else Affine(start.offset, (delta.offset,))


def _same(step: _Step) -> Known | None:
    return step.given[0]


def _cast(step: _Step) -> Known | None:
    found, to = step.given[0], step.node.outputs[0].dtype
    if isinstance(found, Causal):
        return found if to == ir.DataType.BOOL or found.added else None
    if found is None or to not in (ir.DataType.BOOL, *EXACT):  # narrow types wrap around, halves are rounded
        return None
    if to == ir.DataType.BOOL:
        return Affine(float(found.offset != 0), found.strides) if found.is_constant else None
    whole = all(float(number).is_integer() for number in (found.offset, *found.strides))
    return found if whole or to not in WHOLE else None


def _reshape(step: _Step) -> Known | None:
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


def _expand(step: _Step) -> Known | None:
    return step.mask(0) or step.broadcast(0)


def _slice(step: _Step) -> Known | None:
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


def _concat(step: _Step) -> Affine | None:
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


def _components(value: ir.Value | None, known: dict[ir.Value, Known]) -> list[Affine] | None:
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


def _gather_nd(step: _Step) -> Affine | None:
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


def _cumsum(step: _Step) -> Affine | None:
    data, axis = step.affine(0), step.numbers(1)
    stated = attribute_values(step.node)
    if data is None or not data.is_constant or (data.offset and (axis is None or stated.get("reverse", 0))):
        return None
    if not data.offset or axis is None:
        return data
    strides = [0.0] * len(step.sizes)
    strides[axis[0]] = data.offset
    return Affine(0.0 if stated.get("exclusive", 0) else data.offset, tuple(strides))


def _filled(step: _Step) -> Affine:
    value = step.node.attributes.get("value")
    return Affine(0.0 if value is None else float(value.as_tensor().numpy().reshape(-1)[0]), (0.0,) * len(step.sizes))


def _sum(sign: int) -> Callable[[_Step], Affine | None]:
    def follow(step: _Step) -> Affine | None:
        both = step.every()
        return None if both is None else _combined(both[0], both[1], sign)

    return follow


def _combined(a: Affine, b: Affine, sign: int) -> Affine:
    return Affine(a.offset + sign * b.offset, tuple(p + sign * q for p, q in zip(a.strides, b.strides, strict=True)))


def _product(step: _Step) -> Affine | None:
    both = step.every()
    if both is None or not any(f.is_constant for f in both):
        return None
    scale, other = (both[0], both[1]) if both[0].is_constant else (both[1], both[0])
    return Affine(other.offset * scale.offset, tuple(s * scale.offset for s in other.strides))


# --- conditions ----------------------------------------------------------------------------------------------------


def _comparison(*, first_at_most: bool, strict: bool) -> Callable[[_Step], Known | None]:
    """Of whole numbers: a ≤ b or a ≥ b; strict: one more, a < b is a + 1 ≤ b."""

    def follow(step: _Step) -> Known | None:
        both = step.every()
        if both is None:
            return None
        low, high = both if first_at_most else both[::-1]
        return _at_most_zero(_combined(low, high, -1), 1.0 if strict else 0.0)

    return follow


def _at_most_zero(difference: Affine, more: float) -> Known | None:
    offset, strides = difference.offset + more, difference.strides
    if not all(float(x).is_integer() for x in (offset, *strides)):
        return None
    if difference.is_constant:
        return Affine(float(offset <= 0), strides)
    if len(strides) < 2 or any(strides[:-2]) or strides[-1] != -strides[-2]:
        return None
    step = abs(strides[-1])
    if strides[-1] > 0:  # step·(column − row) ≤ −offset: up to the diagonal and no further
        return Causal() if 0 <= -offset < step else None
    return Causal(inverted=True) if 0 < offset <= step else None  # step·(column − row) ≥ offset


def _equal(step: _Step) -> Affine | None:
    both = step.every()
    if both is None:
        return None
    difference = _combined(both[0], both[1], -1)
    return Affine(float(difference.offset == 0), difference.strides) if difference.is_constant else None


def _not(step: _Step) -> Known | None:
    found = step.given[0]
    if isinstance(found, Causal):
        return replace(found, inverted=not found.inverted)
    return None if found is None or not found.is_constant else Affine(float(not found.offset), found.strides)


def _logic(*, every: bool) -> Callable[[_Step], Known | None]:
    """And, or Or: what decides nothing leaves the other as it is."""

    def follow(step: _Step) -> Known | None:
        masks = [step.mask(i) for i, f in enumerate(step.given) if isinstance(f, Causal)]
        others = [step.broadcast(i) for i, f in enumerate(step.given) if not isinstance(f, Causal)]
        if any(f is None or not f.is_constant for f in others):
            return None
        known = [bool(f.offset) for f in others if f is not None]
        if not masks:
            return Affine(float(all(known) if every else any(known)), (0.0,) * len(step.sizes))
        return masks[0] if len(set(masks)) == 1 and all(k == every for k in known) else None

    return follow


def _where(step: _Step) -> Known | None:
    decided, condition = step.affine(0), step.mask(0)
    if decided is not None and decided.is_constant:
        return step.broadcast(1 if decided.offset else 2)
    if condition is None:
        return None
    seen, hidden = (step.broadcast(i) for i in ((2, 1) if condition.inverted else (1, 2)))
    if seen is None or hidden is None or not (seen.is_constant and hidden.is_constant):
        return None
    return Causal(added=True) if seen.offset == 0 and hidden.offset <= FAR else None


def _trilu(step: _Step) -> Known | None:
    """A triangle of an array of one number."""
    found, numbers = step.affine(0), step.numbers(1) if step.operand(1) is not None else (0,)
    if found is None or not found.is_constant or numbers is None:
        return None
    upper, k = bool(attribute_values(step.node).get("upper", 1)), numbers[0]
    if found.offset == 1 and (upper, k) in ((False, 0), (True, 1)):
        return Causal(inverted=upper)
    return Causal(added=True) if found.offset <= FAR and (upper, k) == (True, 1) else None


_Follow = Callable[[_Step], "Known | None"]
_FOLLOW: dict[str, _Follow] = {
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
    "LessOrEqual": _comparison(first_at_most=True, strict=False),
    "Less": _comparison(first_at_most=True, strict=True),
    "GreaterOrEqual": _comparison(first_at_most=False, strict=False),
    "Greater": _comparison(first_at_most=False, strict=True),
    "Equal": _equal,
    "Not": _not,
    "And": _logic(every=True),
    "Or": _logic(every=False),
    "Where": _where,
    "Trilu": _trilu,
}

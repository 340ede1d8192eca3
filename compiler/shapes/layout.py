"""Operators that move entries without changing them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..facts import Contradiction, Dim, Shape
from .call import (
    Call,
    Known,
    Number,
    Rule,
    agree,
    axis_of,
    broadcast,
    multiplied,
    named,
    product,
    smaller,
    total,
    unify,
    with_dim,
)

_Change = Callable[[int, int, int, int], tuple[int, int, int]]


def _reshape(call: Call) -> list[Known]:
    if "shape" in call.attributes:  # opset 1
        return [(call.dtype(), None)]
    source, wanted = call.shape(0), call.entries(1)
    if wanted is None:
        return [(call.dtype(), _unknown(call.shape(1)))]
    return [(call.dtype(), reshaped(source, wanted, bool(call.get("allowzero"))))]


def _unknown(shape_of_shape: Shape | None) -> Shape | None:
    """A shape of which only the length is known."""
    if shape_of_shape is None or len(shape_of_shape) != 1 or not isinstance(shape_of_shape[0], int):
        return None
    return (None,) * shape_of_shape[0]


def reshaped(source: Shape | None, wanted: Sequence[Number], allow_zero: bool) -> Shape:
    """The dimensions that a Reshape gives.

    Raises:
        Contradiction: the sizes differ.
    """
    dims: list[Dim] = []
    for index, entry in enumerate(wanted):
        if entry == 0 and not allow_zero:
            if source is not None and index >= len(source):
                raise Contradiction(f"dimension {index} of {len(source)} is copied")
            dims.append(None if source is None else source[index])
        else:
            dims.append(entry if isinstance(entry, (int, str)) else None)
    if -1 in dims:
        at = dims.index(-1)
        rest = [*dims[:at], *dims[at + 1 :]]
        dims[at] = None if source is None else _quotient(source, rest)
    elif source is not None:
        agree(product(source), product(dims), "elements")
        missing = [i for i, d in enumerate(dims) if d is None]
        if len(missing) == 1 and 0 not in dims:
            at = missing[0]
            dims[at] = _quotient(source, [*dims[:at], *dims[at + 1 :]])
    return tuple(dims)


def _quotient(source: Iterable[Dim], rest: Iterable[Dim]) -> Dim:
    """What is left of a product of dimensions when some are taken out: names cancel names, numbers divide numbers."""
    above, below = multiplied(source), multiplied(rest)
    if above is None or below is None or below[0] == 0 or below[1] - above[1]:
        return None
    (numbers, names), (divisor, taken) = above, below
    left = names - taken
    if not left and numbers % divisor:
        raise Contradiction(f"{numbers} elements do not fill rows of {divisor}")
    return None if numbers % divisor or (left and not numbers) else named(numbers // divisor, left)


def _transpose(call: Call) -> list[Known]:
    shape, order = call.shape(), call.attributes.get("perm")
    if shape is None:
        return [(call.dtype(), None if order is None else (None,) * len(order))]
    order = tuple(reversed(range(len(shape)))) if order is None else order
    if sorted(order) != list(range(len(shape))):
        raise Contradiction(f"perm {tuple(order)} of rank {len(shape)}")
    return [(call.dtype(), tuple(shape[i] for i in order))]


def _flatten(call: Call) -> list[Known]:
    shape = call.shape()
    if shape is None:
        return [(call.dtype(), (None, None))]
    axis = int(call.get("axis"))
    if not -len(shape) <= axis <= len(shape):
        raise Contradiction(f"axis {axis} of rank {len(shape)}")
    axis = axis + len(shape) if axis < 0 else axis
    return [(call.dtype(), (product(shape[:axis]), product(shape[axis:])))]


def _axes(call: Call, index: int = 1) -> tuple[int, ...] | None:
    stated = call.attributes.get("axes")
    return tuple(stated) if stated is not None else call.numbers(index)


def _unsqueeze(call: Call) -> list[Known]:
    shape, axes = call.shape(), _axes(call)
    if shape is None or axes is None:
        return [(call.dtype(), None)]
    rank = len(shape) + len(axes)
    new = {axis_of(a, rank) for a in axes}
    if len(new) != len(axes):
        raise Contradiction(f"axes {axes} repeat")
    old = iter(shape)
    return [(call.dtype(), tuple(1 if i in new else next(old) for i in range(rank)))]


def _squeeze(call: Call) -> list[Known]:
    shape, axes = call.shape(), _axes(call)
    if shape is None:
        return [(call.dtype(), None)]
    if axes is None:
        if call.has(1) or not all(isinstance(d, int) for d in shape):
            return [(call.dtype(), None)]
        return [(call.dtype(), tuple(d for d in shape if d != 1))]
    gone = {axis_of(a, len(shape)) for a in axes}
    for axis in gone:
        agree(shape[axis], 1, "a squeezed dimension")
    return [(call.dtype(), tuple(d for i, d in enumerate(shape) if i not in gone))]


def _concat(call: Call) -> list[Known]:
    shapes = [call.shape(i) for i in range(len(call.operands))]
    dtype = next((call.dtype(i) for i in range(len(shapes)) if call.dtype(i) is not None), None)
    known = [s for s in shapes if s is not None]
    if not known:
        return [(dtype, None)]
    if len({len(s) for s in known}) > 1:
        raise Contradiction("ranks of concatenated tensors differ")
    axis = axis_of(int(call.get("axis")), len(known[0]))
    dims: list[Dim] = []
    for index, column in enumerate(zip(*known, strict=True)):
        found = column[0]
        for dim in column[1:]:
            if index != axis:
                agree(found, dim, f"dimension {index} of concatenated tensors")
            found = unify(found, dim)
        dims.append(found)
    dims[axis] = total(s[axis] for s in known) if len(known) == len(shapes) else None
    return [(dtype, tuple(dims))]


def _split(call: Call) -> list[Known]:
    shape = call.shape()
    if shape is None:
        return [(call.dtype(), None)] * call.outputs
    axis = axis_of(int(call.get("axis")), len(shape))
    stated = call.attributes.get("split")
    sizes = tuple(stated) if stated is not None else call.numbers(1)
    if sizes is None and not call.has(1):
        sizes = _equal_parts(shape[axis], int(call.attributes.get("num_outputs") or call.outputs))
    if sizes is None or len(sizes) < call.outputs:
        return [(call.dtype(), with_dim(shape, axis, None))] * call.outputs
    agree(shape[axis], sum(sizes), "the sum of split")
    return [(call.dtype(), with_dim(shape, axis, size)) for size in sizes]


def _equal_parts(dim: Dim, count: int) -> tuple[int, ...] | None:
    if not isinstance(dim, int):
        return None
    size = -(-dim // count)
    return (*(size for _ in range(count - 1)), dim - size * (count - 1))


def _slice(call: Call) -> list[Known]:
    shape = call.shape()
    if shape is None:
        return [(call.dtype(), None)]
    if "starts" in call.attributes:
        starts, ends = tuple(call.attributes["starts"]), tuple(call.attributes["ends"])
        axes, steps = call.attributes.get("axes"), None
    else:
        starts, ends, steps = call.numbers(1), call.entries(2), call.numbers(4)
        axes = call.numbers(3)
        if call.has(3) and axes is None:
            return [(call.dtype(), (None,) * len(shape))]
    count = next((len(n) for n in (starts, ends, axes, steps) if n is not None), None)
    if count is None:
        return [(call.dtype(), (None,) * len(shape))]
    axes = range(count) if axes is None else axes
    dims = list(shape)
    for position, axis in enumerate(axes):
        at = axis_of(axis, len(shape))
        if starts is None or ends is None or (call.has(4) and steps is None):
            dims[at] = None
            continue
        dims[at] = _sliced(shape[at], starts[position], ends[position], steps[position] if steps else 1)
    return [(call.dtype(), tuple(dims))]


def _sliced(dim: Dim, start: int, end: object, step: int) -> Dim:
    if step == 0:
        raise Contradiction("a slice with step 0")
    if isinstance(end, str):
        return smaller(dim, end) if isinstance(dim, int) and start == 0 and step == 1 else None
    if not isinstance(end, int):
        return None
    if isinstance(dim, int):
        return len(range(dim)[slice(start, _end(dim, end, step), step)])
    if step == 1 and start == 0 and end >= (1 << 31) - 1:
        return dim
    if step == 1 and start < 0 and end >= (1 << 31) - 1:
        return None
    return 0 if step > 0 and 0 <= end <= start else None


def _end(dim: int, end: int, step: int) -> int | None:
    """Python counts a negative end from the back; ONNX clamps what is still negative to before the first entry."""
    return None if step < 0 and end + dim < 0 else end


def _gather(call: Call) -> list[Known]:
    shape, indices = call.shape(0), call.shape(1)
    if shape is None or indices is None:
        return [(call.dtype(), None)]
    axis = axis_of(int(call.get("axis")), len(shape))
    return [(call.dtype(), (*shape[:axis], *indices, *shape[axis + 1 :]))]


def _gather_elements(call: Call) -> list[Known]:
    return [(call.dtype(0), call.shape(1))]


def _gather_nd(call: Call) -> list[Known]:
    shape, indices, batch = call.shape(0), call.shape(1), int(call.get("batch_dims"))
    if shape is None or indices is None or not indices or not isinstance(indices[-1], int):
        return [(call.dtype(), None)]
    return [(call.dtype(), (*indices[:-1], *shape[batch + indices[-1] :]))]


def _expand(call: Call) -> list[Known]:
    wanted = call.entries(1)
    if wanted is None:
        target = _unknown(call.shape(1))
        return [(call.dtype(), None if target is None else broadcast([call.shape(), target]))]
    target = tuple(d if isinstance(d, (int, str)) else None for d in wanted)
    return [(call.dtype(), broadcast([call.shape(), target]))]


def _tile(call: Call) -> list[Known]:
    shape, repeats = call.shape(), call.entries(1)
    if shape is None or repeats is None:
        return [(call.dtype(), shape if shape is None else (None,) * len(shape))]
    if len(shape) != len(repeats):
        raise Contradiction("as many repeats as dimensions are needed")
    pairs = zip(shape, repeats, strict=True)
    return [(call.dtype(), tuple(product([d, r if isinstance(r, (int, str)) else None]) for d, r in pairs))]


def _pad(call: Call) -> list[Known]:
    shape = call.shape()
    stated = call.attributes.get("pads")
    pads = tuple(stated) if stated is not None else call.numbers(1)
    if shape is None:
        return [(call.dtype(), None)]
    axes = call.numbers(3) if call.has(3) else tuple(range(len(shape)))
    if pads is None or axes is None:
        return [(call.dtype(), (None,) * len(shape))]
    if len(pads) != 2 * len(axes):
        raise Contradiction(f"{len(pads)} pads for {len(axes)} axes")
    dims = list(shape)
    for position, axis in enumerate(axes):
        at, added = axis_of(axis, len(shape)), pads[position] + pads[position + len(axes)]
        found = dims[at]
        dims[at] = found if added == 0 else found + added if isinstance(found, int) else None
    return [(call.dtype(), tuple(dims))]


def _depth_to_space(call: Call) -> list[Known]:
    return _blocks(call, lambda c, h, w, b: (c // (b * b), h * b, w * b))


def _space_to_depth(call: Call) -> list[Known]:
    return _blocks(call, lambda c, h, w, b: (c * b * b, h // b, w // b))


def _blocks(call: Call, change: _Change) -> list[Known]:
    shape, block = call.shape(), int(call.get("blocksize"))
    if shape is None or len(shape) != 4:
        return [(call.dtype(), None)]
    # Each output dimension depends on one input dimension only.
    dims: list[Dim] = [shape[0]]
    for position in range(3):
        numbers = [d if isinstance(d, int) else 0 for d in shape[1:]]
        known = isinstance(shape[1 + position], int)
        dims.append(change(numbers[0], numbers[1], numbers[2], block)[position] if known else None)
    return [(call.dtype(), tuple(dims))]


RULES: dict[str, Rule] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}

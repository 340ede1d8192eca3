"""Operators that only say where an element comes from."""

from __future__ import annotations

import re

import onnx_ir as ir

from ....compiler.ir import constant_array
from ..expression import Element, shape_of
from ..index import Index, Subscript, add, div, mod, mul, reshaped
from .registry import element, move

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


@element(*RESHAPES, cost=0)
def reshape(e: Element) -> str:
    """The same elements in the same order."""
    return e.input(0, reshaped(e.at, e.shape, e.shape_of(0)))


@move(*RESHAPES)
def reshape_forward(node: ir.Node, at: Subscript) -> Subscript:
    """Where an element goes."""
    assert node.inputs[0] is not None
    return reshaped(at, shape_of(node.inputs[0]), shape_of(node.outputs[0]))


def _permutation(node: ir.Node, rank: int) -> list[int]:
    found = node.attributes.get("perm")
    return list(range(rank))[::-1] if found is None else [int(i) for i in found.as_ints()]


@element("Transpose", cost=0)
def transpose(e: Element) -> str:
    """y[i…] = x[i…] with its axes permuted."""
    permutation = _permutation(e.node, len(e.shape))
    return e.input(0, [e.at[permutation.index(axis)] for axis in range(len(e.shape))])


@move("Transpose")
def transpose_forward(node: ir.Node, at: Subscript) -> Subscript:
    """Where an element goes."""
    return tuple(at[axis] for axis in _permutation(node, len(at)))


@element("Expand", cost=0)
def expand(e: Element) -> str:
    """Broadcasting by itself."""
    return e.aligned(0)


@element("Tile", cost=0)
def tile(e: Element) -> str:
    """Again and again along each axis."""
    return e.input(
        0, [mod(i, size) if size != whole else i for i, size, whole in zip(e.at, e.shape_of(0), e.shape, strict=True)]
    )


def _known(node: ir.Node, *numbers: int) -> bool:
    def is_known(number: int) -> bool:
        value = node.inputs[number] if number < len(node.inputs) else None
        return value is None or constant_array(value, 1 << 16) is not None

    return all(map(is_known, numbers))


@element("Slice", cost=0, applies=lambda node: _known(node, 1, 2, 3, 4))
def slice_(e: Element) -> str:
    """x[start + i·step]."""
    starts, shape = e.constant(1), e.shape_of(0)
    axes = e.constant(3) if e.has(3) else None
    steps = e.constant(4) if e.has(4) else None
    assert starts is not None
    at: list[Index] = list(e.at)
    for number, start in enumerate(starts.tolist()):
        axis = int(axes[number]) % len(shape) if axes is not None else number
        step = int(steps[number]) if steps is not None else 1
        size = shape[axis]
        first = start + size if start < 0 else start
        first = min(max(first, 0), size - 1 if step < 0 else size)
        at[axis] = add(first, mul(at[axis], step)) if step > 0 else _backward(first, at[axis], -step)
    return e.input(0, at)


def _backward(first: int, i: Index, step: int) -> Index:
    moved = mul(i, step)
    return first - moved if isinstance(moved, int) else f"({first} - {moved})"


@element("Split", cost=0)
def split(e: Element) -> str:
    """The part that begins where the outputs before it end."""
    number = list(e.node.outputs).index(e.value)
    axis = e.integer("axis", 0) % len(e.shape)
    first = sum(shape_of(output)[axis] for output in e.node.outputs[:number])
    return e.input(0, [add(i, first) if a == axis else i for a, i in enumerate(e.at)])


@element("Concat", cost=0)
def concat(e: Element) -> str:
    """The operand in whose range the subscript lies."""
    axis = e.integer("axis", 0) % len(e.shape)
    sizes = [e.shape_of(i)[axis] for i in range(len(e.node.inputs))]

    def part(number: int, first: int) -> str:
        at = [add(i, -first) if a == axis else i for a, i in enumerate(e.at)]
        rest = [i for i in range(number + 1, len(sizes)) if sizes[i]]
        if not rest:
            return e.input(number, at)
        end = first + sizes[number]
        return e.when(f"{e.at[axis]} < {end}", lambda: e.input(number, at), lambda: part(rest[0], end))

    return part(next((i for i, size in enumerate(sizes) if size), 0), 0)


@element("Pad", cost=1, applies=lambda node: _known(node, 1, 3))
def pad(e: Element) -> str:
    """A value, the edge, the mirror image or the other side around the edges."""
    mode, shape = e.text("mode", "constant"), e.shape_of(0)
    pads, axes = e.constant(1), e.constant(3) if e.has(3) else None
    assert pads is not None
    which = [int(a) % len(shape) for a in axes.tolist()] if axes is not None else list(range(len(shape)))
    at: list[Index] = list(e.at)
    inside: list[str] = []
    for number, axis in enumerate(which):
        before, after, size = int(pads[number]), int(pads[number + len(which)]), shape[axis]
        if not before and not after:
            continue
        i = e.shader.index(add(at[axis], -before))
        if mode == "constant":
            inside.append(f"{i} >= 0 && {i} < {size}")
            at[axis] = i
        elif mode == "edge":
            at[axis] = f"clamp({i}, 0, {size - 1})"
        elif mode == "wrap":
            at[axis] = f"((({i} % {size}) + {size}) % {size})"
        else:  # −1 → 1, n → n − 2, as often as it takes
            period = max(2 * (size - 1), 1)
            folded = e.shader.index(f"((({i} % {period}) + {period}) % {period})")
            at[axis] = f"min({folded}, {period} - {folded})" if size > 1 else 0
    if not inside:
        return e.input(0, at)
    return e.when(" && ".join(inside), lambda: e.input(0, at), lambda: e.scalar(2) if e.has(2) else e.literal(0))


@element("Gather", cost=0)
def gather(e: Element) -> str:
    """x[…, index, …]; an index below 0 counts from the end."""
    shape, rank = e.shape_of(0), len(e.shape_of(1))
    axis = e.integer("axis", 0) % len(shape)
    chosen = e.input(1, e.at[axis : axis + rank])
    return e.input(0, [*e.at[:axis], _from_end(e, chosen, shape[axis]), *e.at[axis + rank :]])


@element("GatherElements", cost=0)
def gather_elements(e: Element) -> str:
    """X at its own place but for one axis."""
    shape = e.shape_of(0)
    axis = e.integer("axis", 0) % len(shape)
    chosen = _from_end(e, e.input(1, e.at), shape[axis])
    return e.input(0, [chosen if a == axis else i for a, i in enumerate(e.at)])


@element("GatherND", cost=0)
def gather_nd(e: Element) -> str:
    """X at a subscript that lies in the last axis of the indices."""
    shape, indices = e.shape_of(0), e.shape_of(1)
    batch, length = e.integer("batch_dims", 0), indices[-1]
    lead = e.at[: len(indices) - 1]
    chosen = [_from_end(e, e.input(1, [*lead, k]), shape[batch + k]) for k in range(length)]
    return e.input(0, [*e.at[:batch], *chosen, *e.at[len(indices) - 1 :]])


def _from_end(e: Element, chosen: str, size: int) -> Index:
    known = re.fullmatch(r"(\d+)[iu]", chosen)
    if known:
        return int(known[1])
    i = e.shader.let(f"i32({chosen})", "i")
    return e.shader.let(f"select({i}, {i} + {size}, {i} < 0)", "i")


@element("DepthToSpace", cost=0)
def depth_to_space(e: Element) -> str:
    """Channels become blocks of pixels."""
    n, c, y, x = e.at
    size, depth = e.integer("blocksize", 1), e.shape[1]
    i, j = mod(y, size), mod(x, size)
    if e.text("mode", "DCR") == "DCR":
        channel = add(mul(add(mul(i, size), j), depth), c)
    else:
        channel = add(mul(c, size * size), add(mul(i, size), j))
    return e.input(0, [n, channel, div(y, size), div(x, size)])


@element("SpaceToDepth", cost=0)
def space_to_depth(e: Element) -> str:
    """Blocks of pixels become channels."""
    n, c, y, x = e.at
    size, depth = e.integer("blocksize", 1), e.shape_of(0)[1]
    if e.text("mode", "DCR") == "DCR":
        channel, block = mod(c, depth), div(c, depth)
    else:
        channel, block = div(c, size * size), mod(c, size * size)
    return e.input(0, [n, channel, add(mul(y, size), div(block, size)), add(mul(x, size), mod(block, size))])


@element("Trilu", cost=1, applies=lambda node: _known(node, 1))
def trilu(e: Element) -> str:
    """One side of a diagonal, 0 on the other."""
    k = e.constant(1) if e.has(1) else None
    shift = int(k.reshape(-1)[0]) if k is not None else 0
    sign = ">=" if e.integer("upper", 1) else "<="
    return e.when(f"{e.at[-1]} {sign} {add(e.at[-2], shift)}", lambda: e.input(0, e.at), lambda: e.literal(0))


@element("EyeLike", cost=1)
def eye_like(e: Element) -> str:
    """1 on a diagonal."""
    return f"select({e.literal(0)}, {e.literal(1)}, {e.at[1]} == {add(e.at[0], e.integer('k', 0))})"


@element("ConstantOfShape", cost=0)
def constant_of_shape(e: Element) -> str:
    """One value everywhere."""
    value = e.node.attributes.get("value")
    return e.literal(0 if value is None else value.as_tensor().numpy().reshape(-1)[0].item())


@element("OneHot", cost=1)
def one_hot(e: Element) -> str:
    """The second of two values where the index says, the first elsewhere."""
    axis = e.integer("axis", -1) % len(e.shape)
    depth = e.shape[axis]
    index = e.shader.let(f"i32({e.input(0, [i for a, i in enumerate(e.at) if a != axis])})", "i")
    hit = f"{e.at[axis]} == select({index}, {index} + {depth}, {index} < 0)"
    return e.when(hit, lambda: e.input(2, (1,)), lambda: e.input(2, (0,)))


@element("ReverseSequence", cost=1)
def reverse_sequence(e: Element) -> str:
    """The first so many entries of each sequence backwards."""
    batch, time = e.integer("batch_axis", 1), e.integer("time_axis", 0)
    length = e.shader.let(f"i32({e.input(1, (e.at[batch],))})", "i")
    i = e.at[time]
    turned = e.shader.let(f"select({i}, {length} - 1 - {i}, {i} < {length})", "i")
    return e.input(0, [turned if a == time else k for a, k in enumerate(e.at)])

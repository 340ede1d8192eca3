"""The parts of a Split are Slices: written so, they meet other Slices and Concats."""

from __future__ import annotations

from ...compiler.rule import Rule, Skip, Term, Value, op, rule, var
from .axes import positive
from .cuts import END, Cut, write_cuts
from .elementwise import declare

MOST = 16  # parts
x, sizes, k, n, i = var("x sizes k n i")


def part(x: Value, sizes: Value | None, axis: int, count: int | None, index: int) -> tuple[int, Cut]:
    """The axis and the cut of one part.

    Args:
        x: what is split.
        sizes: of the parts, None for equal ones.
        axis: as stated.
        count: number of equal parts.
        index: which part.

    Raises:
        Skip: the sizes are not known.
    """
    place = positive(axis, x.rank)
    if sizes is not None:
        numbers = [int(d) for d in sizes.array.reshape(-1)]
        start = sum(numbers[:index])
        return place, (start, start + numbers[index], 1)
    if count == 1:
        return place, (0, END, 1)
    total = x.shape[place]
    if not isinstance(total, int) or not count:
        raise Skip("the size of a part is not known")
    size = -(-total // count)  # the last part is smaller when they cannot all be equal
    return place, (index * size, min(total, (index + 1) * size), 1)


def _rule(outputs: int) -> Rule:
    def as_slice(x: Value, sizes: Value | None, k: int, n: int | None, i: int) -> Term:
        axis, cut = part(x, sizes, k, n, i)
        return write_cuts(x, x.shape, {axis: cut})

    given = op.Split(x, sizes, axis=k, outputs=outputs)
    equal = op.Split(x, axis=k, num_outputs=n, outputs=outputs)
    total = outputs * 2 - 1
    each = " ".join(["2"] * (outputs - 1) + ["1"])
    return declare(
        as_slice,
        f"split_in_{outputs}_as_slices",
        "Split(x, sizes), part i = Slice(x, sum of sizes before i, and with i).",
        given.out(i),
        equal.out(i),
        drift="none",
        phase="canonicalise",
        peers="",
        example={
            "x": f"f32[2,{total}]",
            "sizes": f"i64[{outputs}] = {each}",
            "k": -1,
            "n": outputs,
            "i": outputs - 1,
        },
        refuse={"x": "f32[2,m]", "k": 1, "n": outputs, "i": outputs - 1, "pattern": 1, "because": "not known"},
    )


@rule(
    op.Split(x, sizes, axis=k),
    op.Split(x, axis=k, num_outputs=n),
    drift="none",
    phase="canonicalise",
    peers="onnxslim, onnxoptimizer",
    example=[{"x": "f32[2,3]", "sizes": "i64[1] = 3", "k": 1, "n": 1}, {"x": "f32[4,n]", "k": 0, "n": 1, "pattern": 1}],
)
def split_in_one(x: Value, sizes: Value | None, k: int, n: int | None) -> Term:
    """Split(x), first part = Slice(x, from 0), and x when there is only one part."""
    axis, cut = part(x, sizes, k, n, 0)
    return write_cuts(x, x.shape, {axis: cut})


RULES: tuple[Rule, ...] = (split_in_one, *map(_rule, range(2, MOST + 1)))

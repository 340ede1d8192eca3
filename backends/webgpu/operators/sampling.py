"""GridSample: an image read at places that another tensor names."""

from __future__ import annotations

from itertools import product

import onnx_ir as ir

from ..expression import Element, shape_of
from ..types import computed
from .registry import element

REFLECT = """fn reflect_(x: f32, low: f32, high: f32) -> f32 {
  let span = high - low;
  if (span <= 0.0) { return low; }
  let d = abs(x - low); let turns = floor(d / span); let rest = d - turns * span;
  return select(high - rest, low + rest, turns == 2.0 * floor(turns * 0.5));
}"""
CUBIC = """fn cubic(f: f32) -> vec4f {
  let a = -0.75; let d = vec4f(1.0 + f, f, 1.0 - f, 2.0 - f);
  let near = ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
  let far = ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
  return vec4f(far.x, near.y, near.z, far.w);
}"""
TAPS = {"nearest": 1, "linear": 2, "bilinear": 2, "cubic": 4, "bicubic": 4}


class Sample:
    """The place of one element, axis by axis."""

    def __init__(self, e: Element) -> None:
        self.e, self.sizes = e, e.shape_of(0)[2:]
        self.mode, self.padding = e.text("mode", "linear"), e.text("padding_mode", "zeros")
        self.aligned = bool(e.integer("align_corners", 0))

    def place(self, axis: int) -> str:
        """Where an axis is read, as a number between elements."""
        e, size = self.e, self.sizes[axis]
        g = e.input(1, (e.at[0], *e.at[2:], len(self.sizes) - 1 - axis))
        x = f"({g} + 1.0) * {(size - 1) / 2}" if self.aligned else f"(({g} + 1.0) * {float(size)} - 1.0) * 0.5"
        if self.mode == "nearest":
            x = f"round({x})"
        if TAPS[self.mode] < 4:  # the four of a cubic are turned back one by one
            x = self.inside(x, size)
        return e.shader.let(x, "x")

    def inside(self, x: str, size: int) -> str:
        """A place turned back into the image, as the padding says."""
        if self.padding == "border":
            return f"clamp({x}, 0.0, {float(size - 1)})"
        if self.padding == "zeros":
            return x
        low, high = (0.0, float(size - 1)) if self.aligned else (-0.5, size - 0.5)
        return f"{self.e.shader.helper('reflect_', REFLECT)}({x}, {low}, {high})"

    def taps(self, axis: int) -> list[tuple[str, str, str]]:
        """Of an axis: index, whether it lies inside, and weight."""
        e, size, count = self.e, self.sizes[axis], TAPS[self.mode]
        x = self.place(axis)
        floor = e.shader.let(f"floor({x})")
        rest = e.shader.let(f"{x} - {floor}") if count > 1 else ""
        if count == 4:
            weights = e.shader.let(f"{e.shader.helper('cubic', CUBIC)}({rest})")
            terms = [(f"{floor} + {number - 1}.0", f"{weights}[{number}]") for number in range(4)]
            terms = [(self.inside(place, size), weight) for place, weight in terms]
        else:
            terms = [(floor, f"(1.0 - {rest})"), (f"{floor} + 1.0", rest)] if count == 2 else [(x, "1.0")]
        found: list[tuple[str, str, str]] = []
        for place, weight in terms:
            at = e.shader.let(place)
            index = e.shader.let(f"i32(clamp(round({at}), 0.0, {float(size - 1)}))", "i")
            found.append((index, f"{at} > -1.0 && {at} < {float(size)}", weight))
        return found


def _knows(node: ir.Node) -> bool:
    x = node.inputs[0]
    mode = node.attributes.get("mode")
    return (
        x is not None
        and computed(x.dtype) == "f32"
        and len(shape_of(x)) > 2
        and (mode is None or mode.as_string() in TAPS)
    )


@element("GridSample", cost=40, applies=_knows)
def grid_sample(e: Element) -> str:
    """Σ weight·x over the elements around the place."""
    sample = Sample(e)
    axes = [sample.taps(axis) for axis in range(len(sample.sizes))]
    terms: list[str] = []
    for chosen in product(*axes):
        x = e.input(0, (*e.at[:2], *(index for index, _, _ in chosen)))
        weight = " * ".join(w for _, _, w in chosen)
        inside = " && ".join(f"({condition})" for _, condition, _ in chosen)
        terms.append(f"select(0.0, {x} * {weight}, {inside})" if sample.padding == "zeros" else f"{x} * {weight}")
    return f"({' + '.join(terms)})"

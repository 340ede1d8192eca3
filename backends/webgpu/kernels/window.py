"""Which pixels a convolution's kernel meets."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ..expression import Element
from ..index import Index, add, mul


@dataclass(frozen=True)
class Window:
    """Which pixels a kernel meets, along each spatial axis: pixel = result·stride + tap·dilation − pad.

    Args:
        pixels: sizes of the image.
        taps: sizes of the kernel.
        results: sizes of the result.
        strides: between results.
        dilations: between taps.
        pads: before the image.
    """

    pixels: tuple[int, ...]
    taps: tuple[int, ...]
    results: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]

    @property
    def is_a_product(self) -> bool:
        """Whether each result meets the pixel at its own place, and no other."""
        single = prod(self.taps) == 1 and all(s == 1 for s in self.strides) and not any(self.pads)
        return single and self.pixels == self.results

    def meets(self, axis: int, result: Index, tap: Index) -> tuple[Index, list[str]]:
        """The pixel, and what must hold for it to be in the image."""
        pixel = add(add(mul(result, self.strides[axis]), mul(tap, self.dilations[axis])), -self.pads[axis])
        last = (self.results[axis] - 1) * self.strides[axis] + (self.taps[axis] - 1) * self.dilations[axis]
        checks = [f"{{}} < {self.pixels[axis]}"] if last - self.pads[axis] >= self.pixels[axis] else []
        return pixel, (["{} >= 0"] if self.pads[axis] else []) + checks


def window_of(e: Element) -> Window:
    """The window of a convolution."""
    pixels, taps, results = e.shape_of(0)[2:], e.shape_of(1)[2:], e.shape[2:]
    ones = (1,) * len(pixels)
    strides, dilations = e.integers("strides", ones) or ones, e.integers("dilations", ones) or ones
    pads = (e.integers("pads") or (0,) * (2 * len(pixels)))[: len(pixels)]
    mode = e.text("auto_pad", "NOTSET")
    if mode.startswith("SAME"):
        spans = zip(pixels, taps, results, strides, dilations, strict=True)
        whole = [max((out - 1) * s + (tap - 1) * d + 1 - size, 0) for size, tap, out, s, d in spans]
        pads = tuple((p + (mode == "SAME_LOWER")) // 2 for p in whole)  # what does not halve goes to one side
    elif mode == "VALID":
        pads = (0,) * len(pixels)
    return Window(pixels, taps, results, strides, dilations, pads)

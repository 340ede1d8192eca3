"""Convolutions of one channel at a time: a thread for some neighbours of a row, which share most of what they read."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

from ..expression import Element
from ..index import Index, add, mul
from .window import Window, window_of
from .writer import Writer


@dataclass(frozen=True)
class Row:
    """Results of one thread that lie side by side, and threads of a workgroup."""

    wide: int = 4
    threads: int = 64


def is_depthwise(e: Element) -> bool:
    """Whether every group reads one channel, and the taps are few enough to be written out."""
    return e.shape_of(1)[1] == 1 and e.integer("group", 1) > 1 and prod(e.shape_of(1)[2:]) <= 64


def write_row(w: Writer, row: Row) -> None:
    """One form: taps are written out, so that what neighbours read in common is read once."""
    e, shader = w.root, w.shader
    window = window_of(e)
    last = len(window.results) - 1
    blocks = (*window.results[:last], -(-window.results[last] // row.wide))
    shape = (e.shape[0], e.shape[1], *blocks)
    image, channel, *place, block = shader.subscript(w.a_thread_each(prod(shape), row.threads), shape)
    each = e.shape[1] // e.integer("group", 1)
    source = shader.index(f"{channel} / {each}") if each > 1 and not isinstance(channel, int) else channel
    first = shader.index(mul(block, row.wide))
    sums = [shader.name("s") for _ in range(row.wide)]
    for name in sums:
        shader.line(f"var {name} = f32();")
    for taps in product(*(range(size) for size in window.taps[:last])):
        pixels, checks = [], list[str]()
        for axis, (result, tap) in enumerate(zip(place, taps, strict=True)):
            pixel, conditions = window.meets(axis, result, tap)
            pixels.append(shader.index(pixel))
            checks += [condition.format(pixels[-1]) for condition in conditions]
        with shader.block(f"if ({' && '.join(checks)})" if checks else ""):
            _line(w, window, (image, source, *pixels), (channel, *taps), first, sums)
    for j, name in enumerate(sums):
        column = shader.index(add(first, j))
        ragged = window.results[last] % row.wide != 0
        with shader.block(f"if ({column} < {window.results[last]})" if ragged and j else ""):
            at = (image, channel, *place, column)
            w.store(at, f"{name} + {e.input(2, (channel,))}" if e.has(2) else name)


def _line(
    w: Writer, window: Window, lead: tuple[Index, ...], taps: tuple[Index, ...], first: Index, sums: list[str]
) -> None:
    """What one line of the image gives."""
    e, shader, axis = w.root, w.shader, len(window.results) - 1
    weights = [e.input(1, (taps[0], 0, *taps[1:], tap)) for tap in range(window.taps[axis])]
    read: dict[int, str] = {}
    stride, dilation = window.strides[axis], window.dilations[axis]
    start = shader.index(add(mul(first, stride), -window.pads[axis]))
    for j, tap in product(range(len(sums)), range(len(weights))):
        apart = j * stride + tap * dilation
        if apart not in read:
            pixel = shader.index(add(start, apart))
            checks = _checks(window, axis, apart, len(sums), pixel)
            read[apart] = (
                e.when(checks, lambda at=(*lead, pixel): e.input(0, at), lambda: e.literal(0))
                if checks
                else e.input(0, (*lead, pixel))
            )
        shader.line(f"{sums[j]} = fma({weights[tap]}, {read[apart]}, {sums[j]});")


def _checks(window: Window, axis: int, apart: int, wide: int, pixel: Index) -> str:
    least, blocks = apart - window.pads[axis], -(-window.results[axis] // wide)
    most = (blocks - 1) * wide * window.strides[axis] + least
    checks = [f"{pixel} >= 0"] if least < 0 else []
    return " && ".join([*checks, f"{pixel} < {window.pixels[axis]}"] if most >= window.pixels[axis] else checks)

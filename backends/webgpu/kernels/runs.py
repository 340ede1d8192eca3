"""Sums of a few products in half precision, which single precision takes over: pairs of halves take one instruction.

A run of 16 products is off by at most 16·2⁻¹¹ < 1 % of what its products' magnitudes add up to, and by some 2⁻¹¹ of the
result where signs differ. That holds as long as half's range suffices, and each kernel looks whether it did:

Too large: what overflows becomes infinite, and no later sum is finite again.
Too small: below half's normal numbers a product loses up to 2⁻²⁴, a result at most depth·2⁻²⁴. That is less than 1 % of
the largest result of a workgroup's tile, or the tile counts as lost.

A workgroup that lost something computes its tile once more with single sums. It does so as well on a device whose
halves do otherwise than was said. Operands that are computed on the way are rounded to half, as the model's own types
say. No device is known by its name to be faster so, and some are not: only a tuner takes this form.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..expression import Shader
from .tile import Sums, Tile, add_products, names_of
from .writer import Writer

LOST = 2.0**-24  # by a product and what it is added to, at most, however a device rounds
WORTH = 128.0  # times what may have been lost: a result as large is not off by 1 %
SUFFICES = """fn suffices(top: u32, least: u32) -> bool {
  let one = f16(1u + (top >> 31u)); // from memory: no compiler knows what becomes of it
  let small = one * 0.0009765625h;
  let large = one * 256.0h;
  let kept = f32(small * small) > 0.0 && bitcast<u32>(f32(large * large)) >= 0x47800000u; // exact, or infinite
  return kept && least <= top && top < 0x7f800000u;
}"""


def multiply_in_runs(shader: Shader, tile: Tile, rows: Sequence[str], columns: Sequence[str], sums: Sums) -> None:
    """Add a piece's products to the sums; the loop over its depths is written out."""
    for start in range(0, tile.depth, tile.run):
        with shader.block(""):
            for number in range(start, start + tile.run):
                for i, r in enumerate(rows):
                    shader.line(f"let a{i}_{number} = ta[{number}][{r}];")
                for j, at in enumerate(columns):
                    shader.line(f"let b{j}_{number} = tb[{number}][{at}];")
                for i, block in enumerate(sums):
                    for axis, line in zip("xyzw", block, strict=True):
                        factor = f"vec4<f16>(a{i}_{number}.{axis})"
                        for j, name in enumerate(line):
                            other = f"b{j}_{number}"
                            begun = f"var h{name} = {factor} * {other};"
                            shader.line(begun if number == start else f"h{name} = fma({factor}, {other}, h{name});")
            for name in names_of(sums):
                shader.line(f"{name} += vec4<f32>(h{name});")


def expect_losses(w: Writer) -> None:
    """What `lost` needs before the loop: hosts may leave in a workgroup's memory what another kernel left there."""
    w.shared("most", "atomic<u32>", 1)
    w.shared("again", "u32", 1)
    w.shader.line("if (t == 0) { atomicStore(&most[0], 0u); }")


def lost(shader: Shader, depth: int, sums: Sums) -> str:
    """Statements that look whether half's range sufficed; a condition on which all threads of a workgroup agree."""
    top = [f"(bitcast<vec4<u32>>({name}) & vec4<u32>(0x7fffffffu))" for name in names_of(sums)]
    shader.line(f"var top = {top[0]};")
    for text in top[1:]:
        shader.line(f"top = max(top, {text});")
    shader.line("atomicMax(&most[0], max(max(top.x, top.y), max(top.z, top.w)));")
    shader.line("workgroupBarrier();")
    suffices, least = shader.helper("suffices", SUFFICES), bits(depth * LOST * WORTH)
    shader.line(f"if (t == 0) {{ again[0] = select(1u, 0u, {suffices}(atomicLoad(&most[0]), {least}u)); }}")
    return "workgroupUniformLoad(&again[0]) != 0u"


def multiply_again(shader: Shader, tile: Tile, rows: Sequence[str], columns: Sequence[str], sums: Sums) -> None:
    """Add a piece's products to the sums in single precision: a loop, for this is rare."""
    with shader.block(f"for (var d = 0; d < {tile.depth}; d++)"):
        add_products(shader, rows, columns, sums, "d", tile.kind)


def bits(number: float) -> int:
    """Of a number in single precision."""
    return int(struct.unpack("<I", struct.pack("<f", number))[0])

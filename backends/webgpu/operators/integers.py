"""Bits, remainders and conversions: what integers of 8 and 16 bits do in a shader that has 32 for all."""

from __future__ import annotations

import onnx_ir as ir

from ..expression import Element
from ..types import computed, literal, width, wrapped
from .registry import element

# Infinities and what is not a number are told by their bits: no shader has to keep to IEEE's rules about them.
FMOD = """fn fmod_(x: f32, y: f32) -> f32 {
  let a = bitcast<u32>(x) & 0x7fffffffu; let b = bitcast<u32>(y) & 0x7fffffffu;
  if (a >= 0x7f800000u || b == 0u || b > 0x7f800000u) { return from_bits(0x7fc00000u); }
  if (b == 0x7f800000u) { return x; }
  return x % y;
}"""
FLOOR_MOD = """fn floor_mod(x: f32, y: f32) -> f32 {
  let rest = fmod_(x, y);
  if ((bitcast<u32>(rest) & 0x7fffffffu) > 0x7f800000u) { return rest; }
  if (rest == 0.0) { return select(rest, -rest, (bitcast<u32>(rest) ^ bitcast<u32>(y)) >= 0x80000000u); }
  if ((rest < 0.0) == (y < 0.0)) { return rest; }
  if ((bitcast<u32>(y) & 0x7fffffffu) == 0x7f800000u) { return y; }
  return rest + y;
}"""


@element("BitwiseNot", pointwise=True)
def bitwise_not(e: Element) -> str:
    """Every bit the other way."""
    return wrapped(f"(~{e.aligned(0)})", e.value.dtype)


@element("BitwiseAnd", "BitwiseOr", "BitwiseXor", pointwise=True)
def bitwise(e: Element) -> str:
    """Bit by bit."""
    sign = {"BitwiseAnd": "&", "BitwiseOr": "|", "BitwiseXor": "^"}[e.node.op_type]
    return f"({e.aligned(0)} {sign} {e.aligned(1)})"


@element("BitShift", cost=2, pointwise=True)
def bit_shift(e: Element) -> str:
    """By as many bits as there are or more, or by a number below 0: what the sign alone becomes."""
    x, bits = e.aligned(0), width(e.value.dtype)
    by = e.shader.let(f"u32({e.aligned(1)})")  # what is below 0 becomes large
    if e.text("direction", "") == "LEFT":
        return wrapped(f"select({x} << ({by} & 31u), {e.literal(0)}, {by} >= {bits}u)", e.value.dtype)
    if e.kind == "i32":
        return f"({x} >> min({by}, 31u))"
    return f"select({x} >> ({by} & 31u), 0u, {by} >= {bits}u)"


@element("Mod", cost=3, pointwise=True)
def modulus(e: Element) -> str:
    """The sign of the divisor, or with fmod of the dividend."""
    a, b = e.aligned(0), e.aligned(1)
    if e.kind == "f32":
        e.shader.literal(float("nan"), "f32")  # the helpers name it
        e.shader.helper("fmod_", FMOD)
        name = "fmod_" if e.integer("fmod", 0) else e.shader.helper("floor_mod", FLOOR_MOD)
        return f"{name}({a}, {b})"
    if e.kind == "u32" or e.integer("fmod", 0):
        return f"({a} % {b})"
    rest = e.shader.let(f"{a} % {b}")
    return f"select({rest}, {rest} + {b}, {rest} != 0 && ({rest} < 0) != ({b} < 0))"


def _can_cast(node: ir.Node) -> bool:
    source, target = node.inputs[0], node.outputs[0]
    return source is not None and computed(source.dtype) is not None and computed(target.dtype) is not None


@element("Cast", "CastLike", pointwise=True, applies=_can_cast)
def cast(e: Element) -> str:
    """Another element type; narrow integers wrap around, what is true is 1."""
    x, source, target = e.aligned(0), e.kind_of(0), e.kind
    if target == "bool":
        return x if source == "bool" else f"({x} != {literal(0, source)})"
    found = x if source == target else f"{target}({x})"
    dtype = e.value.dtype
    if source == "bool":
        return found
    if source == "f32" and target == "u32":  # by way of i32, so that what is below 0 wraps around
        found = f"select(u32({x}), u32(i32({x})), {x} < 0.0)"
    return wrapped(found, dtype)


def _same_width(node: ir.Node) -> bool:
    source, target = node.inputs[0], node.outputs[0].dtype
    if source is None or source.dtype is None or target is None or source.dtype.bitwidth != target.bitwidth:
        return False
    half = ir.DataType.FLOAT16, ir.DataType.BFLOAT16
    return _can_cast(node) and target.bitwidth <= 32 and source.dtype not in half and target not in half


@element("BitCast", pointwise=True, applies=_same_width)
def bit_cast(e: Element) -> str:
    """The same bits, read as another type."""
    x, source, target = e.aligned(0), e.kind_of(0), e.kind
    if source == "bool":
        return f"{target}({x})"
    if target == "bool":
        return f"({x} != {literal(0, source)})"
    return wrapped(x if source == target else f"bitcast<{target}>({x})", e.value.dtype)

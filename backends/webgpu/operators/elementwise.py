"""Operators that work element by element, their operands side by side."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import onnx_ir as ir

from ..expression import Element
from ..types import computed, literal
from .registry import element

# erf by Abramowitz and Stegun 7.1.26 is good to 1.5e-7 absolute, but its relative error near 0 is not: there a series.
ERF = """fn erf(x: f32) -> f32 {
  let a = abs(x);
  if (a < 0.5) {
    let s = x * x;
    return x * (1.1283791670955126 + s * (-0.37612638903183754 + s * (0.11283791670955126 + s * (-0.026866170645131252
      + s * (0.005223977625442188 + s * (-0.0008548327023450852 + s * 0.00012055332981789664))))));
  }
  let t = 1.0 / (1.0 + 0.3275911 * a);
  let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return sign(x) * (1.0 - p * exp(-min(a * a, 80.0)));
}"""
# tanh of a large argument is NaN on some drivers: (e^x − e^−x)/(e^x + e^−x) overflows.
TANH = "fn tanh_(x: f32) -> f32 { return tanh(clamp(x, -15.0, 15.0)); }"
# 1/(1 + e^−x) needs no bound: e^−x is at worst infinite, and 1/∞ is 0; written so that it does not rely on it.
SIGMOID = "fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(clamp(-x, -87.0, 87.0))); }"
SOFTPLUS = "fn softplus(x: f32) -> f32 { return max(x, 0.0) + log(1.0 + exp(-abs(x))); }"
# No shader has to keep to IEEE's rules about what is not a number: the bits say what is.
IS_NAN = "fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }"
IS_INF = "fn is_inf(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }"
# WGSL's pow is exp2(y·log2 x), undefined below 0: integer powers keep the sign.
POW = """fn power(x: f32, y: f32) -> f32 {
  if (y == 0.0) { return 1.0; }
  if (x == 0.0) { return select(0.0, 1.0 / x, y < 0.0); }
  let p = pow(abs(x), y);
  if (x > 0.0) { return p; }
  if (floor(y) != y) { return from_bits(0x7fc00000u); }
  return select(p, -p, floor(y * 0.5) * 2.0 != y);
}"""
ROUND = "fn round_even(x: f32) -> f32 { return round(x); }"  # WGSL rounds halves to even as ONNX does
INT_POW = """fn int_power(x: i32, y: i32) -> i32 {
  var base = x; var n = y; var found = 1;
  while (n > 0) { if ((n & 1) == 1) { found = found * base; } base = base * base; n = n >> 1u; }
  return found;
}"""
# From 3.4e38 on, and for what is not a number, a conversion to an integer is undefined.
HELPERS = {
    "erf": ERF,
    "tanh_": TANH,
    "sigmoid": SIGMOID,
    "softplus": SOFTPLUS,
    "is_nan": IS_NAN,
    "is_inf": IS_INF,
    "int_power": INT_POW,
}


def call(e: Element, name: str, *arguments: str) -> str:
    """A call of one of the helpers."""
    e.shader.helper(name, HELPERS[name])
    return f"{name}({', '.join(arguments)})"


def _is_float(node: ir.Node) -> bool:
    return node.inputs[0] is not None and computed(node.inputs[0].dtype) == "f32"


def _unary(names: str, text: Callable[[Element, str], str], cost: int = 1, *, floats: bool = True) -> None:
    @element(*names.split(), cost=cost, pointwise=True, applies=_is_float if floats else lambda node: True)
    def _one(e: Element) -> str:
        return text(e, e.aligned(0))


_unary("Abs", lambda e, x: x if e.kind == "u32" else f"abs({x})", floats=False)
_unary("Neg", lambda e, x: f"(-{x})", floats=False)
_unary("Sign", lambda e, x: f"select(0u, 1u, {x} > 0u)" if e.kind == "u32" else f"sign({x})", floats=False)
_unary("Not", lambda e, x: f"(!{x})", floats=False)
_unary("BitwiseNot", lambda e, x: f"(~{x})", floats=False)
_unary("Identity Dropout", lambda e, x: x, 0, floats=False)
_unary("Exp", lambda e, x: f"exp({x})", 4)
_unary("Log", lambda e, x: f"log({x})", 4)
_unary("Sqrt", lambda e, x: f"sqrt({x})", 2)
_unary("Reciprocal", lambda e, x: f"(1.0 / {x})")
_unary("Floor", lambda e, x: f"floor({x})")
_unary("Ceil", lambda e, x: f"ceil({x})")
_unary("Round", lambda e, x: f"round({x})")
_unary("Sin", lambda e, x: f"sin({x})", 6)
_unary("Cos", lambda e, x: f"cos({x})", 6)
_unary("Tan", lambda e, x: f"tan({x})", 6)
_unary("Asin", lambda e, x: f"asin({x})", 6)
_unary("Acos", lambda e, x: f"acos({x})", 6)
_unary("Atan", lambda e, x: f"atan({x})", 6)
_unary("Sinh", lambda e, x: f"sinh({x})", 6)
_unary("Cosh", lambda e, x: f"cosh({x})", 6)
_unary("Asinh", lambda e, x: f"asinh({x})", 6)
_unary("Acosh", lambda e, x: f"acosh({x})", 6)
_unary("Atanh", lambda e, x: f"atanh({x})", 6)
_unary("Tanh", lambda e, x: call(e, "tanh_", x), 6)
_unary("Erf", lambda e, x: call(e, "erf", x), 10)
_unary("Sigmoid", lambda e, x: call(e, "sigmoid", x), 6)
_unary("Softplus", lambda e, x: call(e, "softplus", x), 8)
_unary("Softsign", lambda e, x: f"({x} / (1.0 + abs({x})))", 2)
_unary("Relu", lambda e, x: f"max({x}, {e.literal(0)})", floats=False)
_unary("HardSwish", lambda e, x: f"({x} * clamp({x} / 6.0 + 0.5, 0.0, 1.0))", 3)
_unary("Mish", lambda e, x: f"({x} * {call(e, 'tanh_', call(e, 'softplus', x))})", 12)
_unary("IsNaN", lambda e, x: call(e, "is_nan", x), 2)


@element("LeakyRelu", pointwise=True)
def leaky_relu(e: Element) -> str:
    """X for x ≥ 0, alpha·x below."""
    x = e.aligned(0)
    return f"select({e.literal(e.number('alpha', 0.01))} * {x}, {x}, {x} >= 0.0)"


@element("PRelu", pointwise=True)
def prelu(e: Element) -> str:
    """X for x ≥ 0, slope·x below."""
    x, slope = e.aligned(0), e.aligned(1)
    return f"select({slope} * {x}, {x}, {x} >= {e.literal(0)})"


@element("Elu", cost=5, pointwise=True)
def elu(e: Element) -> str:
    """X for x ≥ 0, alpha·(e^x − 1) below."""
    x = e.aligned(0)
    return f"select({e.literal(e.number('alpha', 1.0))} * (exp({x}) - 1.0), {x}, {x} >= 0.0)"


@element("Selu", cost=5, pointwise=True)
def selu(e: Element) -> str:
    """gamma·(x for x ≥ 0, alpha·(e^x − 1) below)."""
    x = e.aligned(0)
    alpha, gamma = e.number("alpha", 1.67326319217681884765625), e.number("gamma", 1.05070102214813232421875)
    return f"({e.literal(gamma)} * select({e.literal(alpha)} * (exp({x}) - 1.0), {x}, {x} > 0.0))"


@element("Celu", cost=5, pointwise=True)
def celu(e: Element) -> str:
    """max(0, x) + min(0, alpha·(e^(x/alpha) − 1))."""
    x, alpha = e.aligned(0), e.literal(e.number("alpha", 1.0))
    return f"(max(0.0, {x}) + min(0.0, {alpha} * (exp({x} / {alpha}) - 1.0)))"


@element("ThresholdedRelu", pointwise=True)
def thresholded_relu(e: Element) -> str:
    """X where x > alpha, 0 elsewhere."""
    x = e.aligned(0)
    return f"select(0.0, {x}, {x} > {e.literal(e.number('alpha', 1.0))})"


@element("HardSigmoid", pointwise=True)
def hard_sigmoid(e: Element) -> str:
    """alpha·x + beta between 0 and 1."""
    alpha, beta = e.literal(e.number("alpha", 0.2)), e.literal(e.number("beta", 0.5))
    return f"clamp({alpha} * {e.aligned(0)} + {beta}, 0.0, 1.0)"


@element("Swish", cost=7, pointwise=True)
def swish(e: Element) -> str:
    """x·σ(alpha·x)."""
    x = e.aligned(0)
    alpha = e.literal(e.number("alpha", 1.0))
    return f"({x} * {call(e, 'sigmoid', f'{alpha} * {x}')})"


@element("Shrink", pointwise=True, applies=_is_float)
def shrink(e: Element) -> str:
    """0 within ±lambd, nearer to 0 by bias beyond."""
    x, edge, bias = e.aligned(0), e.literal(e.number("lambd", 0.5)), e.literal(e.number("bias", 0.0))
    return f"select(select(0.0, {x} - {bias}, {x} > {edge}), {x} + {bias}, {x} < -({edge}))"


@element("Gelu", cost=12, pointwise=True)
def gelu(e: Element) -> str:
    """x·Φ(x), exactly or by tanh."""
    x = e.aligned(0)
    if e.text("approximate", "none") == "tanh":
        inner = f"0.7978845608028654 * ({x} + 0.044715 * {x} * {x} * {x})"
        return f"(0.5 * {x} * (1.0 + {call(e, 'tanh_', inner)}))"
    return f"(0.5 * {x} * (1.0 + {call(e, 'erf', f'{x} * 0.7071067811865476')}))"


@element("IsInf", cost=2, pointwise=True)
def is_inf(e: Element) -> str:
    """Whether x is infinite, on the sides that count."""
    x = e.aligned(0)
    up, down = e.integer("detect_positive", 1), e.integer("detect_negative", 1)
    found = call(e, "is_inf", x)
    if up and down:
        return found
    if not up and not down:
        return "false"
    return f"({found} && {x} {'>' if up else '<'} 0.0)"


@element("Clip", pointwise=True)
def clip(e: Element) -> str:
    """max, then min: where the bounds cross, the upper one holds."""
    found = e.aligned(0)
    if e.has(1):
        found = f"max({found}, {e.input(1, ())})"
    return f"min({found}, {e.input(2, ())})" if e.has(2) else found


def _binary(name: str, text: Callable[[Element, str, str], str], cost: int = 1) -> None:
    @element(name, cost=cost, pointwise=True)
    def _two(e: Element) -> str:
        return text(e, e.aligned(0), e.aligned(1))


def _operator(sign: str) -> Callable[[Element, str, str], str]:
    return lambda e, a, b: f"({a} {sign} {b})"


for _name, _sign in {
    "Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "And": "&&", "Or": "||", "BitwiseAnd": "&", "BitwiseOr": "|",
    "BitwiseXor": "^", "Xor": "!=",
}.items():  # fmt: skip
    _binary(_name, _operator(_sign))


def _comparison(sign: str) -> Callable[[Element, str, str], str]:
    def compare(e: Element, a: str, b: str) -> str:
        if e.kind_of(0) == "bool" and sign != "==":
            return f"(u32({a}) {sign} u32({b}))"
        return f"({a} {sign} {b})"

    return compare


for _name, _sign in {
    "Equal": "==", "Less": "<", "LessOrEqual": "<=", "Greater": ">", "GreaterOrEqual": ">="
}.items():  # fmt: skip
    _binary(_name, _comparison(_sign))


def _modulus(e: Element, a: str, b: str) -> str:
    """The sign of the divisor, or with fmod of the dividend."""
    if e.integer("fmod", 0) or e.kind == "u32":
        return f"({a} % {b})"
    rest = e.shader.let(f"{a} % {b}")
    zero = e.literal(0)
    return f"select({rest}, {rest} + {b}, {rest} != {zero} && ({rest} < {zero}) != ({b} < {zero}))"


_binary("Mod", _modulus, 3)


def _power(e: Element, a: str, b: str) -> str:
    exponent = e.constant(1)
    if e.kind == "f32" and exponent is not None and exponent.size == 1:
        number = float(exponent.reshape(-1)[0])
        if number == 2.0:  # x² → x·x
            return f"({a} * {a})"
        if number == 3.0:
            return f"({a} * {a} * {a})"
        if number == 0.5:
            return f"sqrt({a})"
    if e.kind == "f32":
        e.literal(float("nan"), "f32")  # the helper names it
        e.shader.helper("power", POW)
        return f"power({a}, f32({b}))"
    if e.kind_of(1) == "f32":
        e.literal(float("nan"), "f32")
        e.shader.helper("power", POW)
        return f"{e.kind}(power(f32({a}), {b}))"
    return f"{e.kind}({call(e, 'int_power', f'i32({a})', f'i32({b})')})"


_binary("Pow", _power, 8)


def _shift(e: Element, a: str, b: str) -> str:
    return f"({a} {'<<' if e.text('direction', '') == 'LEFT' else '>>'} {b})"


_binary("BitShift", _shift)


def _variadic(name: str, join: Callable[[str, str], str]) -> None:
    @element(name, pointwise=True)
    def _many(e: Element) -> str:
        return reduce(join, [e.aligned(i) for i in range(len(e.node.inputs))])


_variadic("Max", lambda a, b: f"max({a}, {b})")
_variadic("Min", lambda a, b: f"min({a}, {b})")
_variadic("Sum", lambda a, b: f"({a} + {b})")


@element("Mean", pointwise=True)
def mean(e: Element) -> str:
    """Of the operands."""
    count = len(e.node.inputs)
    return f"(({' + '.join(e.aligned(i) for i in range(count))}) / {e.literal(count)})"


@element("Where", pointwise=True)
def where(e: Element) -> str:
    """One of two, of which only that one is computed."""
    return e.when(e.aligned(0), lambda: e.aligned(1), lambda: e.aligned(2))


_NARROW = {"INT8": (8, True), "INT16": (16, True), "UINT8": (8, False), "UINT16": (16, False)}


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
    bits, signed = _NARROW.get(dtype.name if dtype is not None else "", (32, True))
    if bits == 32 or source == "bool":
        return found
    if signed:  # the sign is that of the last bit kept
        return f"(({found} << {32 - bits}u) >> {32 - bits}u)"
    return f"({found} & {(1 << bits) - 1}u)"

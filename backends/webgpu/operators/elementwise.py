"""Operators that work element by element, their operands side by side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import onnx_ir as ir

from ....compiler.ir import constant_array
from ..expression import Element
from ..types import computed, wrapped
from .registry import element

# No shader has to keep to IEEE's rules about what is not a number: the bits say what is.
NO_NUMBER = "(bitcast<u32>({}) & 0x7fffffffu) > 0x7f800000u"
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
# Of a small one it loses digits on others: there a series. A bound makes a number of what is none: x says so again.
TANH = f"""fn tanh_(x: f32) -> f32 {{
  let s = x * x;
  let y = select(tanh(clamp(x, -15.0, 15.0)), x * (1.0 - s * (0.33333334 - s * 0.13333333)), s < 0.01);
  return select(y, x, {NO_NUMBER.format("x")});
}}"""
# 1/(1 + e^−x) needs no bound: e^−x is at worst infinite, and 1/∞ is 0; written so that it does not rely on it.
SIGMOID = f"""fn sigmoid(x: f32) -> f32 {{
  let y = 1.0 / (1.0 + exp(clamp(-x, -87.0, 87.0)));
  return select(y, x, {NO_NUMBER.format("x")});
}}"""
# (e^x ± e^−x)/2 with half of x twice: e^x overflows before its half does. Of a small x the difference loses digits.
SINH = """fn sinh_(x: f32) -> f32 {
  let s = x * x;
  let half = exp(abs(x) * 0.5);
  let y = sign(x) * (0.5 * half * half - 0.5 / half / half);
  return select(y, x * (1.0 + s * (0.16666667 + s * (0.008333334 + s * 0.0001984127))), s < 0.5);
}"""
COSH = """fn cosh_(x: f32) -> f32 {
  let half = exp(abs(x) * 0.5);
  return 0.5 * half * half + 0.5 / half / half;
}"""
# log(x + √(x² + 1)): the square overflows where log 2x is as good, and a small x drowns in 1: there a series.
ASINH = """fn asinh_(x: f32) -> f32 {
  let a = abs(x); let s = x * x;
  if (a < 0.2) { return x * (1.0 - s * (0.16666667 - s * (0.075 - s * (0.044642857 - s * 0.030381944)))); }
  if (a > 1.0e9) { return sign(x) * (log(a) + 0.6931472); }
  return sign(x) * log(a + sqrt(s + 1.0));
}"""
# log(1 + e) of a small e is its series: 1 + e has lost most of it.
SOFTPLUS = """fn softplus(x: f32) -> f32 {
  let e = exp(-abs(x));
  return max(x, 0.0) + select(log(1.0 + e), e * (1.0 - e * (0.5 - e * 0.33333334)), e < 0.01);
}"""
# tanh(log(1 + n)) = n(n + 2)/(n(n + 2) + 2) for n = e^x, which keeps its digits where n is small.
MISH = """fn mish(x: f32) -> f32 {
  let n = exp(min(x, 20.0)); let m = n * (n + 2.0);
  return x * (m / (m + 2.0));
}"""
IS_NAN = f"fn is_nan(x: f32) -> bool {{ return {NO_NUMBER.format('x')}; }}"
IS_INF = "fn is_inf(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }"
# WGSL's own maximum of a number and what is none is the number.
MAXIMUM, MINIMUM = (
    f"fn {name}(a: f32, b: f32) -> f32 {{\n"
    f"  return select(select({own}(a, b), b, {NO_NUMBER.format('b')}), a, {NO_NUMBER.format('a')});\n}}"
    for name, own in (("maximum", "max"), ("minimum", "min"))
)
# WGSL's pow is exp2(y·log2 x), undefined below 0: integer powers keep the sign. What is not a number has a power only
# where every number has the same.
POW = """fn power(x: f32, y: f32) -> f32 {
  let a = is_nan(x);
  let b = is_nan(y);
  if ((!b && y == 0.0) || (!a && x == 1.0)) { return 1.0; }
  if (a) { return x; }
  if (b) { return y; }
  if (x == 0.0) { return select(0.0, 1.0 / x, y < 0.0); }
  let p = pow(abs(x), y);
  if (x > 0.0) { return p; }
  if (floor(y) != y) { return from_bits(0x7fc00000u); }
  return select(p, -p, floor(y * 0.5) * 2.0 != y);
}"""
INT_POW = """fn int_power(x: i32, y: i32) -> i32 {
  var base = x; var n = y; var found = 1;
  while (n > 0) { if ((n & 1) == 1) { found = found * base; } base = base * base; n = n >> 1u; }
  return found;
}"""
HELPERS = {
    "erf": ERF,
    "tanh_": TANH,
    "sigmoid": SIGMOID,
    "softplus": SOFTPLUS,
    "mish": MISH,
    "sinh_": SINH,
    "cosh_": COSH,
    "asinh_": ASINH,
    "is_nan": IS_NAN,
    "is_inf": IS_INF,
    "int_power": INT_POW,
    "maximum": MAXIMUM,
    "minimum": MINIMUM,
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


def _sign_of(e: Element, x: str) -> str:
    """ONNX Runtime's sign of what is not a number is 0 in half precision, as WGSL's is; in single it stays."""
    if e.kind == "u32":
        return f"select(0u, 1u, {x} > 0u)"
    return f"select(sign({x}), {x}, {call(e, 'is_nan', x)})" if e.value.dtype == ir.DataType.FLOAT else f"sign({x})"


_unary("Abs", lambda e, x: x if e.kind == "u32" else f"abs({x})", floats=False)
_unary("Neg", lambda e, x: wrapped(f"(-{x})", e.value.dtype), floats=False)
_unary("Sign", _sign_of, floats=False)
_unary("Not", lambda e, x: f"(!{x})", floats=False)
_unary("Identity", lambda e, x: x, 0, floats=False)
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
_unary("Atan", lambda e, x: f"select(atan({x}), {x}, {call(e, 'is_nan', x)})", 6)
_unary("Sinh", lambda e, x: call(e, "sinh_", x), 6)
_unary("Cosh", lambda e, x: call(e, "cosh_", x), 6)
_unary("Asinh", lambda e, x: call(e, "asinh_", x), 6)
_unary("Acosh", lambda e, x: f"acosh({x})", 6)
_unary("Atanh", lambda e, x: f"atanh({x})", 6)
_unary("Tanh", lambda e, x: call(e, "tanh_", x), 6)
_unary("Erf", lambda e, x: call(e, "erf", x), 10)
_unary("Sigmoid", lambda e, x: call(e, "sigmoid", x), 6)
_unary("Softplus", lambda e, x: call(e, "softplus", x), 8)
_unary("Softsign", lambda e, x: f"({x} / (1.0 + abs({x})))", 2)
# Comparisons with what is not a number are false: it stays, where max would put 0 (if the driver keeps to IEEE).
_unary("Relu", lambda e, x: f"select({x}, {e.literal(0)}, {x} < {e.literal(0)})", floats=False)
_unary("HardSwish", lambda e, x: f"({x} * clamp({x} / 6.0 + 0.5, 0.0, 1.0))", 3)
_unary("Mish", lambda e, x: call(e, "mish", x), 12)
_unary("IsNaN", lambda e, x: call(e, "is_nan", x), 2)


def _not_training(node: ir.Node) -> bool:
    """Whether a Dropout lets everything through."""

    def is_zero(number: int) -> bool:
        value = node.inputs[number] if number < len(node.inputs) else None
        known = None if value is None else constant_array(value, 1)
        return known is not None and not known.any()

    return len(node.inputs) < 3 or node.inputs[2] is None or is_zero(2) or is_zero(1)


@element("Dropout", cost=0, pointwise=True, applies=_not_training)
def dropout(e: Element) -> str:
    """What goes in; the mask is true everywhere."""
    return e.aligned(0) if e.value is e.node.outputs[0] else "true"


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
    return f"select(max(0.0, {x}) + min(0.0, {alpha} * (exp({x} / {alpha}) - 1.0)), {x}, {call(e, 'is_nan', x)})"


@element("ThresholdedRelu", pointwise=True)
def thresholded_relu(e: Element) -> str:
    """X where x > alpha, 0 elsewhere."""
    x = e.aligned(0)
    return f"select(0.0, {x}, {x} > {e.literal(e.number('alpha', 1.0))})"


@element("HardSigmoid", pointwise=True)
def hard_sigmoid(e: Element) -> str:
    """alpha·x + beta between 0 and 1."""
    alpha, beta = e.literal(e.number("alpha", 0.2)), e.literal(e.number("beta", 0.5))
    x = e.aligned(0)
    return f"select(clamp({alpha} * {x} + {beta}, 0.0, 1.0), {x}, {call(e, 'is_nan', x)})"


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
    """The lower bound, then the upper: where they cross, the upper one holds. What is not a number is in neither."""
    found = e.aligned(0)
    if e.has(1):
        low = e.scalar(1)
        found = e.shader.let(f"select({found}, {low}, {found} < {low})", "above")
    if not e.has(2):
        return found
    high = e.scalar(2)
    return f"select({found}, {high}, {found} > {high})"


def _binary(name: str, text: Callable[[Element, str, str], str], cost: int = 1) -> None:
    @element(name, cost=cost, pointwise=True)
    def _two(e: Element) -> str:
        return text(e, e.aligned(0), e.aligned(1))


def _operator(sign: str) -> Callable[[Element, str, str], str]:
    return lambda e, a, b: wrapped(f"({a} {sign} {b})", e.value.dtype)


for _name, _sign in {
    "Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "And": "&&", "Or": "||", "Xor": "!=",
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
    if e.kind == "f32" or e.kind_of(1) == "f32":
        e.literal(float("nan"), "f32")  # the helper names it
        e.shader.helper("is_nan", IS_NAN)
        e.shader.helper("power", POW)
        found = f"power(f32({a}), f32({b}))"
        return found if e.kind == "f32" else f"{e.kind}({found})"
    return wrapped(f"{e.kind}({call(e, 'int_power', f'i32({a})', f'i32({b})')})", e.value.dtype)


_binary("Pow", _power, 8)


def _variadic(name: str, join: Callable[[Element, str, str], str]) -> None:
    @element(name, pointwise=True)
    def _many(e: Element) -> str:
        return reduce(partial(join, e), [e.aligned(i) for i in range(len(e.node.inputs))])


_variadic("Max", lambda e, a, b: call(e, "maximum", a, b) if e.kind == "f32" else f"max({a}, {b})")
_variadic("Min", lambda e, a, b: call(e, "minimum", a, b) if e.kind == "f32" else f"min({a}, {b})")
_variadic("Sum", lambda e, a, b: f"({a} + {b})")


@element("Mean", pointwise=True)
def mean(e: Element) -> str:
    """Of the operands."""
    count = len(e.node.inputs)
    return f"(({' + '.join(e.aligned(i) for i in range(count))}) / {e.literal(count)})"


@element("Where", pointwise=True)
def where(e: Element) -> str:
    """One of two, of which only that one is computed."""
    return e.when(e.aligned(0), lambda: e.aligned(1), lambda: e.aligned(2))


@element("BatchNormalization", cost=5, pointwise=True, applies=lambda node: not _training(node) and _is_float(node))
def batch_normalization(e: Element) -> str:
    """(x − mean)/√(variance + ε)·scale + shift, of its channel."""
    channel = (e.at[1] if len(e.at) > 1 else 0,)
    scale, shift, mean, variance = (e.input(number, channel) for number in range(1, 5))
    epsilon = e.literal(e.number("epsilon", 1e-5))
    return f"(({e.aligned(0)} - {mean}) * inverseSqrt({variance} + {epsilon}) * {scale} + {shift})"


def _training(node: ir.Node) -> bool:
    mode = node.attributes.get("training_mode")
    return mode is not None and bool(mode.as_int())

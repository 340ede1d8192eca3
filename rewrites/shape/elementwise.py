"""Operators that treat every element by itself: layout operators may pass them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ...compiler.rule import Drift, Phase, Rule, rule

# Operators of one operand, with the element type and attributes their examples use.
UNARY: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "Abs": ("f32", {}),
        "Cast": ("f32", {"to": 11}),
        "Ceil": ("f32", {}),
        "Celu": ("f32", {"alpha": 0.5}),
        "Cos": ("f32", {}),
        "Elu": ("f32", {"alpha": 0.5}),
        "Erf": ("f32", {}),
        "Exp": ("f32", {}),
        "Floor": ("f32", {}),
        "Gelu": ("f32", {"approximate": "tanh"}),
        "HardSigmoid": ("f32", {"alpha": 0.25}),
        "HardSwish": ("f32", {}),
        "IsInf": ("f32", {}),
        "IsNaN": ("f32", {}),
        "LeakyRelu": ("f32", {"alpha": 0.25}),
        "Log": ("f32", {}),
        "Mish": ("f32", {}),
        "Neg": ("i32", {}),
        "Not": ("b", {}),
        "Reciprocal": ("f32", {}),
        "Relu": ("f32", {}),
        "Round": ("f32", {}),
        "Selu": ("f32", {}),
        "Sigmoid": ("f32", {}),
        "Sign": ("f32", {}),
        "Sin": ("f32", {}),
        "Softplus": ("f32", {}),
        "Softsign": ("f32", {}),
        "Sqrt": ("f32", {}),
        "Tanh": ("f32", {}),
        "ThresholdedRelu": ("f32", {"alpha": 0.5}),
    }
)

# Operators of two operands that broadcast against each other, with the element type their examples use.
BINARY: Mapping[str, str] = MappingProxyType(
    {
        "Add": "f32",
        "And": "b",
        "Div": "f32",
        "Equal": "i64",
        "Greater": "f32",
        "GreaterOrEqual": "f32",
        "Less": "f32",
        "LessOrEqual": "f32",
        "Max": "f32",
        "Min": "f32",
        "Mul": "f16",
        "Or": "b",
        "Pow": "f32",
        "Sub": "i64",
        "Xor": "b",
    }
)
# Everything else is approximated by polynomials: a vector unit's result and that of the loop over what is left at
# the end of an array differ in the last place, so moving an element to another position may change it.
EXACT = frozenset(
    {"Abs", "Cast", "Ceil", "Floor", "IsInf", "IsNaN", "LeakyRelu", "Neg", "Not", "Relu", "Round", "Sign", "Sqrt"}
    | (BINARY.keys() - {"Pow"})
)


def declare(
    function: Callable[..., Any],
    name: str,
    statement: str,
    *patterns: Any,
    drift: Drift,
    phase: Phase,
    peers: str,
    example: Any,
    refuse: Any = (),
) -> Rule:
    """One member of a family of rules that differ only in an operator; arguments as in `rule`.

    Args:
        function: the guard and the result.
        name: of the rule.
        statement: its identity.
        patterns: what it finds.
        drift: as in `rule`.
        phase: as in `rule`.
        peers: as in `rule`.
        example: as in `rule`.
        refuse: as in `rule`.
    """
    function.__name__, function.__doc__ = name, statement
    return rule(*patterns, drift=drift, phase=phase, peers=peers, example=example, refuse=refuse)(function)


def moved(operator: str) -> Drift:
    """The drift of computing elements at other positions."""
    return "none" if operator in EXACT else "rounding"


def snake(operator: str) -> str:
    """An operator's name as it stands in a rule's name: `hard_sigmoid` for `HardSigmoid`."""
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(operator))

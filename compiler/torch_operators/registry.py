"""The table of operators: (domain, type) → the rule that writes it in torch.

A rule is called with an `Operation` and one argument for each input of the node. While a graph is being built the
arguments are `torch.fx.Proxy` objects, so that each torch call the rule makes becomes an FX node; while constants are
folded they are tensors. Rules are therefore written, and annotated, as ordinary functions on tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Rule = Callable[..., Any]
F = TypeVar("F", bound=Rule)


class Unsupported(Exception):
    """A rule cannot express this node; the text is a clause that says why."""


@dataclass(frozen=True)
class Registration:
    """A rule and what the graph builder has to know about it.

    Attributes:
        rule: `(operation, *inputs) -> tensor, sequence of outputs, or integers`.
        folds: may be evaluated at once when every input is a constant.
        pointwise: a host scalar may meet device tensors without being moved.
        widens: integers that torch stores but does not compute on (`uint16`…) are widened to `int64` around the rule.
        host: the result describes a shape: it lives on the CPU whatever device the input is on.
        creates: makes its result out of sizes, so that it belongs on the model's device.
        like: the input whose type and rank the first output has; for operators that ONNX has no schema of.
    """

    rule: Rule
    folds: bool = True
    pointwise: bool = False
    widens: bool = False
    host: bool = False
    creates: bool = False
    like: int | None = None


RULES: dict[tuple[str, str], Registration] = {}
INTEGER_RULES: dict[str, Rule] = {}


def operator(
    *names: str,
    domain: str = "",
    folds: bool = True,
    pointwise: bool = False,
    widens: bool = False,
    host: bool = False,
    creates: bool = False,
    like: int | None = None,
) -> Callable[[F], F]:
    """Register the decorated rule for the operators `names` of one domain (`""` is `ai.onnx`)."""

    def register(rule: F) -> F:
        for name in names:
            if (domain, name) in RULES:
                raise ValueError(f"two rules for {domain}::{name}")
            RULES[domain, name] = Registration(rule, folds, pointwise, widens, host, creates, like)
        return rule

    return register


def integer_operator(*names: str) -> Callable[[F], F]:
    """Register a rule on integers known element by element; it returns `None` where it does not apply."""

    def register(rule: F) -> F:
        for name in names:
            if name in INTEGER_RULES:
                raise ValueError(f"two integer rules for {name}")
            INTEGER_RULES[name] = rule
        return rule

    return register

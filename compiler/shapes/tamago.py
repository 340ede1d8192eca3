"""tamago's own operators, as each says itself."""

from __future__ import annotations

from ..operators import DOMAIN, OPERATORS, Operator
from .call import Call, Known, Rule


def _rule(operator: Operator) -> Rule:
    def shapes(call: Call) -> list[Known]:
        return [(call.dtype(), operator.shape(call.shape(), call.shape(operator.weight)))]

    return shapes


RULES: dict[str, Rule] = {f"{DOMAIN}::{name}": _rule(operator) for name, operator in OPERATORS.items()}

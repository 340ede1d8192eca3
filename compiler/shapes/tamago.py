"""tamago's own operators, as each says itself."""

from __future__ import annotations

from ..operators import DOMAIN, OPERATORS, Operator
from .call import Call, Known, Rule


def _rule(operator: Operator) -> Rule:
    def shapes(call: Call) -> list[Known]:
        shapes = operator.shapes([call.shape(i) for i in range(len(call.operands))])
        return [(call.dtype(i), shape) for i, shape in zip(operator.like, shapes, strict=True)]

    return shapes


RULES: dict[str, Rule] = {f"{DOMAIN}::{name}": _rule(operator) for name, operator in OPERATORS.items()}

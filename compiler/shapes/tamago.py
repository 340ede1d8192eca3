"""tamago's own operators, as each says itself."""

from __future__ import annotations

from ..operators import DOMAIN, OPERATORS, Operator
from .call import Call, Known, Rule
from .convolution import conv_shape


def _rule(operator: Operator) -> Rule:
    def convolved(call: Call) -> list[Known]:
        shape = conv_shape(call, call.shape(0), call.shape(1))
        if operator.projects is not None and shape is not None:
            projection = call.shape(operator.projects)
            shape = (shape[0], None if projection is None else projection[0], *shape[2:])
        if operator.channels_last and shape is not None:
            shape = (shape[0], *shape[2:], shape[1])
        found: list[Known] = [(call.dtype(0), shape)]
        if operator.pools:
            found.append((call.dtype(0), None if shape is None else (*shape[:2], *(1 for _ in shape[2:]))))
        return found

    def shapes(call: Call) -> list[Known]:
        shapes = operator.shapes([call.shape(i) for i in range(len(call.operands))])
        return [(call.dtype(i), shape) for i, shape in zip(operator.like, shapes, strict=True)]

    return convolved if operator.convolves else shapes


RULES: dict[str, Rule] = {f"{DOMAIN}::{name}": _rule(operator) for name, operator in OPERATORS.items()}

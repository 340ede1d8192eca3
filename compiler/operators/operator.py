"""What there is to say of an operator: its text as an ONNX function, and what it looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import onnx.parser
import onnx_ir as ir

from ..facts import Shape

DOMAIN = "ai.tamago"
MICROSOFT = "com.microsoft"
VERSION = 1


@dataclass(frozen=True)
class Operator:
    """An operator and its meaning.

    Args:
        name: its type in the domain `ai.tamago`.
        statement: what it computes, as algebra.
        text: the function in ONNX's text form, without the header that names the domain and the opset.
        samples: operands as rules' examples write them, for tests.
        weight: which operand is the weight whose rows are the result's columns; None: `like` says what results are.
        like: for each output, the operand whose dtype and shape it has.
        opset: of the standard operators in the body.
        convolves: results are as large as a convolution of the first two operands is.
        channels_last: and the channels are their last axis.
        pools: results have one pixel for all of the first operand's; where it convolves, a second result has.
        projects: and the channels are as many as this operand has rows.
    """

    name: str
    statement: str
    text: str
    samples: tuple[dict[str, str], ...]
    weight: int | None = None
    like: tuple[int, ...] = (0,)
    opset: int = 23
    convolves: bool = False
    channels_last: bool = False
    pools: bool = False
    projects: int | None = None

    def function(self) -> ir.Function:
        """The body, as a function of its own."""
        imports = f'"" : {self.opset}' + (f', "{MICROSOFT}" : 1' if MICROSOFT in self.text else "")
        header = f'<opset_import: [{imports}], domain: "{DOMAIN}">'
        return ir.serde.deserialize_function(_parsed(header + self.text))

    def shapes(self, operands: Sequence[Shape | None]) -> list[Shape | None]:
        """The results' dimensions: those of what they are like, the last one the number of a weight's rows."""
        found = [operands[i] for i in self.like]
        if self.pools:
            return [None if x is None else (*x[:2], *(1 for _ in x[2:])) for x in found]
        if self.weight is None:
            return found
        x, weight = found[0], operands[self.weight]
        if x is None or not weight or not x:
            return [None]
        return [(*x[:-1], weight[0])]


@cache
def _parsed(text: str) -> onnx.FunctionProto:
    return onnx.parser.parse_function(text)

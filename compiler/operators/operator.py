"""What there is to say of an operator: its text as an ONNX function, and what it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import onnx.parser
import onnx_ir as ir

from ..facts import Shape

DOMAIN = "ai.tamago"
VERSION = 1


@dataclass(frozen=True)
class Operator:
    """An operator and its meaning.

    Args:
        name: its type in the domain `ai.tamago`.
        statement: what it computes, as algebra.
        text: the function in ONNX's text form, without the header that names the domain and the opset.
        weight: which operand is the weight whose rows are the result's columns.
        opset: of the standard operators in the body.
        samples: operands as rules' examples write them, for tests.
    """

    name: str
    statement: str
    text: str
    weight: int
    samples: tuple[dict[str, str], ...]
    opset: int = 23

    def function(self) -> ir.Function:
        """The body, as a function of its own."""
        header = f'<opset_import: ["" : {self.opset}], domain: "{DOMAIN}">'
        return ir.serde.deserialize_function(_parsed(header + self.text))

    def shape(self, x: Shape | None, weight: Shape | None) -> Shape | None:
        """The result's dimensions: those of x, the last one the number of the weight's rows."""
        if x is None or weight is None or not x or len(weight) != 2:
            return None
        return (*x[:-1], weight[0])


@cache
def _parsed(text: str) -> onnx.FunctionProto:
    return onnx.parser.parse_function(text)

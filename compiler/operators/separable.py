"""A depthwise convolution, an activation, and the 1x1 convolution that alone reads it with what is done to its result.

The names say both: `SeparableRelu6ConvAdd` has Relu6 between the convolutions and a sum at the end (MobileNetV2).
"""

from __future__ import annotations

from dataclasses import dataclass

from .epilogue import ACTIVATIONS, Epilogue
from .operator import Operator

FIRSTS = ("", "Relu", "Relu6", "Silu", "HardSwish")
MOST_TAPS = 25


@dataclass(frozen=True)
class Separable:
    """What lies between the two convolutions, and what follows them."""

    first: str
    epilogue: Epilogue

    @property
    def name(self) -> str:
        """The operator's."""
        return f"Separable{self.first}Conv{self.epilogue.name}"


# The projection of an inverted block is not activated (MobileNetV2); that of MobileNetV1 is, as the first is.
KINDS: tuple[Separable, ...] = (
    *(Separable(first, Epilogue()) for first in FIRSTS),
    *(Separable(first, Epilogue(residual=True)) for first in FIRSTS),
    *(Separable(first, Epilogue(first)) for first in FIRSTS if first),
)


def _separable(kind: Separable) -> Operator:
    rest = ", r" if kind.epilogue.residual else ""
    between = ACTIVATIONS[kind.first].format(x="d", y="t")
    inner = f"{kind.first}(d)" if kind.first else "d"
    return Operator(
        kind.name,
        f"{kind.name}(x, w, b, v, c{rest}) = {kind.epilogue.statement} with p = Conv({inner}, v, c), d = Conv(x, w, b)",
        f"""
        {kind.name} <strides, pads, group> (x, w, b, v, c{rest}) => (y) {{
            d = Conv <strides : ints = @strides, pads : ints = @pads, group : int = @group> (x, w, b)
            {between}
            p = Conv (t, v, c)
            {kind.epilogue.text}
        }}
        """,
        samples=tuple(
            {"x": f"{t}[2,8,5,6]", "w": f"{t}[8,1,3,3]", "b": f"{t}[8]", "v": f"{t}[6,8,1,1]", "c": f"{t}[6]"}
            | ({"r": f"{t}[2,6,3,6]"} if rest else {})
            | {"strides": "ints 2 1", "pads": "ints 1 0 1 2", "group": "8"}
            for t in ("f32", "f16")
        ),
        weight=1,
        convolves=True,
        projects=3,
    )


SEPARABLES = tuple(map(_separable, KINDS))

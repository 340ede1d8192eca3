"""A depthwise convolution, an activation, and squeeze-and-excitation of its result: both are results.

The names say all: `ConvSiluSqueezeExciteSiluSigmoid` has Silu after the convolution (EfficientNet).
"""

from __future__ import annotations

from dataclasses import dataclass

from .epilogue import ACTIVATIONS
from .operator import Operator
from .squeeze_excite import GATES, Kind


@dataclass(frozen=True)
class DepthwiseSqueeze:
    """What follows the convolution, and what weighs the channels of that."""

    first: str
    squeeze: Kind

    @property
    def name(self) -> str:
        """The operator's."""
        return f"Conv{self.first}{self.squeeze.name}"


# EfficientNet, MnasNet and MobileNetV3, and their relatives' gates.
KINDS = (
    *(DepthwiseSqueeze("Silu", Kind(activation, "Sigmoid")) for activation in ("Silu", "Relu")),
    *(DepthwiseSqueeze(first, Kind("Relu", gate)) for first in ("Relu", "HardSwish") for gate in GATES),
)


def _operator(kind: DepthwiseSqueeze) -> Operator:
    squeeze = f"{kind.squeeze.name}(y, v, c, u, d)"
    return Operator(
        kind.name,
        f"{kind.name}(x, w, b, v, c, u, d) = (y, {squeeze}) with y = {kind.first}(Conv(x, w, b))",
        f"""
        {kind.name} <strides, pads, group> (x, w, b, v, c, u, d) => (y, s) {{
            p = Conv <strides : ints = @strides, pads : ints = @pads, group : int = @group> (x, w, b)
            {ACTIVATIONS[kind.first].format(x="p", y="y")}
            {kind.squeeze.text("y", "s", ("v", "c", "u", "d"))}
        }}
        """,
        samples=tuple(
            {"x": f"{t}[2,12,5,6]", "w": f"{t}[12,1,3,3]", "b": f"{t}[12]"}
            | {"v": f"{t}[4,12,1,1]", "c": f"{t}[4]", "u": f"{t}[12,4,1,1]", "d": f"{t}[12]"}
            | {"strides": "ints 2 1", "pads": "ints 1 0 1 2", "group": "12"}
            for t in ("f32", "f16")
        ),
        weight=1,
        like=(0, 0),
        convolves=True,
        pools=True,
    )


DEPTHWISE_SQUEEZES = tuple(map(_operator, KINDS))

"""Squeeze-and-excitation (Hu et al., 2018): what weighs a picture's channels, computed from their means."""

from __future__ import annotations

from dataclasses import dataclass

from .epilogue import ACTIVATIONS
from .operator import Operator

SIXTH = 0.16666667163372040  # in single precision, as exporters write HardSigmoid's slope
GATES = {
    "Sigmoid": "y = Sigmoid (q)",
    "HardSigmoid": f"y = HardSigmoid <alpha = {SIXTH:.17f}, beta = 0.5> (q)",
}


@dataclass(frozen=True)
class Kind:
    """gate(v·activation(w·mean(x) + b) + c)."""

    activation: str
    gate: str

    @property
    def name(self) -> str:
        """The operator's."""
        return f"SqueezeExcite{self.activation}{self.gate}"


def _operator(kind: Kind) -> Operator:
    return Operator(
        kind.name,
        f"{kind.name}(x, w, b, v, c) = {kind.gate}(Conv({kind.activation}(Conv(mean of x, w, b)), v, c))",
        f"""
        {kind.name} (x, w, b, v, c) => (y) {{
            mean = GlobalAveragePool (x)
            p = Conv (mean, w, b)
            {ACTIVATIONS[kind.activation].format(x="p", y="small")}
            q = Conv (small, v, c)
            {GATES[kind.gate]}
        }}
        """,
        samples=tuple(
            {"x": f"{t}[2,12,5,3]", "w": f"{t}[4,12,1,1]", "b": f"{t}[4]", "v": f"{t}[12,4,1,1]", "c": f"{t}[12]"}
            for t in ("f32", "f16")
        ),
        pools=True,
    )


KINDS = tuple(Kind(activation, gate) for activation in ("Relu", "Silu", "HardSwish") for gate in GATES)
SQUEEZE_EXCITES = tuple(map(_operator, KINDS))

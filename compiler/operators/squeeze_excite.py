"""Squeeze-and-excitation (Hu et al., 2018): what weighs a picture's channels, computed from their means."""

from __future__ import annotations

from dataclasses import dataclass

from .epilogue import ACTIVATIONS
from .operator import Operator

SIXTH = 0.16666667163372040  # in single precision, as exporters write HardSigmoid's slope
GATES = {  # as `epilogue.ACTIVATIONS`
    "Sigmoid": "{y} = Sigmoid ({x})",
    "HardSigmoid": f"{{y}} = HardSigmoid <alpha = {SIXTH:.17f}, beta = 0.5> ({{x}})",
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

    def text(self, x: str, y: str, operands: tuple[str, str, str, str]) -> str:
        """The lines of a function that make y of x and of the two layers' weights and biases."""
        w, b, v, c = operands
        return f"""
            mean = GlobalAveragePool ({x})
            inner = Conv (mean, {w}, {b})
            {ACTIVATIONS[self.activation].format(x="inner", y="small")}
            outer = Conv (small, {v}, {c})
            {GATES[self.gate].format(x="outer", y=y)}
        """


def _operator(kind: Kind) -> Operator:
    return Operator(
        kind.name,
        f"{kind.name}(x, w, b, v, c) = {kind.gate}(Conv({kind.activation}(Conv(mean of x, w, b)), v, c))",
        f"""
        {kind.name} (x, w, b, v, c) => (y) {{
            {kind.text("x", "y", ("w", "b", "v", "c"))}
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

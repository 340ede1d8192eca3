"""What a product's or convolution's result goes through before it is written: an activation, a sum, another activation.

An operator's name says which: `ConvSilu`, `ConvAdd`, `ConvAddRelu`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Each writes `{y}` from `{x}`; what lies between them is named after `{y}`, so that a function may hold several.
ACTIVATIONS: Mapping[str, str] = {
    "": "{y} = Identity ({x})",
    "Relu": "{y} = Relu ({x})",
    "Relu6": """
        {y}_zero = Constant <value_float = 0.0> ()
        {y}_six = Constant <value_float = 6.0> ()
        {y}_low = CastLike ({y}_zero, {x})
        {y}_high = CastLike ({y}_six, {x})
        {y} = Clip ({x}, {y}_low, {y}_high)
    """,
    "Sigmoid": "{y} = Sigmoid ({x})",
    "Silu": """
        {y}_gate = Sigmoid ({x})
        {y} = Mul ({x}, {y}_gate)
    """,
    "HardSwish": "{y} = HardSwish ({x})",
    "Gelu": "{y} = Gelu ({x})",
    "GeluTanh": '{y} = Gelu <approximate = "tanh"> ({x})',
}


@dataclass(frozen=True)
class Epilogue:
    """y = after(activation(p) + r); an empty name is the identity, and without `residual` there is no r."""

    activation: str = ""
    residual: bool = False
    after: str = ""

    @property
    def name(self) -> str:
        """What it adds to an operator's name."""
        return self.activation + ("Add" if self.residual else "") + self.after

    @property
    def text(self) -> str:
        """The lines of a function that make y of p, and of r."""
        if not self.residual:
            return ACTIVATIONS[self.activation].format(x="p", y="y")
        first = ACTIVATIONS[self.activation].format(x="p", y="active")
        return first + "\ntotal = Add (active, r)\n" + ACTIVATIONS[self.after].format(x="total", y="y")

    @property
    def statement(self) -> str:
        """As algebra, of p."""
        inner = f"{self.activation}(p)" if self.activation else "p"
        inner += " + r" if self.residual else ""
        return f"{self.after}({inner})" if self.after else inner


# Those that models have: the branch that a sum ends is seldom activated before it.
EPILOGUES: tuple[Epilogue, ...] = (
    *(Epilogue(name) for name in ACTIVATIONS),
    Epilogue(residual=True),
    Epilogue(residual=True, after="Relu"),
)

"""Two products of many rows with an activation between them: a transformer's feed-forward layer."""

from __future__ import annotations

from .epilogue import ACTIVATIONS
from .operator import Operator


def name_of(activation: str, *, residual: bool) -> str:
    """The operator's type."""
    return f"MLP{activation}{'Add' if residual else ''}"


def _mlp(activation: str, *, residual: bool) -> Operator:
    name, rest, more = name_of(activation, residual=residual), *((", r", " + r") if residual else ("", ""))
    return Operator(
        name,
        f"{name}(x, w, b, v, c{rest}) = {activation}(x·wᵀ + b)·vᵀ + c{more}",
        f"""
        {name} (x, w, b, v, c{rest}) => (y) {{
            first = Transpose <perm = [1, 0]> (w)
            m = MatMul (x, first)
            p = Add (m, b)
            {ACTIVATIONS[activation].format(x="p", y="hidden")}
            second = Transpose <perm = [1, 0]> (v)
            n = MatMul (hidden, second)
            {"q = Add (n, c)" if residual else "y = Add (n, c)"}
            {"y = Add (q, r)" if residual else ""}
        }}
        """,
        samples=tuple(
            {"x": f"{t}[2,3,24]", "w": f"{t}[40,24]", "b": f"{t}[40]", "v": f"{t}[16,40]", "c": f"{t}[16]"}
            | ({"r": f"{t}[2,3,16]"} if residual else {})
            for t in ("f32", "f16")
        ),
        weight=3,
    )


MLPS = tuple(
    _mlp(activation, residual=residual) for activation in ACTIVATIONS if activation for residual in (False, True)
)

"""Two products of many rows with an activation between them: a transformer's feed-forward layer.

`NormMLP…` normalise the rows first.
"""

from __future__ import annotations

from .epilogue import ACTIVATIONS
from .operator import Operator


def name_of(activation: str, *, residual: bool, normed: bool = False) -> str:
    """The operator's type."""
    return f"{'Norm' if normed else ''}MLP{activation}{'Add' if residual else ''}"


def _mlp(activation: str, *, residual: bool, normed: bool) -> Operator:
    name = name_of(activation, residual=residual, normed=normed)
    operands = ["x", "w", "b", "v", "c", *(("s", "t") if normed else ()), *(("r",) if residual else ())]
    read = "LayerNormalization(x, s, t)" if normed else "x"
    statement = f"{activation}({read}·wᵀ + b)·vᵀ + c{' + r' if residual else ''}"
    norm = "rows = LayerNormalization <axis = -1, epsilon : float = @epsilon> (x, s, t)" if normed else ""
    return Operator(
        name,
        f"{name}({', '.join(operands)}) = {statement}",
        f"""
        {name} {"<epsilon> " if normed else ""}({", ".join(operands)}) => (y) {{
            {norm}
            first = Transpose <perm = [1, 0]> (w)
            m = MatMul ({"rows" if normed else "x"}, first)
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
            | ({"s": f"{t}[24]", "t": f"{t}[24]"} if normed else {})
            | ({"r": f"{t}[2,3,16]"} if residual else {})
            | ({"epsilon": "1e-3"} if normed else {})
            for t in ("f32", "f16")
        ),
        weight=3,
    )


def _mlps(*, normed: bool) -> tuple[Operator, ...]:
    kinds = ((activation, residual) for activation in ACTIVATIONS if activation for residual in (False, True))
    return tuple(_mlp(activation, residual=residual, normed=normed) for activation, residual in kinds)


MLPS, NORM_MLPS = _mlps(normed=False), _mlps(normed=True)

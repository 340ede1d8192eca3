"""Products of many rows with a constant matrix, plus a bias, with what is done to their results.

`NormAffine…` normalise the rows first.
"""

from __future__ import annotations

from .epilogue import EPILOGUES, Epilogue
from .operator import Operator


def _affine(epilogue: Epilogue, *, normed: bool) -> Operator:
    name = f"{'Norm' if normed else ''}Affine{epilogue.name}"
    operands = ", ".join(["x", "w", "b", *(("s", "t") if normed else ()), *(("r",) if epilogue.residual else ())])
    read = "LayerNormalization(x, s, t)" if normed else "x"
    norm = "rows = LayerNormalization <axis = -1, epsilon : float = @epsilon> (x, s, t)" if normed else ""

    def sample(kind: str, rows: str, k: int, n: int) -> dict[str, str]:
        found = {"x": f"{kind}[{rows},{k}]", "w": f"{kind}[{n},{k}]", "b": f"{kind}[{n}]"}
        found |= {"s": f"{kind}[{k}]", "t": f"{kind}[{k}]", "epsilon": "1e-3"} if normed else {}
        return found | ({"r": f"{kind}[{rows},{n}]"} if epilogue.residual else {})

    return Operator(
        name,
        f"{name}({operands}) = {epilogue.statement} with p = {read}·wᵀ + b",
        f"""
        {name} {"<epsilon> " if normed else ""}({operands}) => (y) {{
            {norm}
            v = Transpose <perm = [1, 0]> (w)
            m = MatMul ({"rows" if normed else "x"}, v)
            p = Add (m, b)
            {epilogue.text}
        }}
        """,
        samples=(sample("f32", "2,3", 32, 24), sample("f16", "5", 64, 40)),
        weight=1,
    )


AFFINES = tuple(_affine(epilogue, normed=False) for epilogue in EPILOGUES)
NORM_AFFINES = tuple(_affine(epilogue, normed=True) for epilogue in EPILOGUES)

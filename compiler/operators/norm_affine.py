"""Products of many rows that LayerNorm comes ahead of, plus a bias, with what is done to their results."""

from __future__ import annotations

from .epilogue import EPILOGUES, Epilogue
from .operator import Operator


def _norm_affine(epilogue: Epilogue) -> Operator:
    rest = ", r" if epilogue.residual else ""
    name = f"NormAffine{epilogue.name}"
    return Operator(
        name,
        f"{name}(x, w, b, s, t{rest}) = {epilogue.statement} with p = LayerNormalization(x, s, t)·wᵀ + b",
        f"""
        {name} <epsilon> (x, w, b, s, t{rest}) => (y) {{
            n = LayerNormalization <axis = -1, epsilon : float = @epsilon> (x, s, t)
            v = Transpose <perm = [1, 0]> (w)
            m = MatMul (n, v)
            p = Add (m, b)
            {epilogue.text}
        }}
        """,
        samples=(
            {
                **{"x": "f32[2,3,32]", "w": "f32[24,32]", "b": "f32[24]", "s": "f32[32]", "t": "f32[32]"},
                **({"r": "f32[2,3,24]"} if rest else {}),
                "epsilon": "1e-3",
            },
            {
                **{"x": "f16[5,64]", "w": "f16[40,64]", "b": "f16[40]", "s": "f16[64]", "t": "f16[64]"},
                **({"r": "f16[5,40]"} if rest else {}),
                "epsilon": "1e-3",
            },
        ),
        weight=1,
    )


NORM_AFFINES = tuple(map(_norm_affine, EPILOGUES))

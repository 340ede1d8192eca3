"""Products of many rows with a constant matrix, plus a bias, with what is done to their results."""

from __future__ import annotations

from .epilogue import EPILOGUES, Epilogue
from .operator import Operator


def _affine(epilogue: Epilogue) -> Operator:
    rest = ", r" if epilogue.residual else ""
    return Operator(
        f"Affine{epilogue.name}",
        f"Affine{epilogue.name}(x, w, b{rest}) = {epilogue.statement} with p = x·wᵀ + b",
        f"""
        Affine{epilogue.name} (x, w, b{rest}) => (y) {{
            v = Transpose <perm = [1, 0]> (w)
            m = MatMul (x, v)
            p = Add (m, b)
            {epilogue.text}
        }}
        """,
        samples=(
            {"x": "f32[2,3,32]", "w": "f32[24,32]", "b": "f32[24]", **({"r": "f32[2,3,24]"} if rest else {})},
            {"x": "f16[5,64]", "w": "f16[40,64]", "b": "f16[40]", **({"r": "f16[5,40]"} if rest else {})},
        ),
        weight=1,
    )


AFFINES = tuple(map(_affine, EPILOGUES))

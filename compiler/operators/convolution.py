"""Convolutions with what is done to their results; `ScaledConv…` weigh the channels of their input first."""

from __future__ import annotations

from .epilogue import EPILOGUES, Epilogue
from .operator import Operator

SAMPLE = {"x": "f32[2,4,5,6]", "w": "f32[8,4,3,3]", "b": "f32[8]", "strides": "ints 2 1", "pads": "ints 1 0 1 2"}
HALF = {"x": "f16[1,4,6,5]", "w": "f16[8,4,1,1]", "b": "f16[8]", "strides": "ints 1 1", "pads": "ints 0 0 0 0"}
DEPTHWISE = {"x": "f16[1,8,6,5]", "w": "f16[8,1,3,3]", "b": "f16[8]", "strides": "ints 1 1", "pads": "ints 1 1 1 1"}


def _conv(epilogue: Epilogue) -> Operator:
    rest = ", r" if epilogue.residual else ""
    return Operator(
        f"Conv{epilogue.name}",
        f"Conv{epilogue.name}(x, w, b{rest}) = {epilogue.statement} with p = Conv(x, w, b)",
        f"""
        Conv{epilogue.name} <strides, pads, group> (x, w, b{rest}) => (y) {{
            p = Conv <strides : ints = @strides, pads : ints = @pads, group : int = @group> (x, w, b)
            {epilogue.text}
        }}
        """,
        samples=(
            {**SAMPLE, "r": "f32[2,8,3,6]", "group": "1"} if rest else {**SAMPLE, "group": "1"},
            {**HALF, "r": "f16[1,8,6,5]", "group": "1"} if rest else {**DEPTHWISE, "group": "8"},
        ),
        weight=1,
        convolves=True,
    )


def _scaled(epilogue: Epilogue) -> Operator:
    rest = ", r" if epilogue.residual else ""
    return Operator(
        f"ScaledConv{epilogue.name}",
        f"ScaledConv{epilogue.name}(x, w, b, s{rest}) = {epilogue.statement} with p = Conv(x ⊙ s, w, b), 1x1",
        f"""
        ScaledConv{epilogue.name} (x, w, b, s{rest}) => (y) {{
            t = Mul (x, s)
            p = Conv (t, w, b)
            {epilogue.text}
        }}
        """,
        samples=tuple(
            {"x": f"{t}[2,8,3,2]", "w": f"{t}[6,8,1,1]", "b": f"{t}[6]", "s": f"{t}[2,8,1,1]"}
            | ({"r": f"{t}[2,6,3,2]"} if rest else {})
            for t in ("f32", "f16")
        ),
        weight=1,
        convolves=True,
    )


CONVOLUTIONS = tuple(map(_conv, EPILOGUES))
SCALED_CONVOLUTIONS = (_scaled(Epilogue()), _scaled(Epilogue(residual=True)))
CONV_LAYER_NORM = Operator(
    "ConvLayerNorm",
    "ConvLayerNorm(x, w, b, s, t) = LayerNormalization(Conv(x, w, b) channels last, s, t)",
    """
    ConvLayerNorm <pads, group, epsilon> (x, w, b, s, t) => (y) {
        p = Conv <pads : ints = @pads, group : int = @group> (x, w, b)
        q = Transpose <perm = [0, 2, 3, 1]> (p)
        y = LayerNormalization <axis = -1, epsilon : float = @epsilon> (q, s, t)
    }
    """,
    samples=tuple(
        {"x": f"{t}[2,8,4,5]", "w": f"{t}[8,1,3,3]", "b": f"{t}[8]", "s": f"{t}[8]", "t": f"{t}[8]"}
        | {"pads": "ints 1 1 1 1", "group": "8", "epsilon": "1e-3"}
        for t in ("f32", "f16")
    ),
    weight=1,
    convolves=True,
    channels_last=True,
)

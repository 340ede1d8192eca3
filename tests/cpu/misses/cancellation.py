"""Concat against Split, and transpositions and reshapes against their inverses, through element-wise operators."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from .case import Miss, written

TOKENS, WIDTH, HEADS = 128, 768, 12


class ConcatSplit(nn.Module):
    """Two values side by side, one function of both, and apart again."""

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        left, right = torch.relu(torch.cat((a, b), dim=-1)).chunk(2, dim=-1)
        return left, right


class TransposeReshape(nn.Module):
    """Heads apart, a function of each element, and heads together again."""

    def forward(self, x: Tensor) -> Tensor:
        heads = x.reshape(1, TOKENS, HEADS, WIDTH // HEADS).transpose(1, 2)
        return torch.sigmoid(heads * 2.0).transpose(1, 2).reshape(1, TOKENS, WIDTH)


def _concat_split(_: nn.Module) -> onnx.ModelProto:
    shape = f"float[1,{TOKENS},{WIDTH}]"
    return written(f"apart ({shape} a, {shape} b) => ({shape} c, {shape} d) {{ c = Relu (a) d = Relu (b) }}")


def _transpose_reshape(_: nn.Module) -> onnx.ModelProto:
    shape = f"float[1,{TOKENS},{WIDTH}]"
    return written(
        f"flat ({shape} x) => ({shape} y) {{ m = Mul (x, two) y = Sigmoid (m) }}",
        two=torch.tensor(2.0),
    )


def _wide() -> Tensor:
    return torch.randn(1, TOKENS, WIDTH)


MISSES = (
    Miss(
        "concat_split",
        ConcatSplit,
        lambda: (_wide(), _wide()),
        _concat_split,
        present={"Relu": 2},
        gone=frozenset(["Concat", "Split", "Slice"]),
    ),
    Miss(
        "transpose_reshape",
        TransposeReshape,
        lambda: (_wide(),),
        _transpose_reshape,
        present={"Mul": 1, "Sigmoid": 1},
        gone=frozenset(["Transpose", "Reshape"]),
    ),
)

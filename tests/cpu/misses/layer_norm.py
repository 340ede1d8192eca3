"""LayerNormalization: its affine part and the linear layers after it, and the sum before it."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from .case import Miss, written

TOKENS, WIDTH = 128, 768
CHANNELS, SIDE = 96, 56


def _norm() -> nn.LayerNorm:
    norm = nn.LayerNorm(WIDTH)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


class ParallelNorms(nn.Module):
    """Two norms of one value, as in GPT-NeoX: without their scales and biases they are one."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([_norm(), _norm()])
        self.linear = nn.ModuleList([nn.Linear(WIDTH, 64), nn.Linear(WIDTH, 64)])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(linear(norm(x)) for linear, norm in zip(self.linear, self.norms, strict=True))


class PostNorm(nn.Module):
    """The norm after a residual sum, as in BERT: ONNX Runtime's own fusion of the two is slower than either alone."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = _norm()

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.norm(x + residual)


class TakenApart(nn.Module):
    """Nine operators, as exporters older than opset 17 write it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = _norm()

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        deviation = torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + self.norm.eps)
        return self.norm.weight * (centred / deviation) + self.norm.bias


class ChannelsFirst(nn.Module):
    """The norm over the channels of an image, as ConvNeXt and Segment Anything write it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(CHANNELS)), nn.Parameter(torch.rand(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        normal = centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-6)
        return self.weight[:, None, None] * normal + self.bias[:, None, None]


def _parallel(module: nn.Module) -> onnx.ModelProto:
    weights: dict[str, Tensor] = {}
    for i in range(2):
        scale, shift = module.get_parameter(f"norms.{i}.weight"), module.get_parameter(f"norms.{i}.bias")
        matrix, bias = module.get_parameter(f"linear.{i}.weight"), module.get_parameter(f"linear.{i}.bias")
        weights[f"w{i}"] = (matrix * scale).T
        weights[f"b{i}"] = bias + matrix @ shift
    return written(
        f"""parallel (float[1,{TOKENS},{WIDTH}] x) => (float[1,{TOKENS},64] y, float[1,{TOKENS},64] z) {{
            n = LayerNormalization <axis = -1, epsilon = 1e-5> (x, ones)
            first = MatMul (n, w0)
            y = Add (first, b0)
            second = MatMul (n, w1)
            z = Add (second, b1)
        }}""",
        ones=torch.ones(WIDTH),
        **weights,
    )


def _post_norm(module: nn.Module) -> onnx.ModelProto:
    shape = f"float[1,{TOKENS},{WIDTH}]"
    return written(
        f"""post ({shape} x, {shape} r) => ({shape} y) {{
            sum = Sum (x, r)
            y = LayerNormalization <axis = -1, epsilon = 1e-5> (sum, w, b)
        }}""",
        w=module.get_parameter("norm.weight"),
        b=module.get_parameter("norm.bias"),
    )


def _taken_apart(module: nn.Module) -> onnx.ModelProto:
    shape = f"float[1,{TOKENS},{WIDTH}]"
    return written(
        f"norm ({shape} x) => ({shape} y) {{ y = LayerNormalization <axis = -1, epsilon = 1e-5> (x, w, b) }}",
        w=module.get_parameter("norm.weight"),
        b=module.get_parameter("norm.bias"),
    )


def _channels_first(module: nn.Module) -> onnx.ModelProto:
    image = f"float[1,{CHANNELS},{SIDE},{SIDE}]"
    return written(
        f"""norm ({image} x) => ({image} y) {{
            last = Transpose <perm = [0, 2, 3, 1]> (x)
            normal = LayerNormalization <axis = -1, epsilon = 1e-6> (last, w, b)
            y = Transpose <perm = [0, 3, 1, 2]> (normal)
        }}""",
        w=module.get_parameter("weight"),
        b=module.get_parameter("bias"),
    )


MISSES = (
    Miss(
        "layer_norm_channels_first",
        ChannelsFirst,
        lambda: (torch.randn(1, CHANNELS, SIDE, SIDE),),
        _channels_first,
        present={"LayerNormalization": 1, "Transpose": 2},
        gone=frozenset(["ReduceMean", "Sub", "Pow", "Sqrt", "Div", "Mul", "Add"]),
    ),
    Miss(
        "layer_norm_linear",
        ParallelNorms,
        lambda: (torch.randn(1, TOKENS, WIDTH),),
        _parallel,
        present={"LayerNormalization": 1},
    ),
    Miss(
        "layer_norm_post",
        PostNorm,
        lambda: (torch.randn(1, TOKENS, WIDTH), torch.randn(1, TOKENS, WIDTH)),
        _post_norm,
        present={"Sum": 1, "LayerNormalization": 1},
        gone=frozenset(["Add"]),
    ),
    Miss(
        "layer_norm_taken_apart",
        TakenApart,
        lambda: (torch.randn(1, TOKENS, WIDTH),),
        _taken_apart,
        present={"LayerNormalization": 1},
        gone=frozenset(["ReduceMean", "Sub", "Pow", "Sqrt", "Div", "Mul", "Add"]),
    ),
)

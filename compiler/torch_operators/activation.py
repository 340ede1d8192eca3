"""Activation functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .operation import Operation
from .registry import operator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "HardSwish": functional.hardswish,
    "Mish": functional.mish,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Tanh": torch.tanh,
}
# ONNX's defaults for Selu are the float32 neighbours of torch's constants
_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


@operator(*_PLAIN)
def plain(op: Operation, x: Tensor) -> Tensor:
    """One torch function without parameters."""
    return _PLAIN[op.node.op_type](x)


@operator("LeakyRelu")
def leaky_relu(op: Operation, x: Tensor) -> Tensor:
    """`x` or `alpha·x`."""
    return functional.leaky_relu(x, op.attribute("alpha", 0.01))


@operator("PRelu")
def prelu(op: Operation, x: Tensor, slope: Tensor) -> Tensor:
    """`x` or `slope·x`; the slope broadcasts to `x`, before opset 7 along the channels."""
    if op.version < 7:
        return functional.prelu(x, slope)
    return torch.where(x >= 0, x, torch.mul(slope, x))


@operator("Elu")
def elu(op: Operation, x: Tensor) -> Tensor:
    """`x` or `alpha·(eˣ - 1)`."""
    return functional.elu(x, op.attribute("alpha", 1.0))


@operator("Selu")
def selu(op: Operation, x: Tensor) -> Tensor:
    """`gamma` times Elu."""
    alpha, gamma = op.attribute("alpha", _SELU_ALPHA), op.attribute("gamma", _SELU_GAMMA)
    if abs(alpha - _SELU_ALPHA) < 1e-6 and abs(gamma - _SELU_GAMMA) < 1e-6:
        return torch.selu(x)
    return torch.mul(functional.elu(x, alpha), gamma)


@operator("Celu")
def celu(op: Operation, x: Tensor) -> Tensor:
    """`max(0, x) + min(0, alpha·(e^(x / alpha) - 1))`."""
    return functional.celu(x, op.attribute("alpha", 1.0))


@operator("ThresholdedRelu")
def thresholded_relu(op: Operation, x: Tensor) -> Tensor:
    """`x` above `alpha`, else 0."""
    return functional.threshold(x, op.attribute("alpha", 1.0), 0.0)


@operator("HardSigmoid")
def hard_sigmoid(op: Operation, x: Tensor) -> Tensor:
    """`alpha·x + beta` within [0, 1]."""
    return torch.clamp(torch.add(torch.mul(x, op.attribute("alpha", 0.2)), op.attribute("beta", 0.5)), 0.0, 1.0)


@operator("Swish")
def swish(op: Operation, x: Tensor) -> Tensor:
    """`x·sigmoid(alpha·x)`."""
    return swished(x, op.attribute("alpha", 1.0))


@operator("SwiGLU")
def swiglu(op: Operation, gate: Tensor, x: Tensor) -> Tensor:
    """Swish of the gate times the other input."""
    return torch.mul(swished(gate, op.attribute("alpha", 1.0)), x)


@operator("Gelu")
def gelu(op: Operation, x: Tensor) -> Tensor:
    """Gaussian error linear unit, exact or by tanh."""
    return functional.gelu(x, approximate=op.attribute("approximate", "none"))


@operator("Shrink")
def shrink(op: Operation, x: Tensor) -> Tensor:
    """`x` moved by `bias` towards 0 outside ±`lambd`, else 0."""
    bias, limit = op.attribute("bias", 0.0), op.attribute("lambd", 0.5)
    inner = torch.where(x > limit, torch.sub(x, bias), torch.zeros_like(x))
    return torch.where(x < -limit, torch.add(x, bias), inner).to(x.dtype)


@operator("Softmax", "LogSoftmax")
def softmax(op: Operation, x: Tensor) -> Tensor:
    """Softmax along one axis; before opset 13 along all axes from `axis` on, taken as one."""
    function = torch.softmax if op.node.op_type == "Softmax" else torch.log_softmax
    return along_axis(op, x, lambda flat, axis: function(flat, axis))


@operator("Hardmax")
def hardmax(op: Operation, x: Tensor) -> Tensor:
    """One at the first maximum along the axis, else zero."""
    return along_axis(op, x, lambda flat, axis: op.call(first_maximum, flat, axis))


def along_axis(op: Operation, x: Tensor, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Apply `function(x, axis)` with the meaning that the operator's version gives to `axis`."""
    if op.version >= 13:
        return function(x, op.attribute("axis", -1))
    axis, rank = op.attribute("axis", 1), op.rank(0)
    if axis == -1 or (rank is not None and axis == rank - 1):
        return function(x, -1)
    return function(torch.flatten(x, axis), -1).reshape(x.shape)


def swished(x: Tensor, alpha: float) -> Tensor:
    """`x·sigmoid(alpha·x)`."""
    return functional.silu(x) if alpha == 1.0 else torch.mul(x, torch.sigmoid(torch.mul(x, alpha)))


def first_maximum(x: Tensor, axis: int) -> Tensor:
    """One at the first maximum along the axis, else zero."""
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)

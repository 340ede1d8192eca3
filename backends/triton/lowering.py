"""tamago's operators as calls of the torch operators that the kernels stand behind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...compiler.operators import DOMAIN
from ...compiler.torch_operators.operation import Operation
from ...compiler.torch_operators.registry import operator
from . import library as library  # registers the operators

LINEAR = torch.ops.tamago.linear.default
ATTENTION_STEP = torch.ops.tamago.attention_step.default


def _linear(
    op: Operation,
    x: Tensor,
    w: Tensor,
    *,
    gate: Tensor | None = None,
    scale: Tensor | None = None,
    residual: Tensor | None = None,
    activation: str = "",
) -> Any:
    epsilon = float(op.attribute("epsilon", 0.0))
    return op.call(LINEAR, x, w, gate, scale, residual, epsilon, activation, None)


@operator("Linear", domain=DOMAIN, like=0)
def linear(op: Operation, x: Tensor, w: Tensor) -> Any:
    """x·wᵀ."""
    return _linear(op, x, w)


@operator("LinearAdd", domain=DOMAIN, like=0)
def linear_add(op: Operation, x: Tensor, w: Tensor, r: Tensor) -> Any:
    """x·wᵀ + r."""
    return _linear(op, x, w, residual=r)


@operator("NormLinear", domain=DOMAIN, like=0)
def norm_linear(op: Operation, x: Tensor, s: Tensor, w: Tensor) -> Any:
    """RMSNorm(x)·wᵀ."""
    return _linear(op, x, w, scale=s)


@operator("SwiGLU", domain=DOMAIN, like=0)
def swiglu(op: Operation, x: Tensor, w: Tensor, v: Tensor) -> Any:
    """Silu(x·wᵀ) ⊙ x·vᵀ."""
    return _linear(op, x, w, gate=v, activation="Silu")


@operator("NormSwiGLU", domain=DOMAIN, like=0)
def norm_swiglu(op: Operation, x: Tensor, s: Tensor, w: Tensor, v: Tensor) -> Any:
    """SwiGLU of the normalised row."""
    return _linear(op, x, w, gate=v, scale=s, activation="Silu")


@operator("AttentionStep", domain=DOMAIN, like=0)
def attention_step(
    op: Operation,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor,
    sin: Tensor,
    position: Tensor,
    past_key: Tensor,
    past_value: Tensor,
) -> Any:
    """Attention over a cache that is written first."""
    keys, values = op.call(library.own, past_key), op.call(library.own, past_value)
    y = op.call(ATTENTION_STEP, q, k, v, cos, sin, position, keys, values, float(op.required("scale")), None)
    return y, keys, values

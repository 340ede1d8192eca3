"""tamago's operators as calls of the torch operators that the kernels stand behind."""

from __future__ import annotations

from operator import getitem
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from ...compiler.ir import dims, static_dims
from ...compiler.operators import DOMAIN
from ...compiler.operators.depthwise_squeeze import KINDS as DEPTHWISE_SQUEEZES
from ...compiler.operators.epilogue import EPILOGUES, Epilogue
from ...compiler.operators.mlp import MLPS, NORM_MLPS
from ...compiler.operators.operator import MICROSOFT
from ...compiler.operators.separable import KINDS as SEPARABLES
from ...compiler.operators.squeeze_excite import KINDS as SQUEEZES
from ...compiler.torch_operators import attention as standard
from ...compiler.torch_operators.operation import Operation
from ...compiler.torch_operators.registry import Unsupported, operator
from .library import one_row as library
from .library.nbits import BLOCKS, Packed
from .pixel_mean import keeps, means_pixels
from .row_norm import HALVES, epsilon_of, normalises_rows

LINEAR = torch.ops.tamago.linear.default
LINEAR_NBITS = torch.ops.tamago.linear_nbits.default
ATTENTION = torch.ops.tamago.attention.default
ATTENTION_STEP = torch.ops.tamago.attention_step.default
CONVOLUTION = torch.ops.tamago.convolution.default
AFFINE = torch.ops.tamago.affine.default
MLP = torch.ops.tamago.mlp.default
DEPTHWISE = torch.ops.tamago.depthwise.default
SEPARABLE = torch.ops.tamago.separable.default
LAYER_NORM = torch.ops.tamago.layer_norm.default
SQUEEZE_EXCITE = torch.ops.tamago.squeeze_excite.default
MEAN_PIXELS = torch.ops.tamago.mean_pixels.default
DEPTHWISE_SQUEEZE = torch.ops.tamago.depthwise_squeeze.default


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


def claim(model: ir.Model) -> None:
    """Take over what there is a kernel for.

    Products in few bits, whose weights torch would make wide at every run; rows of known sizes that are normalised;
    means over a picture's pixels, for which torch takes several times what reading them takes; and attention over whole
    sequences, which torch splits into several launches.
    """
    version = model.opset_imports.get("", 1)
    for node in model.graph.all_nodes():
        if node.domain == MICROSOFT and node.op_type == "MatMulNBits" and is_packed_product(node):
            node.domain = DOMAIN
        if normalises_rows(node) and static_dims(node.inputs[0]) is not None:
            node.domain = DOMAIN
        if means_pixels(node) and static_dims(node.inputs[0]) is not None:
            node.domain = DOMAIN
        if not node.domain and node.op_type == "Attention" and is_whole_attention(node, version):
            node.domain = DOMAIN


def is_packed_product(node: ir.Node) -> bool:
    """Whether a MatMulNBits is laid out as the kernels read it."""
    given = [*node.inputs, *[None] * 4]
    zeros, order = given[3], given[4]
    bits = node.attributes["bits"].as_int() if "bits" in node.attributes else 4
    block = node.attributes["block_size"].as_int()
    if bits not in (4, 8) or block not in BLOCKS or order is not None:
        return False
    return zeros is None or zeros.dtype == ir.DataType.UINT8


def is_whole_attention(node: ir.Node, version: int) -> bool:
    """Whether an Attention is in half precision, has no cache, and its mask is as wide as the keys."""
    given = [*node.inputs, *[None] * 6]
    query, mask, caches = given[0], given[3], given[4:6]
    if any(c is not None for c in caches) or any(o.name for o in node.outputs[1:]):
        return False
    half = query is not None and query.dtype in HALVES
    return half and (mask is None or standard.same_length(node, version))


def _linear_nbits(
    op: Operation,
    x: Tensor,
    w: Packed,
    gate: Packed | None = None,
    *,
    norm: Tensor | None = None,
    residual: Tensor | None = None,
    activation: str = "",
) -> Any:
    epsilon = float(op.attribute("epsilon", 0.0))
    form = (op.attribute("bits", 4), op.required("block_size"))
    second = (None, None, None) if gate is None else gate
    return op.call(LINEAR_NBITS, x, *w, *second, norm, residual, epsilon, activation, *form, None)


@operator("MatMulNBits", domain=DOMAIN, like=0)
def matmul_nbits(
    op: Operation,
    x: Tensor,
    w: Tensor,
    s: Tensor,
    z: Tensor | None = None,
    order: Tensor | None = None,
    bias: Tensor | None = None,
) -> Any:
    """ONNX Runtime's operator, as `claim` takes it over."""
    del order
    return _linear_nbits(op, x, Packed(w, s, z), residual=bias)


@operator("LinearAddNBits", domain=DOMAIN, like=0)
def linear_add_nbits(op: Operation, x: Tensor, w: Tensor, s: Tensor, z: Tensor | None, r: Tensor) -> Any:
    """x·ŵᵀ + r."""
    return _linear_nbits(op, x, Packed(w, s, z), residual=r)


@operator("NormLinearNBits", domain=DOMAIN, like=0)
def norm_linear_nbits(op: Operation, x: Tensor, g: Tensor, w: Tensor, s: Tensor, z: Tensor | None = None) -> Any:
    """RMSNorm(x)·ŵᵀ."""
    return _linear_nbits(op, x, Packed(w, s, z), norm=g)


@operator("SwiGLUNBits", domain=DOMAIN, like=0)
def swiglu_nbits(
    op: Operation,
    x: Tensor,
    w: Tensor,
    s: Tensor,
    z: Tensor | None,
    v: Tensor,
    v_s: Tensor,
    v_z: Tensor | None = None,
) -> Any:
    """Silu(x·ŵᵀ) ⊙ x·v̂ᵀ."""
    return _linear_nbits(op, x, Packed(w, s, z), Packed(v, v_s, v_z), activation="Silu")


@operator("NormSwiGLUNBits", domain=DOMAIN, like=0)
def norm_swiglu_nbits(
    op: Operation,
    x: Tensor,
    g: Tensor,
    w: Tensor,
    s: Tensor,
    z: Tensor | None,
    v: Tensor,
    v_s: Tensor,
    v_z: Tensor | None = None,
) -> Any:
    """SwiGLUNBits of the normalised rows."""
    return _linear_nbits(op, x, Packed(w, s, z), Packed(v, v_s, v_z), norm=g, activation="Silu")


@operator("Attention", domain=DOMAIN, like=0)
def attention(
    op: Operation, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *rest: Tensor | None
) -> Any:
    """ONNX's operator, as `claim` takes it over; with what the kernel does not know it stays torch's."""
    if not standard.is_dot_product(op):
        return standard.attention(op, query, key, value, mask, *rest)
    heads = [op.attribute("q_num_heads", 0), op.attribute("kv_num_heads", 0)]
    causal, scale = bool(op.attribute("is_causal", 0)), op.attribute("scale", None)
    return op.call(ATTENTION, query, key, value, mask, heads, causal, scale, None)


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


def _epilogue(op: Operation, kind: str) -> Epilogue:
    """What an operator's name says of what is done to its result."""
    name = op.node.op_type.removeprefix(kind)
    return next(e for e in EPILOGUES if e.name == name)


@operator(*(f"Affine{e.name}" for e in EPILOGUES), domain=DOMAIN, like=0)
def affine(op: Operation, x: Tensor, w: Tensor, b: Tensor, r: Tensor | None = None) -> Any:
    """x·wᵀ + b, and what is done to it."""
    epilogue = _epilogue(op, "Affine")
    return op.call(AFFINE, x, w, b, r, [], 0.0, epilogue.activation, epilogue.after, None)


@operator(*(f"NormAffine{e.name}" for e in EPILOGUES), domain=DOMAIN, like=0)
def norm_affine(op: Operation, x: Tensor, w: Tensor, b: Tensor, s: Tensor, t: Tensor, r: Tensor | None = None) -> Any:
    """The same of normalised rows."""
    epilogue, epsilon = _epilogue(op, "NormAffine"), float(op.required("epsilon"))
    return op.call(AFFINE, x, w, b, r, [s, t], epsilon, epilogue.activation, epilogue.after, None)


@operator(*(o.name for o in MLPS), domain=DOMAIN, like=0)
def mlp(op: Operation, x: Tensor, w: Tensor, b: Tensor, v: Tensor, c: Tensor, r: Tensor | None = None) -> Any:
    """Two products with an activation between them."""
    activation = op.node.op_type.removeprefix("MLP").removesuffix("Add")
    return op.call(MLP, x, w, b, v, c, r, [], 0.0, activation, None)


@operator(*(o.name for o in NORM_MLPS), domain=DOMAIN, like=0)
def norm_mlp(
    op: Operation,
    x: Tensor,
    w: Tensor,
    b: Tensor,
    v: Tensor,
    c: Tensor,
    s: Tensor,
    t: Tensor,
    r: Tensor | None = None,
) -> Any:
    """The same of normalised rows."""
    activation = op.node.op_type.removeprefix("NormMLP").removesuffix("Add")
    epsilon = float(op.required("epsilon"))
    return op.call(MLP, x, w, b, v, c, r, [s, t], epsilon, activation, None)


@operator(*(f"Conv{e.name}" for e in EPILOGUES), domain=DOMAIN, like=0)
def conv(op: Operation, x: Tensor, w: Tensor, b: Tensor, r: Tensor | None = None) -> Any:
    """A convolution, of each channel by itself or of one group, and what is done to it."""
    epilogue = _epilogue(op, "Conv")
    strides, pads, group = op.numbers("strides"), op.numbers("pads"), op.attribute("group", 1)
    if group == 1:
        rest = strides, pads, epilogue.activation, epilogue.after
        return op.call(CONVOLUTION, x, w, b, None, r, *rest, None)
    weight = op.node.inputs[1]
    shape = None if weight is None else dims(weight)
    if r is not None or shape is None or shape[:2] != (group, 1):
        raise Unsupported("it is neither of one group nor depthwise")
    return op.call(DEPTHWISE, x, w, b, [], 0.0, strides, pads, epilogue.activation, None)


@operator("ScaledConv", "ScaledConvAdd", domain=DOMAIN, like=0)
def scaled_conv(op: Operation, x: Tensor, w: Tensor, b: Tensor, s: Tensor, r: Tensor | None = None) -> Any:
    """A convolution of one tap over weighed channels, and what is done to it."""
    return op.call(CONVOLUTION, x, w, b, s, r, [1, 1], [0, 0, 0, 0], "", "", None)


@operator(*(kind.name for kind in SEPARABLES), domain=DOMAIN, like=0)
def separable(op: Operation, x: Tensor, w: Tensor, b: Tensor, v: Tensor, c: Tensor, r: Tensor | None = None) -> Any:
    """A depthwise convolution and one of one tap, and what is done to both."""
    kind = next(k for k in SEPARABLES if k.name == op.node.op_type)
    rest = kind.first, kind.epilogue.activation, kind.epilogue.after
    return op.call(SEPARABLE, x, w, b, v, c, r, op.numbers("strides"), op.numbers("pads"), *rest, None)


@operator("ConvLayerNorm", domain=DOMAIN, like=0)
def conv_layer_norm(op: Operation, x: Tensor, w: Tensor, b: Tensor, s: Tensor, t: Tensor) -> Any:
    """A depthwise convolution, its channels normalised and last."""
    epsilon = float(op.required("epsilon"))
    return op.call(DEPTHWISE, x, w, b, [s, t], epsilon, [1, 1], op.numbers("pads"), "", None)


@operator("LayerNormalization", domain=DOMAIN, like=0)
def layer_norm(op: Operation, x: Tensor, s: Tensor, t: Tensor | None = None) -> Any:
    """ONNX's operator, as `claim` takes it over."""
    return op.call(LAYER_NORM, x, s, t, epsilon_of(op.node), True, None)


@operator("RMSNormalization", domain=DOMAIN, like=0)
def rms_norm(op: Operation, x: Tensor, s: Tensor) -> Any:
    """ONNX's operator, as `claim` takes it over."""
    return op.call(LAYER_NORM, x, s, None, epsilon_of(op.node), False, None)


@operator(*(kind.name for kind in SQUEEZES), domain=DOMAIN, like=0)
def squeeze_excite(op: Operation, x: Tensor, w: Tensor, b: Tensor, v: Tensor, c: Tensor) -> Any:
    """What weighs a picture's channels, of their means."""
    kind = next(k for k in SQUEEZES if k.name == op.node.op_type)
    return op.call(SQUEEZE_EXCITE, x, w, b, v, c, kind.activation, kind.gate, None)


@operator(*(kind.name for kind in DEPTHWISE_SQUEEZES), domain=DOMAIN, like=0)
def depthwise_squeeze(
    op: Operation, x: Tensor, w: Tensor, b: Tensor, v: Tensor, c: Tensor, u: Tensor, d: Tensor
) -> Any:
    """A depthwise convolution, and what weighs the channels of its result."""
    kind = next(k for k in DEPTHWISE_SQUEEZES if k.name == op.node.op_type)
    rest = kind.first, kind.squeeze.activation, kind.squeeze.gate
    both = op.call(DEPTHWISE_SQUEEZE, x, w, b, v, c, u, d, op.numbers("strides"), op.numbers("pads"), *rest, None)
    return op.call(getitem, both, 0), op.call(getitem, both, 1)


@operator("GlobalAveragePool", "ReduceMean", domain=DOMAIN, like=0)
def mean_pixels(op: Operation, x: Tensor, axes: Tensor | None = None) -> Any:
    """ONNX's operators, as `claim` takes them over."""
    del axes
    return op.call(MEAN_PIXELS, x, keeps(op.node), None)

"""tamago's own operators, domain `ai.tamago`: a file each (or each family), and each an ONNX function.

The function's body, in standard operators, is what the operator means: a model that holds it runs in any ONNX runtime,
and a backend that has a kernel for the whole uses that instead. Weights are laid out as `torch.nn.Linear` has them,
(outputs, inputs); those of few bits as ONNX Runtime's MatMulNBits has them, which the bodies call: such a model needs a
runtime with that operator (domain `com.microsoft`).
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from .affine import AFFINES, NORM_AFFINES
from .attention_step import ATTENTION_STEP
from .convolution import CONV_LAYER_NORM, CONVOLUTIONS, SCALED_CONVOLUTIONS
from .depthwise_squeeze import DEPTHWISE_SQUEEZES
from .linear_add import LINEAR_ADD
from .linear_add_nbits import LINEAR_ADD_NBITS
from .mlp import MLPS, NORM_MLPS
from .norm_linear import NORM_LINEAR
from .norm_linear_nbits import NORM_LINEAR_NBITS
from .norm_swiglu import NORM_SWIGLU
from .norm_swiglu_nbits import NORM_SWIGLU_NBITS
from .operator import DOMAIN, VERSION, Operator
from .plain_linear import LINEAR
from .separable import SEPARABLES
from .squeeze_excite import SQUEEZE_EXCITES
from .swiglu import SWIGLU
from .swiglu_nbits import SWIGLU_NBITS

_WIDE = (LINEAR, LINEAR_ADD, NORM_LINEAR, SWIGLU, NORM_SWIGLU)
_PACKED = (LINEAR_ADD_NBITS, NORM_LINEAR_NBITS, SWIGLU_NBITS, NORM_SWIGLU_NBITS)
_MANY_ROWS = (*AFFINES, *NORM_AFFINES, *MLPS, *NORM_MLPS, *CONVOLUTIONS, *SCALED_CONVOLUTIONS, CONV_LAYER_NORM)
_ALL = (*_WIDE, *_PACKED, ATTENTION_STEP, *_MANY_ROWS, *SEPARABLES, *SQUEEZE_EXCITES, *DEPTHWISE_SQUEEZES)
OPERATORS: Mapping[str, Operator] = {o.name: o for o in _ALL}

__all__ = ["DOMAIN", "OPERATORS", "VERSION", "Operator", "attach", "detach"]


def attach(model: ir.Model) -> None:
    """Give a model the functions of the operators it uses, so that it means the same in any runtime."""
    used = {n.op_type for n in model.graph.all_nodes() if n.domain == DOMAIN}
    for name in sorted(used):
        function = OPERATORS[name].function()
        model.functions.setdefault(function.identifier(), function)
    if used:
        model.opset_imports.setdefault(DOMAIN, VERSION)


def detach(model: ir.Model) -> None:
    """Take the functions of these operators away, so that the nodes stay whole where functions are written out."""
    for identifier in [i for i in model.functions if i[0] == DOMAIN and i[1] in OPERATORS]:
        del model.functions[identifier]

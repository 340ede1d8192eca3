"""Double quantization: the scales of blocks in 8 bits themselves, as QLoRA stores them (arXiv:2305.14314)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...compiler.facts import Array
from ...compiler.rule import Expression, op

FLOAT = int(ir.DataType.FLOAT)


def scales_in_8_bits(scale: Array) -> Expression | Array:
    """Scales as u·Q(s), with u = max(s)/255 for each row: constants only, which the runtime folds at loading.

    Args:
        scale: [rows, blocks], positive.

    Returns:
        An expression of the same shape; the scales themselves where a row's u would outweigh what is saved.
    """
    if scale.shape[1] < 2:
        return np.ascontiguousarray(scale)
    unit = (scale.max(1, keepdims=True) / 255).astype(np.float32)
    codes = np.clip(np.round(scale / unit), 1, 255).astype(np.uint8)
    return op.Mul(op.Cast(codes, to=FLOAT), unit)

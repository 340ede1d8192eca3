"""How wide the sums are in which this processor's kernels add products of 8-bit codes: asked of the runtime itself."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir

from ...compiler.code_pairs import in_doubt

PAIR = 2 * 255 * 127  # beyond 16 bits
IN_FULL = ("session.x64quantprecision", "1")  # the runtime's option: slower kernels, which add in 32 bits
OBEYED = (
    f"; ONNX Runtime is told to take its slower kernels ({'='.join(IN_FULL)}), but for convolutions in NHWC, which it "
    "has one kernel for: compile here, or with portable=True"
)
REFUSED = "; ONNX Runtime's slower kernels do not load it: results may be wrong; compile here, or with portable=True"


@cache
def sums_are_wide() -> bool:
    """Whether 255·127 + 255·127 is what it is, in products of one row and of several."""
    return all(bool(np.all(_product(rows) == PAIR)) for rows in (1, 8))


def doubt_of(model: ir.Model) -> str:
    """Why its 8-bit codes are not for this processor; empty where they are."""
    count = 0 if sums_are_wide() else in_doubt(model)
    if not count:
        return ""
    return (
        f"{count} products of 8-bit codes are for a processor that adds them in 32 bits (x86 from VNNI on, Arm), and "
        "this one saturates at 16"
    )


def _product(rows: int) -> Any:
    import onnxruntime as ort

    model = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        g (uint8[{rows}, 4] u) => (int32[{rows}, 16] y) <int8[4, 16] q = {{{", ".join(["127"] * 32 + ["0"] * 32)}}}> {{
        y = MatMulInteger (u, q) }}"""
    )
    session: Any = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"u": np.full((rows, 4), 255, np.uint8)})[0]

"""Methods that are not offered, and why they do not pay on the targets that there are."""

from __future__ import annotations

DECLINED = {
    "2:4": "ONNX Runtime has no kernel for it, and GPU serving stacks dropped theirs: the zeros would be multiplied",
    "unstructured_pruning": "a file of zeros packs well, but the products stay; structured pruning removes them",
    "l_mul": "5-6 % error a product against 1 % of int8, and no processor has the operation: it runs slower",
    "ternary": "2 bit rounding of a trained model costs a hundred times the loss of 4 bit; it has to be trained in",
    "fp8": "no CPU kernel: int8 has the same size, and less error at equal bits where scales are fine",
}

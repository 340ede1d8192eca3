"""How each operator of ONNX's own domain is brought from one opset to the next.

For every version of an operator from 8 on there is exactly one entry: `unchanged.py` (a node of the version before
means the same, with the reason) or `rewrites.py` (a node must be rewritten, or may stop the conversion). `kernels.py`
lists steps that keep the meaning and are still not taken: the runtime has no kernel, or a slow one, on the other side.
"""

"""What an operator's outputs look like, from what its inputs look like: one file per family of operators.

Every function takes a `Call` and returns `(dtype, shape)` per output; dimensions are numbers, names or None. What is
not listed here is asked of onnx's own shape inference (`onnx_rules.py`).
"""

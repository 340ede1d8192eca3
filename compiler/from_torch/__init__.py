"""Torch sources -> IR: exported, translated by torch's own ONNX translation with its gaps filled, and finished.

`trace` is the road; `export` and `aten` take what there is, `decompositions` and `translations` fill the translation's
gaps, `finish` and `clean_up` leave a file as people expect it, `signature` keeps how the model is called.
"""

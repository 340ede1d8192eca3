"""ONNX Runtime on the CPU: a chosen program enters as an ONNX model, leaves as a session, its timings and its prices.

`alternatives/` holds rules that offer what only this runtime has (`com.microsoft` operators it has CPU kernels for),
priced like any other term before the choice. A model with too many weights to be held is run and timed piece by piece
(`streamed.py`).
"""

"""NVIDIA GPUs: an FX program whose fused regions are Triton kernels, captured as a CUDA graph.

`alternatives` offers the operators that there are kernels for (`ai.tamago`, whose meaning is an ONNX function);
`target` prices them on the device, so that extraction decides; `lowering` writes them as calls of the torch operators
in `library`; `tune` picks each call's candidate by measuring; `run` captures and replays.
"""

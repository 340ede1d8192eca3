"""NVIDIA GPUs: an FX program whose fused regions are Triton kernels, captured as a CUDA graph.

`alternatives` offers the operators that there are kernels for (`ai.tamago`, whose meaning is an ONNX function);
`target` prices them on the device, so that extraction decides; `regions` fuses after the choice what prices of single
operators cannot show, and each is kept only where the whole program is faster for it; `lowering` writes operators as
calls of the torch operators in `library`, which `launch` hands to `kernels`; `jobs` says what of a kernel is tuned,
and on what, `tune` picks each call's candidate, torch's own operators among them; `layout` puts weights in
the order in which they are read; `run` captures and replays.
"""

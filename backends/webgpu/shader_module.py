"""Shaders with checked subscripts and uncounted loops.

wgpu counts the turns of every loop, so that a foreign shader cannot hang the device. Drivers do not unroll loops that
are counted, and keep in memory what an unrolled loop would keep in registers. Loops of generated kernels end: their
bounds are constants. wgpu's Python has no name for modules without the count, its library has.
"""

from __future__ import annotations

from typing import Any

BOUNDS_CHECKS = 1  # of WGPUShaderRuntimeChecks, without ForceLoopBounding


def shader_module(gpu: Any, source: str) -> Any:
    """A module of a device.

    Raises:
        wgpu.GPUError: the source is not what the device takes.
    """
    try:
        from wgpu.backends.wgpu_native import _api, ffi, lib  # pyright: ignore

        create = _api.libf.wgpuDeviceCreateShaderModuleTrusted  # pyright: ignore
    except (ImportError, AttributeError):
        return gpu.create_shader_module(code=source)
    text = source.encode()
    held = ffi.new("char[]", text)  # pyright: ignore
    wgsl = ffi.new("WGPUShaderSourceWGSL *")  # pyright: ignore
    wgsl.chain.sType = lib.WGPUSType_ShaderSourceWGSL  # pyright: ignore
    wgsl.code.data, wgsl.code.length = held, len(text)
    descriptor = ffi.new("WGPUShaderModuleDescriptor *")  # pyright: ignore
    descriptor.nextInChain = ffi.cast("WGPUChainedStruct *", wgsl)  # pyright: ignore
    made = create(gpu._internal, descriptor, BOUNDS_CHECKS)
    return _api.GPUShaderModule("", made, gpu)  # pyright: ignore

"""wgpu's library, past its Python: what that has no name for, and what it is slow at.

Nothing here is part of wgpu's promised interface, so each function falls back to what is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

BOUNDS_CHECKS = 1  # of WGPUShaderRuntimeChecks, without ForceLoopBounding


class Launch(NamedTuple):
    """A dispatch as wgpu takes it: pipeline, bind group, workgroups."""

    pipeline: Any
    bindings: Any
    workgroups: tuple[int, int, int]


def shader_module(gpu: Any, source: str) -> Any:
    """A shader whose subscripts are checked and whose loops are not counted.

    wgpu counts the turns of every loop, so that a foreign shader cannot hang the device. Drivers do not unroll loops
    that are counted, and keep in memory what an unrolled loop would keep in registers. Loops of generated
    kernels end; those of records from a file are believed to (`Records.import_`).

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
    wgsl: Any = ffi.new("WGPUShaderSourceWGSL *")  # pyright: ignore
    wgsl.chain.sType = lib.WGPUSType_ShaderSourceWGSL  # pyright: ignore
    wgsl.code.data, wgsl.code.length = held, len(text)
    descriptor = ffi.new("WGPUShaderModuleDescriptor *")  # pyright: ignore
    descriptor.nextInChain = ffi.cast("WGPUChainedStruct *", wgsl)  # pyright: ignore
    made = create(gpu._internal, descriptor, BOUNDS_CHECKS)
    return _api.GPUShaderModule("", made, gpu)  # pyright: ignore


def encode(compute: Any, launches: Iterable[Launch]) -> None:
    """Dispatches in a compute pass.

    wgpu's Python opens and closes an error scope around each call, 8 µs a dispatch instead of 3. What is wrong here
    shows when the encoder finishes.
    """
    try:
        from wgpu.backends.wgpu_native import ffi, lib  # pyright: ignore

        pipeline, bind = lib.wgpuComputePassEncoderSetPipeline, lib.wgpuComputePassEncoderSetBindGroup  # pyright: ignore
        dispatch, nothing = lib.wgpuComputePassEncoderDispatchWorkgroups, ffi.NULL  # pyright: ignore
    except (ImportError, AttributeError):
        _encode_slowly(compute, launches)
        return
    here, last = compute._internal, None
    for launch in launches:
        if launch.pipeline is not last:
            pipeline(here, launch.pipeline._internal)
            last = launch.pipeline
        bind(here, 0, launch.bindings._internal, 0, nothing)
        dispatch(here, *launch.workgroups)


def _encode_slowly(compute: Any, launches: Iterable[Launch]) -> None:
    for launch in launches:
        compute.set_pipeline(launch.pipeline)
        compute.set_bind_group(0, launch.bindings)
        compute.dispatch_workgroups(*launch.workgroups)


def timestamp_period(queue: Any) -> float:
    """Nanoseconds of a tick of the device's clock."""
    try:
        from wgpu.backends.wgpu_native import _api  # pyright: ignore

        return float(_api.libf.wgpuQueueGetTimestampPeriod(queue._internal)) or 1.0  # pyright: ignore
    except (ImportError, AttributeError):
        return 1.0

"""The adapter, what it can do, and WGSL as this host wants it."""

from __future__ import annotations

from ctypes import CDLL
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...compiler.errors import EXIT_UNSUPPORTED, TamagoError
from .limits import Limits
from .plan import F16, SUBGROUPS, Kernel

FEATURES = {F16: "shader-f16", SUBGROUPS: "subgroup", "timestamps": "timestamp-query"}  # as wgpu calls them
ADAPTER = ("vendor", "architecture", "device", "description", "backend_type")
LLVMPIPE_TURNS = 65_535  # after which mesa's software driver leaves a thread's loops
LIMITS = (
    "max-buffer-size",
    "max-storage-buffer-binding-size",
    "max-storage-buffers-per-shader-stage",
    "max-compute-workgroup-storage-size",
    "max-compute-invocations-per-workgroup",
    "max-compute-workgroup-size-x",
    "max-compute-workgroup-size-y",
)


@dataclass(frozen=True)
class Device:
    """A device with everything its adapter offers of what tamago uses.

    Args:
        gpu: wgpu's own.
        features: of F16, SUBGROUPS and "timestamps".
        name: vendor, architecture and driver: what records are good for.
        software: whether a processor plays the device: it shows what is right, not what is fast.
    """

    gpu: Any
    features: frozenset[str]
    name: str
    software: bool

    @property
    def half(self) -> bool:
        """Whether shaders have half precision."""
        return F16 in self.features

    @property
    def limits(self) -> Limits:
        """What kernels may ask for."""
        found = self.gpu.limits
        largest = min(found["max-storage-buffer-binding-size"], found["max-buffer-size"])
        return Limits(
            found["max-compute-workgroup-storage-size"],
            found["max-compute-invocations-per-workgroup"],
            found["max-storage-buffers-per-shader-stage"],
            self.software,
            largest,
            largest,
            LLVMPIPE_TURNS if "llvmpipe" in self.name else None,
        )

    @property
    def environment(self) -> str:
        """Everything a price or a record depends on besides the operator."""
        return f"webgpu {self.name} wgpu {version('wgpu')}"

    def source(self, kernel: Kernel) -> str:
        """A kernel as this host wants it: `enable subgroups;` is an error here and needed in a browser."""
        return ("enable f16;\n" if F16 in kernel.features else "") + kernel.source


@cache
def default_device() -> Device:
    """The fastest adapter there is.

    Raises:
        TamagoError: B040, wgpu is missing; B041, there is no adapter.
    """
    if find_spec("wgpu") is None:
        raise TamagoError(
            "B040", "target 'webgpu' needs wgpu", todo="pip install 'tamago[webgpu]'", exit_code=EXIT_UNSUPPORTED
        )
    _load_triton_first()
    import wgpu

    try:
        adapter = wgpu.gpu.request_adapter_sync(power_preference="high-performance")
    except RuntimeError as error:
        raise _no_adapter(str(error)) from error
    if adapter is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise _no_adapter("wgpu finds no adapter")
    offered = {name for name, wanted in FEATURES.items() if wanted in adapter.features}
    limits = {name: adapter.limits[name] for name in LIMITS if name in adapter.limits}
    gpu = adapter.request_device_sync(
        required_features=[FEATURES[name] for name in sorted(offered)], required_limits=limits
    )
    info = adapter.info
    name = " ".join(str(info.get(key, "")) for key in ADAPTER)
    return Device(gpu, frozenset(offered), " ".join(name.split()), info.get("adapter_type") == "CPU")


def _load_triton_first() -> None:
    """Load Triton's library, where there is one, and nothing of its Python.

    It and the drivers of processors that play a GPU bring an LLVM each: loaded after theirs, Triton's crashes.
    """
    found = find_spec("triton")
    for folder in () if found is None else found.submodule_search_locations or ():
        library = Path(folder) / "_C" / "libtriton.so"
        if library.exists():
            CDLL(str(library))


def _no_adapter(why: str) -> TamagoError:
    return TamagoError(
        "B041",
        "target 'webgpu' finds no device",
        why=why.strip().split("\n")[0],
        todo="install a Vulkan, Metal or Direct3D 12 driver; mesa's lavapipe runs on any processor",
        exit_code=EXIT_UNSUPPORTED,
    )

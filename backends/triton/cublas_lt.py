"""cuBLASLt asked directly: a product, its bias and a further matrix in one kernel, by whichever algorithm is fastest.

PyTorch has the library add a bias, or a matrix, and takes the algorithm that is proposed first; what is left to add is
a kernel of its own. The library does both sums at once, and on an H200 its second to seventh proposal was up to 15 %
faster than its first: so proposals are candidates like settings of our kernels, measured where they will run. What is
called here is documented in NVIDIA's cuBLAS manual ("Using the cuBLASLt API"); numbers are those of its enumerations.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from .library.convolution import LT

PROPOSALS = 8
WORKSPACE = 32 << 20  # bytes that an algorithm may ask for
TYPES = {torch.float32: 0, torch.float16: 2, torch.bfloat16: 14}
FLOAT32 = TYPES[torch.float32]
COMPUTE_FLOAT32 = 68
TRANSPOSED_A, EPILOGUE, BIAS = 3, 7, 8  # attributes of a product
MOST_WORKSPACE, REDUCTIONS, ALIGNMENTS = 1, 3, (5, 6, 7, 8)  # and of what is preferred; the last of A, B, C, D
IN_FLOAT32 = 2  # parts of a sum lie in single precision in memory, and are added up by a kernel of their own
NOTHING_FOUND = 15  # the status that no algorithm does it
WITH_BIAS = {"": 4, "Relu": 6, "GeluTanh": 36}  # what is done to the sum of all
ALIGNED = 256  # bytes that addresses are multiples of, at most as far as the library cares
_asking = Lock()  # a product's description holds its bias from the setting to the call


class _Proposal(ctypes.Structure):
    _fields_ = (
        ("algorithm", c_uint64 * 8),
        ("workspace", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    )


@dataclass(frozen=True)
class _Plan:
    """A product as the library describes it, and what it proposes."""

    handle: c_void_p
    product: c_void_p
    a: c_void_p
    b: c_void_p
    d: c_void_p
    proposals: tuple[_Proposal, ...]


def may_ask(x: Tensor, residual: Tensor | None, activation: str, after: str) -> bool:
    """Whether the library is there, and can do what is done to a product's result."""
    return x.is_cuda and _library() is not None and _epilogue(residual is not None, activation, after) is not None


def proposals(*, residual: bool, activation: str, after: str) -> list[tuple[int, int]]:
    """Settings worth measuring: `LT`, and the place of an algorithm among those that the library proposes."""
    if not torch.cuda.is_available() or _library() is None or _epilogue(residual, activation, after) is None:
        return []
    return [(LT, place) for place in range(PROPOSALS)]


def launch_lt_affine(
    x: Tensor, w: Tensor, bias: Tensor, residual: Tensor | None, activation: str, after: str, candidate: Sequence[int]
) -> Tensor | None:
    """A product of many rows with a matrix; None where the library proposes nothing.

    Args:
        x: (…, K) on a GPU, in half precision as all that follows; as `may_ask` allows.
        w: (N, K).
        bias: (N).
        residual: as the result.
        activation: a name that `kernels.activations` knows, or "".
        after: another.
        candidate: `LT`, and the place of an algorithm among those that are proposed; where there are fewer, as another
            version of the library may have, the first.

    Raises:
        RuntimeError: the library refuses.
    """
    y = torch.empty((*x.shape[:-1], w.shape[0]), dtype=x.dtype, device=x.device)
    x, w, bias = x.contiguous(), w.contiguous(), bias.contiguous()
    added = y if residual is None else residual.expand(y.shape).contiguous()
    epilogue = _epilogue(residual is not None, activation, after)
    assert epilogue is not None
    with torch.cuda.device(x.device):
        done = _multiply(x, w, bias, added, y, epilogue, residual is not None, candidate[1])
    return y if done else None


def launch_lt_convolution(
    x: Tensor, w: Tensor, bias: Tensor, residual: Tensor | None, activation: str, after: str, candidate: Sequence[int]
) -> Tensor | None:
    """A convolution of one tap, neither strided nor padded: a product of as many rows as there are pixels.

    Args:
        x: (N, C, H, W), best channels last; this and what follows as `launch_lt_affine` takes them.
        w: (O, C, 1, 1).
        bias: (O).
        residual: as the result.
        activation: a name that `kernels.activations` knows, or "".
        after: another.
        candidate: as for `launch_lt_affine`.
    """
    shape = x.shape[0], w.shape[0], *x.shape[2:]
    residual = None if residual is None else residual.expand(shape).permute(0, 2, 3, 1)
    weight = w.reshape(w.shape[:2])
    y = launch_lt_affine(x.permute(0, 2, 3, 1), weight, bias, residual, activation, after, candidate)
    return None if y is None else y.permute(0, 3, 1, 2)


def _epilogue(residual: bool, activation: str, after: str) -> int | None:
    """The library's number for it, which does it to the sum of product, bias and matrix; None where it does not."""
    first, last = (activation, after) if residual else (after, activation)
    return None if first else WITH_BIAS.get(last)


def _multiply(
    x: Tensor, w: Tensor, bias: Tensor, added: Tensor, y: Tensor, epilogue: int, summed: bool, place: int
) -> bool:
    """Row by row is column by column of what is transposed: yᵀ = w·xᵀ + b + rᵀ. False where nothing is proposed."""
    n, k = w.shape
    sizes = y.numel() // n, n, k
    aligned = tuple(_alignment(t) for t in (w, x, added, y))
    plan = _plan(x.device.index, sizes, TYPES[x.dtype], epilogue, aligned)
    if not plan.proposals:
        return False
    proposal = plan.proposals[place if place < len(plan.proposals) else 0]
    workspace = torch.empty(max(proposal.workspace, 1), dtype=torch.uint8, device=x.device)
    one, beta = c_float(1.0), c_float(1.0 if summed else 0.0)
    stream = c_void_p(torch.cuda.current_stream().cuda_stream)
    with _asking:
        _set("MatmulDesc", plan.product, BIAS, c_uint64(bias.data_ptr()))
        _call(
            "Matmul",
            *(plan.handle, plan.product),
            *(byref(one), _address(w), plan.a, _address(x), plan.b),
            *(byref(beta), _address(added), plan.d, _address(y), plan.d),
            *(byref(proposal.algorithm), _address(workspace), c_size_t(proposal.workspace), stream),
        )
    return True


@cache
def _plan(device: int, sizes: tuple[int, int, int], dtype: int, epilogue: int, aligned: tuple[int, ...]) -> _Plan:
    m, n, k = sizes
    product = c_void_p()
    _call("MatmulDescCreate", byref(product), c_int(COMPUTE_FLOAT32), c_int(FLOAT32))
    _set("MatmulDesc", product, TRANSPOSED_A, c_int32(1))
    _set("MatmulDesc", product, EPILOGUE, c_uint32(epilogue))
    a, b, d = _matrix(dtype, k, n), _matrix(dtype, k, m), _matrix(dtype, n, m)
    preferred = c_void_p()
    _call("MatmulPreferenceCreate", byref(preferred))
    _set("MatmulPreference", preferred, MOST_WORKSPACE, c_uint64(WORKSPACE))
    _set("MatmulPreference", preferred, REDUCTIONS, c_uint32(IN_FLOAT32))
    for attribute, alignment in zip(ALIGNMENTS, aligned, strict=True):
        _set("MatmulPreference", preferred, attribute, c_uint32(alignment))
    found, count = (_Proposal * PROPOSALS)(), c_int()
    handle = _handle(device)
    asked = handle, product, a, b, d, d, preferred, c_int(PROPOSALS), found, byref(count)
    _call("MatmulAlgoGetHeuristic", *asked, allowed=NOTHING_FOUND)
    _call("MatmulPreferenceDestroy", preferred)
    return _Plan(handle, product, a, b, d, tuple(p for p in found[: count.value] if not p.state))


@cache
def _handle(device: int) -> c_void_p:
    """The library's state for a device, which must be the current one."""
    del device
    handle = c_void_p()
    _call("Create", byref(handle))
    return handle


def _matrix(dtype: int, rows: int, columns: int) -> c_void_p:
    """A matrix that lies column by column."""
    layout = c_void_p()
    _call("MatrixLayoutCreate", byref(layout), c_int(dtype), c_uint64(rows), c_uint64(columns), c_int64(rows))
    return layout


def _set(of: str, described: c_void_p, attribute: int, value: Any) -> None:
    _call(f"{of}SetAttribute", described, c_int(attribute), byref(value), c_size_t(ctypes.sizeof(value)))


def _call(name: str, *arguments: Any, allowed: int = 0) -> None:
    library = _library()
    assert library is not None
    status = getattr(library, f"cublasLt{name}")(*arguments)
    if status not in (0, allowed):
        raise RuntimeError(f"cuBLASLt: {name} ended with status {status}")


@cache
def _library() -> ctypes.CDLL | None:
    """The one that torch itself uses; None where there is none."""
    if torch.version.cuda is None:
        return None
    try:
        return ctypes.CDLL(f"libcublasLt.so.{torch.version.cuda.partition('.')[0]}")
    except OSError:
        return None


def _address(tensor: Tensor) -> c_void_p:
    return c_void_p(tensor.data_ptr())


def _alignment(tensor: Tensor) -> int:
    """The largest power of two that its address is a multiple of, up to `ALIGNED` bytes."""
    address = tensor.data_ptr()
    return min(ALIGNED, address & -address) if address else ALIGNED

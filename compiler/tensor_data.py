"""Bytes of tensors: how many there must be, and the tensors that are views of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.serde import TensorProtoTensor, deserialize_metadata_props

from .errors import TamagoError

DATA_TYPES = frozenset(int(dtype) for dtype in ir.DataType) - {int(ir.DataType.UNDEFINED)}

Array = np.ndarray[Any, Any]

_LARGEST = 2**63 - 1
_MOST_AXES = 64  # NumPy's limit

# Where a TensorProto keeps values that are not raw bytes (onnx.proto, TensorProto.data_type).
_FIELD_OF = {
    ir.DataType.FLOAT: "float_data",
    ir.DataType.COMPLEX64: "float_data",
    ir.DataType.DOUBLE: "double_data",
    ir.DataType.COMPLEX128: "double_data",
    ir.DataType.INT64: "int64_data",
    ir.DataType.UINT32: "uint64_data",
    ir.DataType.UINT64: "uint64_data",
    ir.DataType.STRING: "string_data",
}  # all others: int32_data
TYPED_FIELDS = (*dict.fromkeys(_FIELD_OF.values()), "int32_data")
_ELEMENTS_PER_ENTRY = {2: 4, 4: 2}  # by bit width: packed into bytes, each of which is an entry


def shown(text: object, limit: int = 120) -> str:
    """A name from a file, safe to print: quoted, control characters escaped, cut at `limit` characters."""
    plain = str(text)
    return repr(plain if len(plain) <= limit else plain[:limit] + "…")


def wrong(name: str, what: str, why: str = "", code: str = "M017") -> TamagoError:
    """An error about the tensor of that name."""
    todo = "the file is damaged or was written by a faulty exporter: export the model again"
    return TamagoError(code, what, where=f"tensor {shown(name)}", why=why, todo=todo)


def data_type(number: int, where: str) -> ir.DataType:
    """The element type of that number.

    Raises:
        TamagoError: M018 if there is none.
    """
    if number in DATA_TYPES:
        return ir.DataType(number)
    why = "it may come from a newer ONNX than this installation knows" if number > 0 else ""
    todo = "export the model again, or `pip install -U onnx onnx-ir onnxruntime`"
    raise TamagoError("M018", f"unknown data type {number}", where=where, why=why, todo=todo)


def element_count(dims: Sequence[int], name: str) -> int:
    """How many elements a tensor of those dimensions has.

    Raises:
        TamagoError: M017 for a negative dimension, or more elements than 64 bits count.
    """
    if any(dim < 0 for dim in dims):
        raise wrong(name, "a tensor has a negative dimension", f"its dimensions are {list(dims)}")
    if len(dims) > _MOST_AXES or math.prod(dim for dim in dims if dim) > _LARGEST:
        raise wrong(name, "a tensor is too large for any machine", f"its dimensions are {shown(list(dims))}")
    return math.prod(dims)


def byte_count(dtype: ir.DataType, dims: Sequence[int], name: str) -> int:
    """How many bytes the elements take as `raw_data`; elements of less than a byte are packed.

    Raises:
        TamagoError: M017 as `element_count` does, or for strings, which have no fixed size.
    """
    if dtype == ir.DataType.STRING:
        raise wrong(name, "strings are stored as raw bytes", "ONNX keeps strings in `string_data`")
    return -(-element_count(dims, name) * dtype.bitwidth // 8)


def from_buffer(
    buffer: bytes | memoryview,
    dtype: ir.DataType,
    dims: Sequence[int],
    name: str | None,
    doc_string: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ir.TensorProtocol:
    """A tensor that is a read-only view of the buffer, which holds exactly its bytes (little endian).

    Raises:
        TamagoError: M017 if the bits are no value of a six-bit type.
    """
    described: dict[str, Any] = {
        "name": name,
        "doc_string": doc_string,
        "metadata_props": dict(metadata) if metadata else None,
    }
    if dtype.bitwidth >= 8:
        array = np.frombuffer(buffer, dtype=dtype.numpy()).reshape(tuple(dims))
        return ir.Tensor(array, dtype=dtype, **described)
    packed = ir.PackedTensor(np.frombuffer(buffer, dtype=np.uint8), dtype, shape=list(dims), **described)
    if dtype.bitwidth == 6:
        _check_six_bits(packed)
    return packed


def resident(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """The same tensor without the protobuf message it came from, which is freed once no tensor needs it.

    Raises:
        TamagoError: M017 if its data do not fill its shape exactly.
    """
    if isinstance(tensor, ir.StringTensor):
        return _strings(tensor)
    if not isinstance(tensor, TensorProtoTensor):
        return tensor
    proto = tensor.raw
    metadata = deserialize_metadata_props(proto.metadata_props)
    doc_string = proto.doc_string or None
    expected = byte_count(tensor.dtype, proto.dims, proto.name)
    if proto.HasField("raw_data"):
        raw = proto.raw_data
        _expect(len(raw), expected, "bytes", proto.name)
        return from_buffer(raw, tensor.dtype, proto.dims, proto.name, doc_string, metadata)
    field = typed_field(tensor.dtype)
    entries = _entries(tensor.dtype, element_count(proto.dims, proto.name))
    _expect(len(getattr(proto, field)), entries, f"entries of {field}", proto.name)
    if tensor.dtype.bitwidth == 6:
        _check_six_bits(tensor)
    return ir.Tensor(
        tensor.numpy(), dtype=tensor.dtype, name=proto.name, doc_string=doc_string, metadata_props=metadata
    )


def typed_field(dtype: ir.DataType) -> str:
    """The field of a `TensorProto` that holds elements of that type when `raw_data` does not."""
    return _FIELD_OF.get(dtype, "int32_data")


def _entries(dtype: ir.DataType, elements: int) -> int:
    """How many entries of its typed field a tensor of so many elements has."""
    if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        return 2 * elements
    if dtype == ir.DataType.STRING:
        return elements
    return -(-elements // _ELEMENTS_PER_ENTRY.get(dtype.bitwidth, 1))


class SparseTensor(ir.LazyTensor):
    """A constant kept as its non-zero elements; any reader sees the dense tensor, a file gets the sparse one back.

    Args:
        proto: the message that a file gets.
        values: its non-zero elements.
        indices: where they are: positions in the flattened tensor, or a row of coordinates for each.

    Raises:
        TamagoError: M017 if an index lies outside of the tensor.
    """

    __slots__ = ("proto",)

    def __init__(self, proto: onnx.SparseTensorProto, values: ir.TensorProtocol, indices: ir.TensorProtocol) -> None:
        self.proto = proto
        name, dims = proto.values.name, tuple(proto.dims)
        positions = _positions(indices.numpy(), values.size, dims, name)

        def dense() -> ir.TensorProtocol:
            array = np.zeros(dims, dtype=values.numpy().dtype)
            array[positions] = values.numpy().reshape(-1)
            return ir.Tensor(array, dtype=values.dtype)

        # Not cached: only who reads the dense tensor pays for it.
        super().__init__(dense, values.dtype, ir.Shape(dims), name=name)


def _positions(indices: Array, count: int, dims: tuple[int, ...], name: str) -> tuple[Array, ...]:
    limits = np.array([element_count(dims, name)] if indices.ndim == 1 else dims, dtype=np.int64)
    columns = indices[:, None] if indices.ndim == 1 else indices
    fits = bool(dims) and len(indices) == count and columns.shape[1:] == limits.shape
    if not fits or bool(np.any(columns < 0)) or bool(np.any(columns >= limits)):
        raise wrong(name, "the indices of a sparse tensor do not fit its dimensions")
    return np.unravel_index(indices, dims) if indices.ndim == 1 else tuple(columns.T)


def _strings(tensor: ir.StringTensor) -> ir.StringTensor:
    strings = list(tensor.string_data())
    name = tensor.name or ""
    _expect(len(strings), element_count(tensor.shape.numpy(), name), "strings", name)
    metadata = tensor.metadata_props or None
    return ir.StringTensor(
        strings, shape=tensor.shape, name=tensor.name, doc_string=tensor.doc_string, metadata_props=metadata
    )


def _expect(found: int, expected: int, unit: str, name: str) -> None:
    if found != expected:
        raise wrong(name, "a tensor's data do not fill its shape", f"{found} {unit} instead of {expected}")


def _check_six_bits(tensor: ir.TensorProtocol) -> None:
    try:
        tensor.tobytes()
    except ValueError as error:
        raise wrong(tensor.name or "", "a tensor's bits are no value of its type", str(error)) from error

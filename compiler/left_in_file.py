"""Large weights inside a model's own file stay there: the message is read without them, and they are mapped.

A protobuf message is fields, each a tag and a value; a tensor's `raw_data` lie in one run of bytes. The message is
copied without those of large initializers, each with a reference to its place as external data instead. Nothing in the
file is believed: a length that leaves its message, or anything that is not plainly what onnx.proto says, ends the
attempt, and the file is then read as any other (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import onnx

# Field numbers of onnx.proto.
_GRAPH, _INITIALIZER = 7, 5
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14

_VARINT, _EIGHT_BYTES, _CHUNK, _FOUR_BYTES = 0, 1, 2, 5
_SIZES = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_LONGEST_VARINT = 10  # bytes
_MOST_FIELDS = 4096  # of a tensor: one whose numbers are fields of their own is none that is left in its file

SMALLEST = 1 << 20  # bytes: a smaller tensor is read with the message


_Parts = list[bytes | memoryview]


class NotPlain(Exception):
    """The bytes are not what this reads."""


class _Field(NamedTuple):
    """A field of a message: its number, where it starts and ends, and where its value starts if it is a chunk."""

    number: int
    start: int
    value: int | None
    end: int


def without_weights(data: memoryview, location: str) -> bytes:
    """The message of a model whose large initializers lie in an external file, which is this file itself.

    Args:
        data: a serialised `ModelProto`.
        location: what the external data name as their file.

    Raises:
        NotPlain: it cannot be said where the initializers are.
    """
    fields = list(_fields(data, 0, len(data)))
    if sum(field.number == _GRAPH for field in fields) != 1:
        raise NotPlain
    parts = [
        part
        for field in fields
        for part in (_graph(data, field, location) if field.number == _GRAPH else [data[field.start : field.end]])
    ]
    if sum(map(len, parts)) * 2 > len(data):
        raise NotPlain  # most of it is not in large initializers: one copy is cheaper than two
    return b"".join(parts)


def _graph(data: memoryview, graph: _Field, location: str) -> _Parts:
    parts: _Parts = []
    for field in _fields(data, *_inside(graph)):
        large = field.number == _INITIALIZER and field.end - field.start >= SMALLEST
        parts += _tensor(data, field, location) if large else [data[field.start : field.end]]
    return _chunk(_GRAPH, parts)


def _tensor(data: memoryview, tensor: _Field, location: str) -> _Parts:
    start, end = _inside(tensor)
    fields: list[_Field] = []
    for field in _fields(data, start, end):
        fields.append(field)
        if len(fields) > _MOST_FIELDS:
            raise NotPlain
    raw = [field for field in fields if field.number == _RAW_DATA]
    if not raw or any(_lies_elsewhere(data, field) for field in fields):
        return [data[tensor.start : end]]
    if len(raw) > 1:
        raise NotPlain
    first, last = _inside(raw[0])
    place = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(first)), ("length", str(last - first))):
        place.external_data.add(key=key, value=value)
    # Of two locations of the data, the message's own and this one, the last counts.
    rest = [data[field.start : field.end] for field in fields if field is not raw[0]]
    return _chunk(_INITIALIZER, [*rest, place.SerializeToString()])


def _lies_elsewhere(data: memoryview, field: _Field) -> bool:
    if field.number != _DATA_LOCATION:
        return field.number == _EXTERNAL_DATA
    return _varint(data, _varint(data, field.start, field.end)[1], field.end)[0] != onnx.TensorProto.DEFAULT


def _inside(field: _Field) -> tuple[int, int]:
    if field.value is None:
        raise NotPlain
    return field.value, field.end


def _chunk(number: int, content: _Parts) -> _Parts:
    return [_as_varint(number << 3 | _CHUNK), _as_varint(sum(map(len, content))), *content]


def _fields(data: memoryview, start: int, end: int) -> Iterator[_Field]:
    """The fields of the message in these bytes; each ends where the next one starts, and the last one at the end."""
    while start < end:
        tag, position = _varint(data, start, end)
        kind, value = tag & 7, None
        if kind == _VARINT:
            _, stop = _varint(data, position, end)
        elif kind == _CHUNK:
            size, value = _varint(data, position, end)
            stop = value + size
        elif kind in _SIZES:
            stop = position + _SIZES[kind]
        else:
            raise NotPlain  # groups, which onnx.proto has none of
        if stop > end:
            raise NotPlain
        yield _Field(tag >> 3, start, value, stop)
        start = stop


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    number = 0
    for place, byte in enumerate(data[position : min(position + _LONGEST_VARINT, end)]):
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number, position + place + 1
    raise NotPlain


def _as_varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])

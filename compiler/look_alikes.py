"""Why a file is not an ONNX model: what it looks like instead, or where it was cut off."""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

from .errors import TamagoError


class Kind(NamedTuple):
    """What a file looks like, and what its owner can do about it."""

    what: str
    todo: str


_EXPORT = (
    "load it in Python and give tamago the module, or export it with torch.onnx.export(module, args, 'model.onnx')"
)
_TENSORS_ONLY = "it holds tensors without a graph: export the model that uses them to ONNX"
_TORCH = Kind("a PyTorch file", _EXPORT)

# (offset, bytes there, what it is)
_SIGNATURES = (
    (0, b"version https://git-lfs.github.com", Kind("a Git LFS pointer, not the file itself", "run `git lfs pull`")),
    (0, b"GGUF", Kind("a GGUF file", "tamago reads ONNX and PyTorch models: start from the original model")),
    (0, b"\x93NUMPY", Kind("a NumPy array", _TENSORS_ONLY)),
    (0, b"\x89HDF", Kind("an HDF5 file, perhaps a Keras model", "convert it with tf2onnx")),
    (4, b"TFL3", Kind("a TensorFlow Lite model", "convert it with `python -m tf2onnx.convert --tflite`")),
    (4, b"ORTM", Kind("a model in ONNX Runtime's own format (.ort)", "give the .onnx file that it was made from")),
    (0, b"\x1f\x8b", Kind("a gzip archive", "unpack it first")),
    (0, b"\x28\xb5\x2f\xfd", Kind("a Zstandard archive", "unpack it first")),
    (0, b"7z\xbc\xaf", Kind("a 7-Zip archive", "unpack it first")),
    (257, b"ustar", Kind("a tar archive", "unpack it first")),
    (0, b"\x7fELF", Kind("a compiled program or library", "give an .onnx file")),
    (0, b"MZ\x90", Kind("a compiled program or library", "give an .onnx file")),
    (0, b"%PDF", Kind("a PDF document", "give an .onnx file")),
    (0, b"\x89PNG", Kind("an image", "give an .onnx file")),
    (0, b"\xff\xd8\xff", Kind("an image", "give an .onnx file")),
)

_LARGEST_HEADER = 100 << 20  # bytes of a safetensors file's JSON
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))

# Field numbers of ModelProto (onnx.proto) with their wire types: 0 is a varint, 2 a length and as many bytes.
_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}


def explain(data: bytes, where: str, reason: str) -> TamagoError:
    """The error for bytes that do not parse as a model.

    Args:
        data: the whole file.
        where: its path, for the message.
        reason: what the parser said.

    Returns:
        M005 another kind of file, M006 cut off, M009 nested too deeply, M007 damaged otherwise.
    """
    if "MaxDepth" in reason or "recursion" in reason.lower():
        return too_deep(where)
    if (kind := look_alike(data)) is not None:
        return TamagoError("M005", f"not an ONNX model: this looks like {kind.what}", where=where, todo=kind.todo)
    if (missing := missing_bytes(data)) > 0:
        why = f"at least {missing} bytes are missing at its end"
        return TamagoError("M006", "the file is cut off", where=where, why=why, todo="copy or download it again")
    todo = "copy or download the file again, or check it with `onnx.checker.check_model`"
    return TamagoError("M007", "the file is not an ONNX model, or is damaged", where=where, why=reason, todo=todo)


def too_deep(where: str) -> TamagoError:
    """The error for graphs within graphs beyond what protobuf reads."""
    why = "protobuf reads 100 levels of messages, which is about 31 graphs within one another"
    return TamagoError("M009", "the model is nested too deeply", where=where, why=why, todo="flatten its sub-graphs")


def look_alike(data: bytes, file: Path | None = None) -> Kind | None:
    """What the bytes are, if they are something well known that is not ONNX.

    Args:
        data: the file's content, or its beginning if the file is given too.
        file: where the content is.
    """
    for offset, signature, kind in _SIGNATURES:
        if data.startswith(signature, offset):
            return kind
    if data.startswith(b"PK\x03\x04"):
        return _archive(file or io.BytesIO(data))
    if data.startswith(_PICKLES):
        return _TORCH
    if data[8:10] == b'{"' and int.from_bytes(data[:8], "little") < _LARGEST_HEADER:
        return Kind("a safetensors file", _TENSORS_ONLY)
    return _text(data[:4096])


def missing_bytes(data: bytes) -> int:
    """How many bytes the model lacks at its end, at least; 0 if it does not read like a model that was cut off."""
    position, fields = 0, 0
    while position < len(data):
        tag, position = _varint(data, position)
        field, wire = tag >> 3, tag & 7
        if _MODEL_FIELDS.get(field) != wire:
            return 0
        value, position = _varint(data, position)
        if wire == 2:
            position += value
        fields += 1
    return position - len(data) if fields else 0


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if position + shift // 7 >= len(data):
            return value, len(data) + 1
        byte = data[position + shift // 7]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + shift // 7 + 1
    return value, position + 10


def _archive(file: Path | io.BytesIO) -> Kind:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        return Kind("a damaged zip archive", "download it again, unpack it, and give the .onnx file inside")
    if any(name.endswith(("data.pkl", "serialized_exported_program.json")) or "/models/" in name for name in names):
        return _TORCH
    if names and all(name.endswith(".npy") for name in names):
        return Kind("NumPy arrays (.npz)", _TENSORS_ONLY)
    return Kind("a zip archive", "unpack it and give the .onnx file inside")


def _text(head: bytes) -> Kind | None:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # a character cut in two at the end of the head is no reason to doubt
            return None
        text = head[: error.start].decode("utf-8")
    if not all(character.isprintable() or character in "\t\r\n\f" for character in text):
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html")):
        return Kind("a web page", "the download went wrong: fetch the file itself, not the page about it")
    if start.startswith("<?xml") or start.startswith("<net"):
        return Kind("an XML file, perhaps an OpenVINO model", "give the .onnx file that it was made from")
    if start.startswith(("ir_version:", "<ir_version", "< ir_version", '{"irversion')):
        todo = "convert it: onnx.save(onnx.load('model.textproto'), 'model.onnx')"
        return Kind("ONNX in a text format", todo)
    return Kind("a text file", "give an .onnx file")

"""Model files: read with every check, written so that an interruption leaves the old files or the new ones.

Reading maps external data instead of loading it, and so it does with weights inside a file that is too large to be held
in memory. Writing puts the weights of a large model into one aligned data file
beside it; that file is published first, and under a fresh name where its usual name is taken, so that the model that is
being replaced, perhaps the very one whose weights are mapped, keeps its own until the new model's name appears.
"""

import hashlib
import logging
import mmap
import os
import secrets
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, EncodeError

from .atomic_write import (
    Output,
    mode_for,
    publish,
    refuse_special,
    reported,
    sibling,
    sync_folder,
    write_bytes,
    write_text,
)
from .errors import TamagoError
from .external_data import DataFiles
from .left_in_file import NotPlain, without_weights
from .look_alikes import explain, look_alike
from .mapped import let_go
from .mend import graphs_of, tensors_of
from .serialization import adopt, from_proto, tensors, to_proto
from .streaming import are_too_many
from .tensor_data import SparseTensor, shown

__all__ = [
    "file_bytes",
    "from_proto",
    "parse_model",
    "read_model",
    "to_proto",
    "write_bytes",
    "write_model",
    "write_text",
]

PROTOBUF_LIMIT = 2**31 - 1  # bytes of one message
EXTERNAL_ABOVE = 2**30  # bytes of weights; beyond it they go beside the model
_SMALLEST_EXTERNAL = 1024  # bytes; smaller constants are shapes and scalars that runtimes want inside the model
_ALIGNMENT = 64  # bytes, a cache line
_PAGE_ALIGNMENT = 65536  # bytes, for tensors that a runtime may map by themselves (64 KiB on Windows)
_MAPPED_ALONE = 2**20  # bytes

_logger = logging.getLogger(__name__)


def read_model(path: str | os.PathLike[str]) -> ir.Model:
    """The ONNX model in a file; its weights in other files are mapped, not loaded, and so are those of a large file.

    Args:
        path: the model's file; may be a symbolic link. External data are sought in the folder of the path as given.

    Raises:
        TamagoError: M001 to M010 the file is missing or no model, M011 to M019 the model is malformed,
            M020 to M025 its external data are missing, malformed, or outside of its folder.
    """
    source = Path(path)
    size = _size(source)
    if are_too_many(size):
        try:
            return _read_in_place(source)
        except (NotPlain, OSError, TamagoError):
            _logger.debug("%s is read into memory", source)  # which says what is wrong with it, if anything is
    proto = _parse(_read(source), str(source))
    with DataFiles(source.parent, source) as files:
        return adopt(proto, files)


def _read_in_place(source: Path) -> ir.Model:
    with open(source, "rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    here = secrets.token_hex(16)  # what nobody who wrote the file can have named
    message = without_weights(data, here)
    let_go(np.frombuffer(data, np.uint8))
    with DataFiles(source.parent, source, {(here,): data}) as files:
        return adopt(_parse(message, str(source)), files)


def parse_model(data: bytes, folder: str | os.PathLike[str] | None = None) -> ir.Model:
    """The ONNX model in bytes.

    Args:
        data: a serialised `ModelProto`.
        folder: where its external data are, if it has any.

    Raises:
        TamagoError: as `read_model`; M025 if there are external data and no folder.
    """
    if not data:
        raise TamagoError("M004", "the model is empty", where="bytes", todo="give the bytes of an ONNX file")
    with DataFiles(None if folder is None else Path(folder)) as files:
        return adopt(_parse(data, "bytes"), files)


def write_model(model: ir.Model, path: str | os.PathLike[str], *, external: bool | None = None) -> None:
    """Writes the model; an interruption leaves the old files or the new ones. The same model gives the same bytes.

    Args:
        model: what to write. It may be mapped from the files that are being replaced.
        path: the destination. A symbolic link there is replaced, not followed.
        external: weights go to one file beside the model (`True`), into it (`False`), or beside it if they exceed
            1 GiB (`None`). The file is called `<name>.data`; if that name is taken by other data, a part of their
            digest is put into the name, and the old file stays, since another model may use it.

    Raises:
        TamagoError: M030 the folder is missing, M031 the destination is not a plain file, M032 not permitted, M033 no
            space, M034 any other failure of the file system, M035 too large without external data.
    """
    destination = Path(path)
    if external is None:
        external = sum(size for _, size in _weights(model)) > EXTERNAL_ABOVE
    with reported(destination):
        refuse_special(destination)
        mode = mode_for(destination)
        if not external:
            _publish_proto(to_proto(model), destination, mode)
            return
        with _data_file(model, destination, mode) as references:
            _publish_proto(to_proto(model, lambda tensor: references.get(id(tensor))), destination, mode)


def file_bytes(model: ir.Model) -> int:
    """What the model takes as a file, its weights included, wherever they lie; no weight is read for it."""
    sizes = {id(tensor): (tensor, size) for tensor, size in _weights(model)}
    nowhere = {key: _reference(tensor, "", 0) for key, (tensor, _) in sizes.items()}
    proto = to_proto(model, lambda tensor: nowhere.get(id(tensor)))
    for graph in graphs_of(proto):
        for tensor in tensors_of(graph):
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return proto.ByteSize() + sum(size for _, size in sizes.values())


def _size(source: Path) -> int:
    """Bytes of a file that may be a model."""
    where = str(source)
    with _told(source):
        found = os.stat(source)
        if stat.S_ISDIR(found.st_mode):
            raise TamagoError("M002", "this is a folder, not a model", where=where, todo="give the .onnx file in it")
        if not stat.S_ISREG(found.st_mode):
            todo = "give the path of a file on disk"
            raise TamagoError("M002", "this is not a regular file", where=where, todo=todo)
        if found.st_size == 0:
            raise TamagoError("M004", "the file is empty", where=where, todo="copy or download it again")
        if found.st_size > PROTOBUF_LIMIT:
            raise _too_large(source)
        return found.st_size


def _read(source: Path) -> bytes:
    with _told(source):
        return source.read_bytes()


@contextmanager
def _told(source: Path) -> Generator[None]:
    """What the file system says as coded errors."""
    where = str(source)
    try:
        yield
    except FileNotFoundError as error:
        why = "it is a link to a file that does not exist" if source.is_symlink() else ""
        raise TamagoError("M001", "there is no such file", where=where, why=why, todo="check the path") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise TamagoError("M003", "the file cannot be read", where=where, why=why, todo="check the path") from error


def _too_large(source: Path) -> TamagoError:
    with open(source, "rb") as file:
        kind = look_alike(file.read(4096), source)
    if kind is not None:
        return TamagoError("M005", f"not an ONNX model: this looks like {kind.what}", where=str(source), todo=kind.todo)
    why = "protobuf reads at most 2 GiB in one file"
    todo = "export it with external data, which keeps the weights in a file beside it"
    return TamagoError("M008", "the file is too large for an ONNX model", where=str(source), why=why, todo=todo)


def _parse(data: bytes, where: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise explain(data, where, str(error)) from error
    if not proto.HasField("graph") and look_alike(data) is not None:
        raise explain(data, where, "no graph")
    return proto


def _publish_proto(proto: onnx.ModelProto, destination: Path, mode: int) -> None:
    try:
        data = proto.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        why = f"one file holds at most 2 GiB ({error})"
        todo = "write it with external data (external=True)"
        raise TamagoError(
            "M035", "the model is too large for one file", where=str(destination), why=why, todo=todo
        ) from error
    with sibling(destination) as output:
        output.write(data)
        publish(output, destination, mode)


def _weights(model: ir.Model) -> Iterator[tuple[ir.TensorProtocol, int]]:
    """The tensors that may go to a data file, each once, with their sizes in bytes."""
    seen: set[int] = set()
    for tensor in tensors(model):
        if id(tensor) in seen or tensor.dtype == ir.DataType.STRING or isinstance(tensor, SparseTensor):
            continue
        seen.add(id(tensor))
        if tensor.nbytes >= _SMALLEST_EXTERNAL:
            yield tensor, tensor.nbytes


@contextmanager
def _data_file(model: ir.Model, destination: Path, mode: int) -> Generator[dict[int, ir.ExternalTensor]]:
    """Publishes the weights beside the model; gives the references to them by the tensors' identities."""
    with sibling(destination) as output:
        placed = [(tensor, _place(tensor, size, output)) for tensor, size in _weights(model)]
        name = _publish_data(output, destination, mode) if placed else ""
    yield {id(tensor): _reference(tensor, name, offset) for tensor, offset in placed}


def _reference(tensor: ir.TensorProtocol, file: str, offset: int) -> ir.ExternalTensor:
    return ir.ExternalTensor(
        file,
        offset,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props) or None,
    )


def _place(tensor: ir.TensorProtocol, size: int, output: Output) -> int:
    alignment = _PAGE_ALIGNMENT if size >= _MAPPED_ALONE else _ALIGNMENT
    content = _content(tensor)
    if len(content) != size:
        raise ValueError(f"tensor {shown(tensor.name)} gives {len(content)} bytes instead of {size}")
    output.write(bytes(-output.position % alignment))
    output.write(content)
    let_go(np.frombuffer(content, np.uint8))
    return output.position - size


def _content(tensor: ir.TensorProtocol) -> bytes | memoryview:
    """The tensor's bytes; without a copy where they already lie as a file wants them."""
    array = tensor.raw if isinstance(tensor, ir.Tensor) else None
    if not isinstance(array, np.ndarray) or tensor.dtype.bitwidth < 8 or not array.flags.c_contiguous:
        return tensor.tobytes()
    if array.dtype.newbyteorder("<") != array.dtype:
        return tensor.tobytes()
    return array.reshape(-1).view(np.uint8).data


def _publish_data(output: Output, destination: Path, mode: int) -> str:
    digest = output.digest.hexdigest()
    usual = destination.with_name(f"{destination.name}.data")
    # A name made from the content cannot be wanted for anything else, so two writers of it do no harm.
    unique = destination.with_name(f"{destination.name}.{digest[:16]}.data")
    for path in (usual, unique):
        if _holds(path, output.position, digest):
            sync_folder(path.parent)
            return path.name
    path = usual if _claim(usual) else unique
    publish(output, path, mode)
    if path != usual:
        _tell_of_old(usual, path.name)
    return path.name


def _claim(path: Path) -> bool:
    """Takes a free name, so that no other process that writes the same model can take it too."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True


def _holds(path: Path, size: int, digest: str) -> bool:
    """Whether there is a file with that content already, and it can serve as external data."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size != size:
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest


def _tell_of_old(usual: Path, name: str) -> None:
    _logger.warning(
        "weights are in %s, because %s belongs to the model that is being replaced; delete the old file if no other "
        "model uses it",
        name,
        usual,
    )

"""Weights in files beside the model, read only from inside the model's folder.

The folder is opened once; each component of a location is opened below it without following links; what is found must
be a regular file with a single name; and bounds are checked before the file is mapped read-only. So neither a location
(`..`, absolute), nor a symbolic or hard link, nor a race between check and use leads outside. The checks follow
CVE-2022-25882, -2024-27318, -2026-34446 and their kin (onnx's `external_data` advisories).

A link that the *user* typed is fine. One link inside the folder is followed: where the model file itself is a link, as
in the Hugging Face cache, a data file may be a link to a sibling of the model's real file. ONNX Runtime does the same.
"""

import mmap
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import onnx
import onnx_ir as ir

from .errors import TamagoError
from .tensor_data import byte_count, data_type, from_buffer, shown

EXTERNAL_KEYS = ("location", "offset", "length", "checksum", "basepath")
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_LARGEST = 2**63 - 1
_SAFE_OPEN = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW") and hasattr(os, "O_DIRECTORY")
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe must not block the open


class Region(NamedTuple):
    """Where a tensor's bytes are: a file below the model's folder, and `length` bytes from `offset`."""

    location: str
    offset: int
    length: int


def region_of(proto: onnx.TensorProto) -> Region:
    """The region that a tensor names, its length checked against its shape.

    Raises:
        TamagoError: M021 for a location that leads outside, M023 for numbers that are none, M024 for a length that
            does not match the shape, M017 for an impossible shape.
    """
    name = proto.name
    entries = [(entry.key, entry.value) for entry in proto.external_data if entry.key in EXTERNAL_KEYS]
    known = dict(entries)
    if len(known) != len(entries):
        raise _refusal("M023", "a key of the external data appears twice", name)
    location = known.get("location", "")
    components(location, name)
    expected = byte_count(data_type(proto.data_type, f"tensor {shown(name)}"), proto.dims, name)
    offset = _number(known.get("offset", "0"), "offset", name)
    length = _number(known.get("length", "0"), "length", name) or expected
    if length != expected:
        why = f"it says {length} bytes, its shape and type need {expected}"
        raise _refusal("M024", "a tensor's external data do not fill its shape", name, why)
    return Region(location, offset, length)


def components(location: str, name: str) -> tuple[str, ...]:
    """The folders and the file that a location names, outermost first.

    Raises:
        TamagoError: M021 if it is empty, absolute, climbs with `..`, or holds a NUL.
    """
    text = location.replace("\\", "/") if os.name == "nt" else location
    parts = tuple(part for part in text.split("/") if part not in ("", "."))
    if "\0" in text or not parts:
        raise _refusal("M021", f"the location {shown(location)} of a tensor's data is no file name", name)
    if text.startswith("/") or ".." in parts or (os.name == "nt" and ":" in text):
        why = "a model may only read files below its own folder"
        raise _refusal("M021", f"the location {shown(location)} leads out of the model's folder", name, why)
    return parts


class DataFiles:
    """The data files of one model, each opened and mapped once; a context manager that closes the folder.

    Args:
        folder: the model's folder, as the user typed it; `None` for bytes that came from no file.
        model: the model file, if the bytes came from one; lets the Hugging Face cache work.
        mapped: contents of files that are there already, by the components of their locations.
    """

    def __init__(
        self,
        folder: Path | None,
        model: Path | None = None,
        mapped: Mapping[tuple[str, ...], memoryview] | None = None,
    ) -> None:
        self._folder = folder
        self._real_folder = Path(os.path.realpath(model)).parent if model is not None and model.is_symlink() else None
        self._descriptor = -1
        self._mapped = dict(mapped or {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def view(self, region: Region, name: str) -> memoryview:
        """The bytes of a region, read-only and backed by the file.

        Raises:
            TamagoError: M020 the file is missing or unreadable, M021 the location leads outside, M022 it is a link or
                not a regular file, M023 the region ends after the file does.
        """
        parts = components(region.location, name)
        if parts not in self._mapped:
            self._mapped[parts] = self._map(parts, name)
        whole = self._mapped[parts]
        if region.offset + region.length > len(whole):
            why = (
                f"{region.length} bytes from {region.offset} reach beyond "
                f"the {len(whole)} bytes of {shown(region.location)}"
            )
            raise _refusal("M023", "a tensor's external data end after their file does", name, why)
        return whole[region.offset : region.offset + region.length]

    def load(self, tensor: ir.ExternalTensor) -> ir.TensorProtocol:
        """The tensor as a view of its mapped file; raises as `view` does."""
        name = tensor.name or ""
        dims = tuple(int(dim) for dim in tensor.shape.numpy())
        size = byte_count(tensor.dtype, dims, name)
        region = Region(os.fspath(tensor.location), tensor.offset or 0, size)
        # An empty tensor needs no file, and often has none.
        view = self.view(region, name) if size else memoryview(b"")
        return from_buffer(view, tensor.dtype, dims, tensor.name, tensor.doc_string, tensor.metadata_props)

    def _map(self, parts: tuple[str, ...], name: str) -> memoryview:
        try:
            descriptor = self._open(parts, name)
        except FileNotFoundError as error:
            todo = f"put the file {shown('/'.join(parts))} beside the model: it holds the weights"
            raise _refusal("M020", "the file with a tensor's data is missing", name, str(error), todo) from error
        except OSError as error:
            raise _refusal("M020", "the file with a tensor's data cannot be read", name, str(error)) from error
        try:
            return _contents(descriptor, parts, name)
        finally:
            os.close(descriptor)

    def _open(self, parts: tuple[str, ...], name: str) -> int:
        folder = self._folder
        if folder is None:
            what = "a tensor's data are in another file, and the model's folder is not known"
            todo = "give the path of the model instead of its bytes"
            raise _refusal("M025", what, name, f"the file is {shown('/'.join(parts))}", todo)
        if not _SAFE_OPEN:
            return _open_by_path(folder, parts, name)
        if self._descriptor < 0:
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        return self._open_below(folder, parts, name)

    def _open_below(self, root: Path, parts: tuple[str, ...], name: str) -> int:
        folder, opened = self._descriptor, list[int]()
        try:
            for part in parts[:-1]:
                _look(part, folder, name, stat.S_ISDIR)
                folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                opened.append(folder)
            if len(parts) == 1 and (blob := self._blob(root, parts[0], name)) is not None:
                return blob
            _look(parts[-1], folder, name, stat.S_ISREG)
            return os.open(parts[-1], _READ | os.O_NOFOLLOW, dir_fd=folder)
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _blob(self, root: Path, part: str, name: str) -> int | None:
        """The data file beside the model's real file, if the two names here are links into one folder."""
        if self._real_folder is None:
            return None
        if not stat.S_ISLNK(os.stat(part, dir_fd=self._descriptor, follow_symlinks=False).st_mode):
            return None
        target = root / os.readlink(part, dir_fd=self._descriptor)
        if os.path.realpath(target.parent) != str(self._real_folder):
            return None
        real = os.open(self._real_folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _look(target.name, real, name, stat.S_ISREG)
            return os.open(target.name, _READ | os.O_NOFOLLOW, dir_fd=real)
        finally:
            os.close(real)


def _look(part: str, folder: int, name: str, wanted: Callable[[int], bool]) -> None:
    """Refuses a link, and keeps pipes and devices from being opened; O_NOFOLLOW and fstat decide in the end."""
    mode = os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        raise _link(part, name)
    if not wanted(mode):
        raise _refusal("M022", f"{shown(part)}, on the way to a tensor's data, is not a regular file", name)


def _open_by_path(folder: Path, parts: tuple[str, ...], name: str) -> int:
    """For platforms that cannot open below a folder: compares real paths, which leaves a race."""
    path = folder
    for part in parts:
        path /= part
        if path.is_symlink():
            raise _link(part, name)
    if Path(os.path.realpath(path)) != Path(os.path.realpath(folder)).joinpath(*parts):
        raise _link(str(path), name)
    if path.exists() and not path.is_file():
        raise _refusal("M022", f"{shown(path)}, named for a tensor's data, is not a regular file", name)
    return os.open(path, _READ)


def _contents(descriptor: int, parts: tuple[str, ...], name: str) -> memoryview:
    found = os.fstat(descriptor)
    file = shown("/".join(parts))
    if not stat.S_ISREG(found.st_mode):
        raise _refusal("M022", f"{file}, named for a tensor's data, is not a regular file", name)
    if found.st_nlink != 1:
        why = "another name for the same file may lie outside of the model's folder"
        raise _refusal("M022", f"{file} is a hard link", name, why, "copy the file instead of linking it")
    if found.st_size == 0:  # nothing to map
        return memoryview(b"")
    return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))


def _number(text: str, key: str, name: str) -> int:
    if _NUMBER.fullmatch(text) and int(text) <= _LARGEST:
        return int(text)
    raise _refusal("M023", f"the {key} {shown(text)} of a tensor's external data is no size in bytes", name)


def _link(part: str, name: str) -> TamagoError:
    why = "a link may lead out of the model's folder"
    todo = "replace the link by a copy of the file it points to"
    return _refusal("M022", f"{shown(part)}, on the way to a tensor's data, is a symbolic link", name, why, todo)


def _refusal(code: str, what: str, name: str, why: str = "", todo: str = "") -> TamagoError:
    advice = todo or "do not trust this file, or export the model again"
    return TamagoError(code, what, where=f"tensor {shown(name)}", why=why, todo=advice)

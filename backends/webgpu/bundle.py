"""A folder that any static web server can serve: the page, the runtime, the plan and its weights.

The folder is written beside its destination, synced and renamed: what stands there is complete or absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...compiler.atomic_write import reported, sync_folder
from ...compiler.errors import TamagoError
from .plan import Plan
from .sizes import Plans

KIND = "tamago-web"
FORMAT = 2  # of a single plan
SEVERAL = 3  # of plans that share what does not depend on the size
SITE = Path(__file__).with_name("site")
SHARD = 60 << 20  # bytes of weights in a file: small enough for every host's and browser's limits
APPS = ("classifier", "completion")
_TYPES = {"float32": "F32", "float16": "F16", "int32": "I32", "uint32": "U32"}  # safetensors' names

Weights = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class File:
    """A file of a bundle: its name, its bytes, and what is sent of it by a server that compresses."""

    name: str
    bytes: int
    gzip: int


@dataclass(frozen=True)
class _Piece:
    """A weight, or a part of one that is too large for a file."""

    weight: str
    offset: int
    data: memoryview
    dtype: str
    shape: tuple[int, ...]


def write_bundle(
    folder: Path,
    plan: Plan | Plans,
    weights: Weights,
    *,
    name: str,
    app: Mapping[str, Any] | None = None,
    force: bool = False,
) -> None:
    """Write a plan, its weights and the page that runs them into a new folder.

    Args:
        folder: where; it must not exist.
        plan: what the page runs, at one size or at several.
        weights: arrays by the names in the plan's weights, in the type in which they are stored.
        name: shown as the page's title.
        app: settings of the example page under "kind" `classifier` or `completion`; None: a page for any model.
        force: replace the folder where it is an older bundle and holds nothing else.

    Raises:
        TamagoError: W001 the folder exists, W002 it is no bundle or holds more, W003 the app is unknown, W004 a weight
            is missing or does not fit; M03x writing failed.
    """
    if app is not None and app.get("kind") not in APPS:
        raise TamagoError("W003", f"there is no page {app.get('kind')!r}", todo=f"use one of: {', '.join(APPS)}")
    _check_weights(_any(plan), weights)
    folder = Path(os.path.abspath(folder))
    check_destination(folder, force)
    with reported(folder):
        beside = folder.parent / f".tamago-{os.getpid()}-{secrets.token_hex(8)}"
        beside.mkdir()  # not a temporary folder of mode 0700: a server runs as somebody else
        try:
            _fill(beside, plan, weights, name, app)
            _exchange(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def is_bundle(folder: Path) -> bool:
    """Whether a folder was written by `write_bundle`."""
    return _description(folder) is not None


def _description(folder: Path) -> dict[str, Any] | None:
    """A bundle's model.json; None: the folder is no bundle."""
    try:
        found = json.loads((folder / "model.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("kind") == KIND else None


def files_of(folder: Path) -> list[File]:
    """What is in a bundle, largest first."""
    found = [File(p.name, p.stat().st_size, _gzip_bytes(p)) for p in folder.iterdir()]
    return sorted(found, key=lambda f: (-f.bytes, f.name))


def check_destination(folder: Path, force: bool) -> None:
    """Refuse to write over what is there.

    Raises:
        TamagoError: W001 the folder exists, W002 it is no bundle or holds more than one.
    """
    if not os.path.lexists(folder):
        return
    description = _description(folder) if folder.is_dir() and not folder.is_symlink() else None
    if description is None:
        todo = "name a folder that does not exist"
        raise TamagoError("W002", "something else than a bundle is there", where=str(folder), todo=todo)
    if not force:
        todo = "replace it with --force (force=True), or name another folder"
        raise TamagoError("W001", "a bundle is already there", where=str(folder), todo=todo)
    if added := sorted(p.name for p in folder.iterdir() if p.name not in _written(description)):
        why = f"replacing it would remove {', '.join(added[:3])}{' and more' if len(added) > 3 else ''}"
        todo = "move them elsewhere, or name another folder"
        raise TamagoError("W002", "there is more than a bundle there", where=str(folder), why=why, todo=todo)


def _written(description: Mapping[str, Any]) -> list[str]:
    """The files of a bundle; those of the first format did not list them."""
    found = description.get("files")
    if isinstance(found, list):
        return [str(name) for name in found]
    shards = description.get("shards")
    named = [str(s["file"]) for s in shards if isinstance(s, dict) and "file" in s] if isinstance(shards, list) else []
    return [*(p.name for p in SITE.iterdir()), *named, "model.json"]


def _any(plan: Plan | Plans) -> Plan:
    """A plan that has all weights, as each of several does."""
    return plan if isinstance(plan, Plan) else plan.plans[0]


def _check_weights(plan: Plan, weights: Weights) -> None:
    for buffer, name in plan.weights.items():
        why = ""
        if name not in weights:
            why = "it is missing"
        elif weights[name].dtype.name not in _TYPES:
            why = f"its type is {weights[name].dtype}, not one of {', '.join(_TYPES)}"
        elif weights[name].nbytes > plan.buffers[buffer]:
            why = f"it has {weights[name].nbytes} bytes, its buffer {plan.buffers[buffer]}"
        if why:
            raise TamagoError("W004", "a weight is not what the plan says", where=name, why=why)


def _fill(folder: Path, plan: Plan | Plans, weights: Weights, name: str, app: Mapping[str, Any] | None) -> None:
    for source in (s for s in sorted(SITE.iterdir()) if s.is_file()):
        _write(folder / source.name, source.read_bytes())
    shards = [_write_shard(folder, number, pieces) for number, pieces in enumerate(_shards(_any(plan), weights))]
    model: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT if isinstance(plan, Plan) else SEVERAL,
        "name": name,
        "hash": plan.fingerprint,
        "app": app,
        **({"plan": plan.to_dict()} if isinstance(plan, Plan) else plan.to_dict()),
        "shards": shards,
    }
    model["files"] = sorted([*(p.name for p in folder.iterdir()), "model.json"])  # all else there is somebody's own
    _write(folder / "model.json", json.dumps(model, allow_nan=False, separators=(",", ":")).encode())
    sync_folder(folder)


def _shards(plan: Plan, weights: Weights) -> Iterator[list[_Piece]]:
    """Pieces of the weights, one list a file."""
    names = sorted(set(plan.weights.values()), key=lambda n: (-weights[n].dtype.itemsize, n))  # so all are aligned
    pieces: list[_Piece] = []
    size = 0
    for piece in (p for n in names for p in _pieces(n, weights[n])):
        if pieces and size + len(piece.data) > SHARD:
            yield pieces
            pieces, size = [], 0
        pieces.append(piece)
        size += len(piece.data)
    if pieces:
        yield pieces


def _pieces(name: str, array: npt.NDArray[Any]) -> Iterator[_Piece]:
    stored = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    data = stored.reshape(-1).view(np.uint8).data
    if len(data) <= SHARD:
        yield _Piece(name, 0, data, array.dtype.name, array.shape)
        return
    for offset in range(0, len(data), SHARD):
        part = data[offset : offset + SHARD]
        yield _Piece(name, offset, part, array.dtype.name, (len(part) // array.dtype.itemsize,))


def _write_shard(folder: Path, number: int, pieces: list[_Piece]) -> dict[str, Any]:
    """A safetensors file, and what model.json says of it."""
    header: dict[str, Any] = {}
    tensors: dict[str, tuple[str, int]] = {}
    position = 0
    for piece in pieces:
        key = piece.weight if piece.offset == 0 else f"{piece.weight}@{piece.offset}"
        while key in header or key == "__metadata__":
            key += "_"
        offsets = [position, position + len(piece.data)]
        header[key] = {"dtype": _TYPES[piece.dtype], "shape": list(piece.shape), "data_offsets": offsets}
        tensors[key] = (piece.weight, piece.offset)
        position = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data begins at a multiple of 8
    name = f"weights-{number}.safetensors"
    parts = [struct.pack("<Q", len(text)), text, *(p.data for p in pieces)]
    return {"file": name, **_write(folder / name, *parts), "tensors": tensors}


def _write(path: Path, *parts: bytes | memoryview) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
        file.flush()
        os.fsync(file.fileno())
        return {"bytes": file.tell(), "sha256": digest.hexdigest()}


def _exchange(new: Path, folder: Path) -> None:
    """Rename over the destination; an older bundle steps aside first and comes back when that fails."""
    old = new.with_name(new.name + "-old")
    replaces = folder.exists()
    if replaces:
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if replaces:
            with contextlib.suppress(OSError):
                old.rename(folder)
        raise
    sync_folder(folder.parent)
    if replaces:
        shutil.rmtree(old, ignore_errors=True)


def _gzip_bytes(path: Path) -> int:
    level = 9 if path.stat().st_size < 1 << 24 else 1  # weights hardly shrink, and there may be much of them
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    with path.open("rb") as file:
        size = sum(len(packer.compress(block)) for block in iter(lambda: file.read(1 << 20), b""))
    return size + len(packer.flush())

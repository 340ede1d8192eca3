"""What was measured: in the user's store, in files to share, and what comes with the package, a JSON file a device.

Records of a processor that plays a GPU say nothing about GPUs: they are never written to a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ....compiler.atomic_write import write_text
from ....compiler.errors import TamagoError
from ....compiler.price import Stored
from ....compiler.record_name import record_name
from ..plan import Kernel

FORMAT = "tamago webgpu records"
KEY_VERSION = 2  # 1: with counted loops


def job_key(kernel: Kernel, workgroups: tuple[int, int, int], sizes: Sequence[int]) -> str:
    """A name for what a kernel is asked to do, by its default form."""
    return record_name(["webgpu", KEY_VERSION, kernel.source, list(workgroups), list(sizes)])


class Records:
    """Records of one device.

    Args:
        store: where they are kept.
        environment: device and versions.
        software: whether a processor plays the device.
    """

    def __init__(self, store: Stored, environment: str, *, software: bool = False) -> None:
        self._store, self.environment, self.software = store, environment, software
        self.used: dict[str, Mapping[str, Any]] = {}

    def find(self, key: str) -> Mapping[str, Any] | None:
        """The record of a job: measured here, else what comes with the package for this device."""
        found = self._store.verdict(self._place(key)) or _shipped().get((_device(self.environment), key))
        if found is not None:
            self.used[key] = found
        return found

    def keep(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep one."""
        self._store.put_verdict(self._place(key), record)
        self.used[key] = record

    def _place(self, key: str) -> str:
        return record_name(["tune webgpu", key, self.environment])

    def export(self, path: str | Path) -> None:
        """Write the records that were used or made to a file.

        Raises:
            TamagoError: B044, they are of a processor that plays a GPU; M03x, the file cannot be written.
        """
        if self.software:
            raise TamagoError(
                "B044",
                "records of a software adapter are of no use elsewhere",
                where=self.environment,
                why="a processor that plays a GPU ranks kernels in another order than any GPU",
                todo="tune on the device that the records are for",
            )
        content = {"format": FORMAT, "environment": self.environment, "records": self.used}
        write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")

    def import_(self, path: str | Path) -> int:
        """Take over a file's records, where they are of this device; their number.

        Records hold kernels, which run on the device with checked subscripts but with nothing to end their loops: take
        files from whom you would take a program.

        Raises:
            TamagoError: B045, the file is none, or of another device.
        """
        environment, records = _read(Path(path).read_text(encoding="utf-8"), str(path))
        if _device(environment) != _device(self.environment):
            raise TamagoError("B045", "the records are of another device", where=str(path), why=environment)
        for key, record in records.items():
            self._store.put_verdict(self._place(key), record)
        return len(records)


def _device(environment: str) -> str:
    return environment.partition(" wgpu ")[0]


def _read(text: str, where: str) -> tuple[str, Mapping[str, Mapping[str, Any]]]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise TamagoError("B045", "the file is not JSON", where=where, why=str(error)) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TamagoError("B045", "the file holds no records of kernels", where=where)
    return content["environment"], content["records"]


@cache
def _shipped() -> Mapping[tuple[str, str], Mapping[str, Any]]:
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for file in files(__name__).iterdir():
        if file.name.endswith(".json"):
            environment, records = _read(file.read_text(encoding="utf-8"), file.name)
            found |= {(_device(environment), key): record for key, record in records.items()}
    return found

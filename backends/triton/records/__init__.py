"""Tuning records that come with the package, a JSON file for each device: a first compilation need not measure them.

Made on the device by `python -m tests.gpu.decode_table` and `tests.gpu.vision_table` with a store of their own, and
`tests.gpu.ship_records`: each record holds the job, the device and versions it was measured with, the date, and the
fastest candidates' times, spreads and errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any


def shipped(job: Mapping[str, Any], environment: str) -> Mapping[str, Any] | None:
    """The record of a job on this device, whatever versions it was measured with; None where there is none."""
    return _by_job().get(key(job, environment))


@cache
def _by_job() -> Mapping[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for file in files(__name__).iterdir():
        if file.name.endswith(".json"):
            found |= {key(r["job"], r["environment"]): r for r in json.loads(file.read_text(encoding="utf-8"))}
    return found


@cache
def fingerprint() -> str:
    """Of all records."""
    found = blake2b(digest_size=20)
    for file in sorted(files(__name__).iterdir(), key=lambda f: f.name):
        if file.name.endswith(".json"):
            found.update(file.read_bytes())
    return found.hexdigest()


def key(job: Mapping[str, Any], environment: str) -> str:
    """What a record is found by: its job and device, whatever versions it was measured with."""
    device = environment.partition(" torch ")[0]
    return json.dumps([device, job], sort_keys=True)

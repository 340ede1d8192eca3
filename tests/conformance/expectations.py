"""Lists of backend tests that fail for known reasons, read from TOML: `pattern` must match the whole test name."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Expected:
    """Tests that fail for one known reason."""

    pattern: re.Pattern[str]
    reason: str


def read_expected(name: str, table: str) -> list[Expected]:
    """The entries of a file in this folder."""
    with Path(__file__).with_name(name).open("rb") as file:
        entries = tomllib.load(file)[table]
    return [Expected(re.compile(entry["pattern"]), entry["reason"]) for entry in entries]


def reason_for(name: str, expected: list[Expected]) -> str | None:
    """Why a test fails; None where nobody expects it to."""
    return next((entry.reason for entry in expected if entry.pattern.fullmatch(name)), None)

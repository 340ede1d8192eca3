"""What settings are thought out for: sizes of an H100 and an H200."""

from __future__ import annotations

PROCESSORS = 132
SHARED = 200_000  # bytes of a processor's memory that stages may take

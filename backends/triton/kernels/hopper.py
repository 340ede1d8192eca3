"""What settings are thought out for: sizes of an H100 and an H200."""

from __future__ import annotations

PROCESSORS = 132
SHARED = 200_000  # bytes of a processor's memory that stages may take
LATENCY = 700  # cycles from asking memory to having
CACHE = 3200  # bytes a cycle that all processors read from the second cache
MEMORY = 1700  # and from memory

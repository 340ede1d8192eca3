"""How a row is held by tiles whose sides are powers of two."""

from __future__ import annotations

LEAST = 16  # what a side of a tile of the tensor cores takes


def parts(width: int) -> tuple[int, int]:
    """Widths of two tiles, powers of two, that hold a row together; the second is 0 where one does as well."""
    whole = max(LEAST, 1 << (width - 1).bit_length())
    first = whole // 2
    rest = max(LEAST, 1 << (width - first - 1).bit_length()) if width > first else 0
    return (first, rest) if first >= LEAST and rest <= first // 2 else (whole, 0)

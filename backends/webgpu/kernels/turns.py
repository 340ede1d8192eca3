"""How often a thread goes round its loops: mesa's software driver leaves them after 65,535 turns, without a word."""

from __future__ import annotations

import re

LOOP = re.compile(r"for \(var (\w+) = ([^;]+); \1 < ([^;]+); \1(?:\+\+| \+= (\d+))\) \{|[{}]")


def turns(body: str) -> int:
    """Turns of all loops of a thread; of loops whose ends are no numbers, one is counted."""
    totals, repeats = [0], list[int]()
    for found in LOOP.finditer(body):
        if found[0] != "}":
            repeats.append(_repeats(*found.groups()) if found[1] else 0)
            totals.append(0)
        elif repeats:
            inner, repeat = totals.pop(), repeats.pop()
            totals[-1] += repeat * (1 + inner) if repeat else inner
    return totals[0]


def _repeats(_: str, first: str, end: str, step: str | None) -> int:
    if not end.isdecimal():
        return 1
    begin = int(first) if first.isdecimal() else 0
    return max(1, -(-(int(end) - begin) // int(step or 1)))

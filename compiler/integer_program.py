"""Integer programs, solved by HiGHS, without what it announces on the process' standard output.

Some of its announcements pass every option and are written past Python: in the output of a command, or of the service
that calls it, they would be an error.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

_ANNOUNCED = re.compile(rb"^Highs\w*::.*\n?", re.MULTILINE)
_alone = threading.Lock()


def solve(objective: Any, *, constraints: Any, integrality: Any, bounds: Any, options: Mapping[str, Any]) -> Any:
    """`scipy.optimize.milp`; what other threads print while it runs is printed when it has run.

    Args:
        objective: what is minimised, a coefficient for each variable.
        constraints: linear ones.
        integrality: which variables are integers.
        bounds: of the variables.
        options: of the solver. It never presolves: what it re-solves afterwards is what it announces most.
    """
    from scipy import optimize

    with _alone, _without_announcements():
        return optimize.milp(
            objective,
            constraints=constraints,
            integrality=integrality,
            bounds=bounds,
            options={**options, "presolve": False},
        )


@contextmanager
def _without_announcements() -> Generator[None]:
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except (OSError, ValueError, AttributeError):  # there is no standard output
        yield
        return
    with tempfile.TemporaryFile() as written:
        try:
            os.dup2(written.fileno(), 1)
            yield
        finally:
            os.dup2(kept, 1)
            written.seek(0)
            rest = _ANNOUNCED.sub(b"", written.read())
            while rest:
                rest = rest[os.write(kept, rest) :]
            os.close(kept)

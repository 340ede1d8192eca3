"""Integer programs, solved by HiGHS: what it announces on the process' standard output is not the user's to read.

Some of its announcements (re-solving a solution that is not quite feasible) pass every option, and are written past
Python; in the output of a command or of a service they would be an error.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

_alone = threading.Lock()


def solve(objective: Any, *, constraints: Any, integrality: Any, bounds: Any, options: Mapping[str, Any]) -> Any:
    """`scipy.optimize.milp`; nothing reaches the standard output while it runs.

    Args:
        objective: what is minimised, a coefficient for each variable.
        constraints: linear ones.
        integrality: which variables are integers.
        bounds: of the variables.
        options: of the solver; presolving, whose re-solves took longest to be quiet, stays off.
    """
    from scipy.optimize import milp

    with _alone, _standard_output_closed():
        return milp(
            objective,
            constraints=constraints,
            integrality=integrality,
            bounds=bounds,
            options={**options, "presolve": False},
        )


@contextmanager
def _standard_output_closed() -> Generator[None]:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        kept = os.dup(1)
    except (OSError, ValueError):  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)

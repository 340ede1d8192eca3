"""The price of one operator: how much longer a session takes for each further copy of it."""

from __future__ import annotations

import numpy as np

from ...compiler.errors import TamagoError
from ...compiler.price import Site
from ...compiler.site_model import site_model, size_of
from ...compiler.timing import interleave
from .run import Program

COPIES = 5
FEWER, LARGE = 2, 1 << 26  # copies of an operator of so many bytes: it takes long enough to be told from its absence


def measure(site: Site, threads: int | None, version: int) -> tuple[float, float, int] | None:
    """Median milliseconds, spread and samples of a site; None where it cannot be run alone."""
    size = size_of(site)
    if size is None:
        return None
    most = FEWER if size > LARGE else COPIES
    try:
        runs = []
        for copies in (1, most):
            model, feeds = site_model(site, copies, version)
            program = Program(model, threads)
            runs.append(lambda program=program, feeds=feeds: program.session.run(None, feeds))
        one, many = interleave(runs, rounds=5, seconds=0.15, slot=0.002)
    except (TamagoError, RuntimeError, ValueError):
        return None
    except Exception as error:  # ONNX Runtime's own exception classes share no base but Exception
        if type(error).__module__.startswith("onnxruntime"):
            return None
        raise
    each = (np.asarray(many.samples) - np.asarray(one.samples)) / (most - 1)
    return max(float(np.median(each)), 1e-5), float(np.std(each)), len(each)

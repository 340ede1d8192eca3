"""The price of one operator: how much longer a session takes for each further copy of it."""

from __future__ import annotations

import numpy as np

from ...compiler.errors import TamagoError
from ...compiler.price import Site
from ...compiler.site_model import site_model, size_of
from ...compiler.timing import clock_for, interleave
from .run import Program

COPIES = 5


def measure(site: Site, threads: int | None, version: int) -> tuple[float, float, int] | None:
    """Median milliseconds, spread and samples of a site; None where it cannot be run alone."""
    if size_of(site) is None:
        return None
    try:
        runs = []
        for copies in (1, COPIES):
            model, feeds = site_model(site, copies, version)
            program = Program(model, threads)
            runs.append(lambda program=program, feeds=feeds: program.session.run(None, feeds))
        one, many = interleave(runs, rounds=5, seconds=0.15, slot=0.002, clock=clock_for(threads))
    except (TamagoError, RuntimeError, ValueError):
        return None
    except Exception as error:  # ONNX Runtime's own exception classes share no base but Exception
        if type(error).__module__.startswith("onnxruntime"):
            return None
        raise
    each = (np.asarray(many.samples) - np.asarray(one.samples)) / (COPIES - 1)
    return max(float(np.median(each)), 1e-5), float(np.std(each)), len(each)

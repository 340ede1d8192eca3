"""AWQ: inputs that are large on average get finer steps of a 4-bit weight."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...compiler.approximate.method import Form, Inputs, method
from ...compiler.approximate.places import Place
from ...compiler.facts import Array, Floats
from ...compiler.rule import Skip
from .block_weights import decoded, fitting, n_bits, round_blocks
from .scaled_inputs import best_scales, divided, multiplied, sizes

BITS = 4
BLOCKS = (32, 128)
STRENGTHS = (
    0.15,
    0.3,
    0.45,
    0.6,
    0.75,
)  # the authors try twenty: the error is flat around its least; 0 is block_weights


@method(kinds=("linear",), paper="Lin et al., AWQ, MLSys 2024, arXiv:2306.00978")
def awq(place: Place, inputs: Inputs) -> Iterator[Form]:
    """x·W + b ≈ (x/s)·Q(s·W) + b, Q to 4 bit by blocks, sᵢ = (E|xᵢ|)^α for each input, with the α of the least error.

    A row of W that is made larger takes up more of its block's range, and its error is divided by sᵢ again.
    """
    tried = [(block, _scales(place.weight, inputs, block)) for block in fitting(BLOCKS, place.shape[0])]
    found = [(block, scale) for block, scale in tried if scale is not None]
    if not found:
        raise Skip("no input is so much larger than others that scales help: block_weights does as well")
    for block, scale in found:
        codes = round_blocks(multiplied(place.weight, scale), BITS, block)
        yield Form(f"{BITS} bit, blocks of {block}", n_bits(place, *codes, BITS, block, divided(scale)))


def _scales(weight: Array, inputs: Inputs, block: int) -> Floats | None:
    return best_scales(
        inputs,
        inputs.halves,
        STRENGTHS,
        lambda seen, strength: sizes(seen.magnitude) ** strength,
        lambda seen, scale: output_error(weight, seen.second_moment, scale, block),
    )


def output_error(weight: Array, moment: Array, scale: Floats, block: int) -> float:
    """E‖x·W − (x/s)·Q(s·W)‖² = tr(ΔᵀHΔ), with Δ = W − Q(s·W)/s and H = E[xxᵀ]."""
    rounded = decoded(*round_blocks(multiplied(weight, scale), BITS, block), len(weight))
    error = np.subtract(weight, rounded / scale[:, None]).astype(np.float32)
    return float(np.sum(error * (moment.astype(np.float32) @ error), dtype=np.float64))

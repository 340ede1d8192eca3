"""Steps that need a rewrite, by operator and the version that is reached."""

from __future__ import annotations

from . import inputs, normalisation, resampling
from .softmax import softmax
from .step import Rewrite, Site, Stop

_REDUCTIONS = "L1 L2 LogSum LogSumExp Max Mean Min Prod SumSquare"


def _scatter(site: Site) -> None:
    """Scatter was renamed in 11."""
    site.node.op_type = "ScatterElements"


def _error_function(site: Site) -> None:
    """Erf-13 has no integers; 9 had, although no runtime computed them."""
    dtype = site.dtype(site.input(0))
    if dtype is not None and not dtype.is_floating_point():
        raise Stop(f"Erf of {dtype} exists only before opset 13")


def _transposed_padding(site: Site) -> None:
    """ConvTranspose-11 exchanged where SAME_UPPER and SAME_LOWER put an odd pixel of padding."""
    if site.stated("auto_pad") in ("SAME_UPPER", "SAME_LOWER"):
        raise Stop("its automatic padding (SAME_*) changed sides in opset 11")


def _scan(site: Site) -> None:
    """Scan-8 has a batch axis."""
    raise Stop("a Scan of opset 8 iterates over a batch, which no later opset has")


REWRITES: dict[tuple[str, int], Rewrite] = {
    ("BatchNormalization", 9): normalisation.spatial,
    ("BatchNormalization", 14): normalisation.inference,
    ("Clip", 11): inputs.clip,
    ("ConvTranspose", 11): _transposed_padding,
    ("DFT", 20): inputs.dft_axis,
    ("Dropout", 10): inputs.dropout,
    ("Dropout", 12): inputs.dropout,
    ("Erf", 13): _error_function,
    ("GridSample", 20): resampling.grid_sample,
    ("GroupNormalization", 21): normalisation.per_channel,
    ("Hardmax", 13): softmax,
    ("LogSoftmax", 13): softmax,
    ("Pad", 11): inputs.pad,
    ("ReduceSum", 13): inputs.axes,
    ("Resize", 11): resampling.resize,
    ("Resize", 13): resampling.resize_optional,
    ("RoiAlign", 16): resampling.roi_align,
    ("Scan", 9): _scan,
    ("Scatter", 11): _scatter,
    ("Slice", 10): inputs.slice_,
    ("Softmax", 13): softmax,
    ("Split", 13): inputs.split,
    ("Split", 18): inputs.num_outputs,
    ("Squeeze", 13): inputs.axes,
    ("TopK", 10): inputs.k,
    ("Unsqueeze", 13): inputs.axes,
    ("Upsample", 9): resampling.upsample_scales,
    ("Upsample", 10): resampling.upsample,
    **{(f"Reduce{name}", 18): inputs.axes for name in _REDUCTIONS.split()},
}

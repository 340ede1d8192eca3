"""Fourier transforms."""

from __future__ import annotations

from ..facts import Dim
from .call import Call, Known, Rule


def _stft(call: Call) -> list[Known]:
    """Frames of a signal, each transformed: (batch, frames, bins, 2). onnx's own rule forgets that `onesided` is on."""
    signal, window = call.shape(0), call.shape(2)
    if signal is None or len(signal) < 2:
        return [(call.dtype(), (None, None, None, 2))]
    step, stated = call.numbers(1), call.numbers(3)
    length: Dim = stated[0] if stated else window[0] if window and not call.has(3) else None
    frames = bins = None
    if isinstance(length, int):
        bins = length // 2 + 1 if call.get("onesided") else length
        if step and isinstance(signal[1], int):
            frames = (signal[1] - length) // step[0] + 1
    return [(call.dtype(), (signal[0], frames, bins, 2))]


RULES: dict[str, Rule] = {"STFT": _stft}

"""One text at a time through the programs of a language model: what has been read stays in the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import OnDevice, Stateful
from ..facts import Array
from ..torch_tensors import to_numpy
from .alias import aliases

if TYPE_CHECKING:
    from ..pipeline import Compiled
    from .layout import Layout
    from .programs import Programs


Run = Callable[[dict[str, Any]], list[Any]]


class Decoder:
    """The programs and the cache between their calls, for one text or one batch of them.

    They are run on arrays by name: a `CompiledModel` would check all tensors of the cache anew for every token, which
    takes a fifth of the time of a small model.

    Args:
        programs: of a language model.
        layout: of its cache.
    """

    def __init__(self, programs: Programs, layout: Layout) -> None:
        self._prefill = {size: _runner(program.compiled) for size, program in programs.prefill.items()}
        self._step = _runner(programs.step.compiled)
        self._aliases = aliases(programs.step.compiled.model)
        self._outputs = [value.name or "" for value in programs.step.compiled.model.graph.outputs]
        self._cache: dict[str, Any] = {}
        self._empty = {n: to_numpy(t) for n, t in zip(layout.names("past"), layout.empty(), strict=True)}
        self._position = 0

    def start(self, prompt: Array) -> Array:
        """Read prompts of int64 (batch, length); their likeliest next tokens, of shape (batch,)."""
        length = prompt.shape[1]
        size = next(size for size in self._prefill if size >= length)
        self._cache, self._position = self._empty, 0
        feeds = {"input_ids": np.pad(prompt, ((0, 0), (0, size - length))), "last": np.array([length - 1])}
        return self._read(self._prefill[size], feeds, length)

    def go_on(self, tokens: Array) -> Array:
        """Read one more token of each text; the likeliest next ones."""
        return self._read(self._step, {"input_ids": tokens[:, None]}, 1)

    def _read(self, run: Run, feeds: Mapping[str, Array], length: int) -> Array:
        found = run({**feeds, "position": np.array([self._position]), **self._cache})
        outputs = dict(zip(self._outputs, found, strict=True))
        self._cache = {past: outputs[present] for present, past in self._aliases.items()}
        self._position += length
        return to_numpy(outputs["logits"].argmax(-1))


def _runner(compiled: Compiled) -> Run:
    """How a program is run: one on a device keeps the cache there."""
    program = compiled.program
    if isinstance(program, Stateful):
        return program.run_keeping
    return program.run_by_name if isinstance(program, OnDevice) else program

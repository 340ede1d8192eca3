"""A compiled language model: prompts in, texts out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import TamagoError
from ..torch_tensors import to_torch
from .decoding import Decoder
from .prompt import checked_prompt

if TYPE_CHECKING:
    import torch

    from ..compiled import CompiledModel
    from .layout import Layout
    from .programs import Programs

ROUNDS = 5  # of a measurement; the median counts


@dataclass(frozen=True)
class Speed:
    """How fast a language model generates.

    Attributes:
        prompt_length: tokens of the prompt.
        prefill_ms: milliseconds from a prompt to its first new token.
        tokens_per_second: further tokens a second, of all texts of the batch together.
    """

    prompt_length: int
    prefill_ms: float
    tokens_per_second: float


class CausalLanguageModel:
    """A language model compiled by `tamago.compile_causal_lm`.

    Attributes:
        prefill: length of the padded prompt -> the program that reads it. It takes `input_ids`, `position`, `last` and
            the cache, and returns the logits after token `last` and the cache.
        step: the program that continues by one token. It takes `input_ids`, `position` and the cache.
        layout: of the cache.
    """

    def __init__(self, programs: Programs, layout: Layout, settings: Any) -> None:
        self.prefill: dict[int, CompiledModel] = {size: program.model for size, program in programs.prefill.items()}
        self.step: CompiledModel = programs.step.model
        self.layout: Layout = layout
        self._programs = programs
        self._ends = _as_tuple(getattr(settings, "eos_token_id", None))
        self._padding: int | None = getattr(settings, "pad_token_id", None)

    def generate(
        self, input_ids: torch.Tensor, *, max_new_tokens: int, eos_token_id: int | Sequence[int] | None = None
    ) -> torch.Tensor:
        """The prompts, continued by the likeliest token each time: as `model.generate(do_sample=False)` does.

        What else a generation config may ask for (penalties, forced or forbidden tokens) is not done.

        Args:
            input_ids: prompts of one length, without padding, int64 of shape (batch, length).
            max_new_tokens: where to stop.
            eos_token_id: what ends a text: one or more tokens; `()` for none; None for the model's own. A text that
                ended is filled up with the model's padding token (or, without one, the first of these) until all have.

        Returns:
            Prompts and continuations, int64 of shape (batch, up to length + max_new_tokens).

        Raises:
            TamagoError: G004 the prompt is longer than any that was compiled for, G005 the text would not fit the
                cache, G006 prompts of another shape or dtype.
        """
        prompt = checked_prompt(input_ids, max_new_tokens, self.layout, max(self.prefill))
        ends = self._ends if eos_token_id is None else _as_tuple(eos_token_id)
        padding = self._padding if self._padding is not None else next(iter(ends), 0)
        columns, running = [prompt], np.ones(len(prompt), dtype=np.bool_)
        decoder = Decoder(self._programs, self.layout)
        tokens = decoder.start(prompt)
        while True:
            tokens = np.where(running, tokens, padding)
            columns.append(tokens[:, None])
            running &= ~np.isin(tokens, ends)
            if len(columns) > max_new_tokens or not running.any():
                return to_torch(np.concatenate(columns, 1)).to(input_ids.device)
            tokens = decoder.go_on(tokens)

    def measure(self, *, prompt_length: int | None = None, new_tokens: int = 32) -> Speed:
        """Time the programs on made-up tokens.

        Args:
            prompt_length: tokens of the prompt; None: the shortest that was compiled for.
            new_tokens: how many follow it, the first included; from 2.

        Raises:
            TamagoError: as for `generate`.
        """
        import torch

        length = min(self.prefill) if prompt_length is None else prompt_length
        if new_tokens < 2:
            raise TamagoError("G006", f"{new_tokens} new tokens are asked for", todo="use a number from 2")
        zeros = torch.zeros(self.layout.batch, length, dtype=torch.int64)
        prompt = checked_prompt(zeros, new_tokens, self.layout, max(self.prefill))
        decoder, first, others = Decoder(self._programs, self.layout), list[float](), list[float]()
        for _ in range(ROUNDS):
            start = time.perf_counter()
            tokens = decoder.start(prompt)
            read = time.perf_counter()
            for _ in range(new_tokens - 1):
                tokens = decoder.go_on(tokens)
            first.append(read - start)
            others.append(time.perf_counter() - read)
        return Speed(length, 1000 * median(first), self.layout.batch * (new_tokens - 1) / median(others))

    def explain(self) -> str:
        """What was done to each program and why; see `CompiledModel.explain`."""
        parts = [(f"prefill of {length} tokens", program) for length, program in self.prefill.items()]
        return "\n\n".join(f"{name}\n{program.explain()}" for name, program in [*parts, ("step", self.step)])

    def __repr__(self) -> str:
        lengths = ", ".join(map(str, self.prefill))
        return f"CausalLanguageModel(prompts of {lengths}, max_length {self.layout.max_length})"


def _as_tuple(tokens: int | Sequence[int] | None) -> tuple[int, ...]:
    if tokens is None:
        return ()
    return (tokens,) if isinstance(tokens, int) else tuple(tokens)

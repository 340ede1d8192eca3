"""The face of generation: `compile_causal_lm`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import EXIT_UNSUPPORTED, TamagoError
from ..options import Options
from .language_model import CausalLanguageModel

APPROXIMATE = ("budget", "calibration", "workloads", "methods")


def compile_causal_lm(
    model: Any,
    *,
    batch: int = 1,
    max_length: int = 256,
    prompt_lengths: Sequence[int] | None = None,
    target: str = "cpu",
    weight_bits: int | None = None,
    weight_block: int = 128,
    **compile_options: Any,
) -> CausalLanguageModel:
    """A causal language model of transformers, compiled to generate text token by token.

    One program reads a prompt, padded to one of a few lengths; another continues it by one token. Both write the keys
    and values of their tokens into a cache of fixed size, which goes in and comes out as tensors.

    Args:
        model: a `PreTrainedModel` in evaluation mode that keeps keys and values (Llama, Qwen, GPT-2, …).
        batch: how many texts are generated side by side; their prompts have one length.
        max_length: slots of the cache: the longest text, prompt included.
        prompt_lengths: the lengths that prompts are padded to, one program each; None: an eighth and a half of
            `max_length`.
        target: as for `tamago.compile`.
        weight_bits: 4 or 8 rounds every weight of a product to so many bits, on target "cuda": no budget is kept and
            nothing is proved, the report says no more than that it was done. None: weights stay what they are.
        weight_block: weights that share a scale then: 32, 64 or 128.
        compile_options: further options of `tamago.compile`, for each program: `drift`, `threads`, `time_limit`, …

    Raises:
        TamagoError: G001 no causal language model, G002 another kind of cache, G003 sizes that make no sense, G008 a
            budget, G010 weights of so many bits on that target; and what `tamago.compile` raises.
    """
    refused = [name for name in APPROXIMATE if compile_options.get(name) is not None]
    if refused:
        raise TamagoError(
            "G008",
            "generation is compiled exactly only",
            where=", ".join(refused),
            todo="leave it out",
            exit_code=EXIT_UNSUPPORTED,
        )
    if weight_bits is not None:
        _check_packing(target, weight_bits, weight_block)
    packing = None if weight_bits is None else (weight_bits, weight_block)
    options: dict[str, Any] = {"target": target, **compile_options}
    Options(**options).check()
    lengths = _lengths(batch, max_length, prompt_lengths)

    from .layout import check_model, layout_of
    from .programs import compile_programs

    check_model(model)
    layout = layout_of(model, batch, max_length)
    return CausalLanguageModel(
        compile_programs(model, layout, lengths, options, packing), layout, model.generation_config
    )


def _check_packing(target: str, bits: int, block: int) -> None:
    """Raise G010 for what there is no kernel for."""
    if target != "cuda":
        raise TamagoError(
            "G010",
            f"weights of {bits} bits without a budget on target {target!r}",
            todo='use target "cuda"',
            exit_code=EXIT_UNSUPPORTED,
        )
    if bits not in (4, 8) or block not in (32, 64, 128):
        raise TamagoError(
            "G010",
            f"weights of {bits} bits in blocks of {block}",
            todo="use 4 or 8 bits, and blocks of 32, 64 or 128",
        )


def _lengths(batch: int, max_length: int, wanted: Sequence[int] | None) -> list[int]:
    """The lengths of padded prompts, rising."""
    if batch < 1:
        raise TamagoError("G003", f"batch is {batch}", todo="use a number from 1")
    if max_length < 2:
        raise TamagoError(
            "G003", f"max_length is {max_length}", todo="use a number from 2: a prompt and its next token"
        )
    lengths = sorted({max(1, max_length // 8), max_length // 2} if wanted is None else set(wanted))
    if not lengths or lengths[0] < 1 or lengths[-1] > max_length:
        raise TamagoError(
            "G003",
            f"prompt_lengths is {list(wanted or ())}",
            todo=f"use numbers from 1 to max_length, which is {max_length}",
        )
    return lengths

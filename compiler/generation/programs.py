"""A causal language model -> its two kinds of programs, traced and compiled on tokens of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..compiled import CompiledModel
from ..errors import TamagoError
from ..from_torch.arguments import GraphInput
from ..from_torch.finish import rename
from ..pipeline import Compiled, compile_traced, round_weights
from ..trace import trace
from .alias import record_aliases
from .examples import examples_of
from .step import DecodeStep, Prefill

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from .layout import Layout


@dataclass(frozen=True)
class Program:
    """One program: as the pipeline left it, and called with tensors."""

    compiled: Compiled
    model: CompiledModel


@dataclass(frozen=True)
class Programs:
    """The programs of one language model.

    Attributes:
        prefill: length of the padded prompt -> the program that reads it, from the shortest on.
        step: the program that continues by one token.
    """

    prefill: dict[int, Program]
    step: Program


def compile_programs(
    model: PreTrainedModel,
    layout: Layout,
    lengths: Sequence[int],
    options: Mapping[str, Any],
    packing: tuple[int, int] | None = None,
) -> Programs:
    """Trace and compile the step and a prefill for each length.

    Args:
        model: the language model, in evaluation mode.
        layout: of its cache.
        lengths: of the padded prompts, rising.
        options: fields of `options.Options`.
        packing: bits and block of every weight; None: weights stay what they are.

    Raises:
        TamagoError: G009 a model that cannot do with such a cache, T of the tracer, and what `tamago.compile` raises.
    """
    examples, cache = examples_of(model, layout, max(lengths)), layout.names("past")
    prefill = {
        length: _compiled(
            Prefill(model),
            examples.prefill(length),
            ["input_ids", "position", "last", *cache],
            layout,
            options,
            packing,
        )
        for length in lengths
    }
    step = _compiled(DecodeStep(model), examples.step, ["input_ids", "position", *cache], layout, options, packing)
    return Programs(prefill, step)


def _compiled(
    module: DecodeStep,
    args: tuple[torch.Tensor, ...],
    inputs: list[str],
    layout: Layout,
    options: Mapping[str, Any],
    packing: tuple[int, int] | None,
) -> Program:
    traced, outputs = trace(module, args), ["logits", *layout.names("present")]
    if traced.signature is None:
        raise TamagoError("T022", "the model does not say how it is called")
    # `forward` has its states in one tuple, which says nothing about their names.
    rename(traced.model.graph, traced.model.graph.inputs, inputs)
    rename(traced.model.graph, traced.model.graph.outputs, outputs)
    notes = list(traced.notes)
    if packing is not None:
        bits, block = packing
        count = round_weights(traced.model, bits, block)
        said = (
            f"{count} weights were rounded to {bits} bits in blocks of {block}, as asked: what that costs is not known"
        )
        notes.append(said)
    record_aliases(traced.model, dict(zip(layout.names("present"), layout.names("past"), strict=True)))
    pairs = zip(traced.signature.inputs, inputs, strict=True)
    entries = tuple(replace(e, name=name) if isinstance(e, GraphInput) else e for e, name in pairs)
    signature = replace(traced.signature, inputs=entries)
    compiled = compile_traced(
        replace(traced, signature=signature, notes=notes), signature.flatten(args), None, **options
    )
    return Program(compiled, CompiledModel(compiled, signature))

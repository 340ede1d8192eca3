"""What programs are traced, verified and timed on: a made-up text, and what the model itself caches of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import EXIT_UNSUPPORTED, TamagoError
from ..torch_tensors import to_numpy
from ..verify import compare
from .step import DecodeStep

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .layout import Layout


@dataclass(frozen=True)
class Examples:
    """Arguments of the programs.

    Attributes:
        layout: of the cache.
        tokens: a text, of shape (batch, length).
        step: the arguments of the step that goes on from the middle or the end of the text.
    """

    layout: Layout
    tokens: Tensor
    step: tuple[Tensor, ...]

    def prefill(self, length: int) -> tuple[Tensor, ...]:
        """The arguments of a prefill of so many tokens."""
        start, last = _number(self.layout, 0), _number(self.layout, length - 1)
        return (self.tokens[:, :length], start, last, *self.layout.empty())


def examples_of(model: PreTrainedModel, layout: Layout, length: int) -> Examples:
    """The same text every time, read by the model; the step goes on from there.

    Args:
        model: the language model, in evaluation mode.
        layout: of its cache.
        length: of the text.

    Raises:
        TamagoError: G009, the model answers otherwise with a cache of fixed size than without a cache.
    """
    embedding: Any = model.get_input_embeddings()
    count: int = embedding.weight.shape[0]
    drawn = torch.randint(count, (layout.batch, length), generator=torch.Generator().manual_seed(0))
    tokens, seen, step = drawn.to(layout.device), min(length, layout.max_length - 1), DecodeStep(model)
    with torch.no_grad():
        logits, *states = step(tokens[:, :seen], _number(layout, 0), *layout.empty())
        following = logits.argmax(-1, keepdim=True)
        args = (following, _number(layout, seen), *states)
        whole: Any = model(input_ids=torch.cat([tokens[:, :seen], following], 1), use_cache=False, return_dict=True)
        _check_equal(whole.logits[:, -1], step(*args)[0])
    return Examples(layout, tokens, args)


def _check_equal(wanted: Tensor, found: Tensor) -> None:
    difference = compare(["logits"], [to_numpy(wanted)], [to_numpy(found)])[0]
    if difference.passed:
        return
    raise TamagoError(
        "G009",
        "the model answers otherwise with a cache of fixed size than without a cache",
        why=f"its logits differ by {difference.error:.3g}, allowed {difference.allowed:.3g}",
        todo="check that its attention hides the slots after the current position",
        exit_code=EXIT_UNSUPPORTED,
    )


def _number(layout: Layout, number: int) -> Tensor:
    return torch.tensor([number], device=layout.device)

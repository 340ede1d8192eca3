"""A causal language model as a function of tokens, a position and a cache, to be traced."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .cache import GivenCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class DecodeStep(nn.Module):
    """Continues a text by some tokens, and gives the logits after the last.

    Args:
        model: the language model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, input_ids: Tensor, position: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        """The logits, of shape (batch, vocabulary), and the caches with these tokens written into them.

        Args:
            input_ids: tokens, int64 of shape (batch, length).
            position: the cache's slot of the first of them, int64 of shape (1,).
            caches: each layer's keys and values in turn, of shape (batch, heads, slots, size of a head).
        """
        return _continued(self.model, input_ids, position, None, caches)


class Prefill(DecodeStep):
    """Continues a text by tokens of which those after `last` are padding.

    The padding's slots are written, but nothing before them sees them, and later tokens overwrite them.
    """

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input_ids: Tensor, position: Tensor, last: Tensor, *caches: Tensor
    ) -> tuple[Tensor, ...]:
        """The logits after token number `last` (int64 of shape (1,)), and the caches; see `DecodeStep.forward`."""
        return _continued(self.model, input_ids, position, last, caches)


def _continued(
    model: PreTrainedModel, input_ids: Tensor, position: Tensor, last: Tensor | None, caches: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    cache = GivenCache(caches, position)
    places = (position + torch.arange(input_ids.shape[1], device=input_ids.device)).expand(input_ids.shape)
    # The matrix of the vocabulary is large: one token's logits are asked for where the model can be asked.
    asked = "logits_to_keep" in inspect.signature(model.forward).parameters
    kept = {"logits_to_keep": 1 if last is None else last} if asked else {}
    result: Any = model(
        input_ids=input_ids, position_ids=places, past_key_values=cache, use_cache=True, return_dict=True, **kept
    )
    logits: Tensor = result.logits if asked or last is None else result.logits.index_select(1, last)
    return (logits[:, -1], *cache.states())

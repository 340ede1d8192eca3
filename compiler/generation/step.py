"""A causal language model as a function of tokens, a position and a cache, to be traced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .cache import given_cache

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
        return continued(self.model, input_ids, position, torch.full((1,), input_ids.shape[1] - 1), caches)


class Prefill(DecodeStep):
    """Continues a text by tokens of which those after `last` are padding.

    The padding's slots are written, but nothing before them sees them, and later tokens overwrite them.
    """

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input_ids: Tensor, position: Tensor, last: Tensor, *caches: Tensor
    ) -> tuple[Tensor, ...]:
        """The logits after token `last` (int64 of shape (1,)), and the caches; see `DecodeStep.forward`."""
        return continued(self.model, input_ids, position, last, caches)


def continued(
    model: PreTrainedModel, input_ids: Tensor, position: Tensor, last: Tensor, caches: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The logits after one token, and the updated caches."""
    cache = given_cache(caches, position)
    places = (position + torch.arange(input_ids.shape[1])).unsqueeze(0)
    result: Any = model(
        input_ids=input_ids,
        position_ids=places.expand(input_ids.shape),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=last,
        return_dict=True,
    )
    states = [state for layer in cache.layers for state in (layer.keys, layer.values)]
    return (result.logits[:, 0], *states)

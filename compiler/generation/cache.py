"""A key/value cache of transformers whose contents are arguments of the traced graph, and results of it.

`StaticCache` writes in place and counts its tokens by itself, and the count of the example would stay in the graph.
Here the position is a tensor that the caller gives, and every update makes a new tensor.
"""

# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class GivenLayer(CacheLayerMixin):
    """One layer's keys and values, of shape (batch, heads, slots, size of a head).

    Args:
        keys: the keys as they are before the call.
        values: the values as they are before the call.
        position: the slot of the next token, int64 of shape (1,).
    """

    is_compileable = True  # transformers then makes a mask for a single token too, instead of letting it see all
    is_sliding = False  # a window hides what is too old, but nothing is thrown away
    supports_early_init = False

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, position: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.position = keys, values, position
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing is left to do."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The keys and values with new ones at the position."""
        self.keys = written(self.keys, key_states, self.position)
        self.values = written(self.values, value_states, self.position)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """All slots, from the first on; those beyond the position are hidden by causality."""
        return self.keys.shape[2], 0

    def get_seq_length(self) -> Tensor:
        """The position, as the number of tokens seen so far."""
        return self.position[0]

    def get_max_length(self) -> int:
        """The number of slots."""
        return self.keys.shape[2]


class GivenCache(Cache):
    """The cache of a model.

    Args:
        states: each layer's keys and values in turn.
        position: the slot of the next token, int64 of shape (1,).
    """

    def __init__(self, states: Sequence[Tensor], position: Tensor) -> None:
        pairs = zip(states[::2], states[1::2], strict=True)
        self._given = [GivenLayer(keys, values, position) for keys, values in pairs]
        super().__init__(layers=[*self._given])

    def states(self) -> list[Tensor]:
        """Each layer's keys and values in turn, as they are now."""
        return [state for layer in self._given for state in (layer.keys, layer.values)]


def written(state: Tensor, new: Tensor, position: Tensor) -> Tensor:
    """The state with `new` from `position` on along its slots.

    A scatter along the slots is one ONNX operator on the state as it lies, which a runtime can do in place; an index
    copy would become a ScatterND between two transpositions of the whole state.
    """
    slots = position + torch.arange(new.shape[2], device=new.device)
    return state.scatter(2, slots[None, None, :, None].expand(new.shape), new)

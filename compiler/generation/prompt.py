"""Whether a prompt can be continued by the programs that were compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import TamagoError
from ..facts import Array
from ..torch_tensors import to_numpy

if TYPE_CHECKING:
    import torch

    from .layout import Layout


def checked_prompt(input_ids: torch.Tensor, new_tokens: int, layout: Layout, longest: int) -> Array:
    """The prompts as an array, if they can be continued by so many tokens.

    Args:
        input_ids: tokens of shape (batch, length).
        new_tokens: how many are to follow.
        layout: of the cache.
        longest: the longest prompt that was compiled for.

    Raises:
        TamagoError: G004 too long a prompt, G005 too long a text, G006 another shape or dtype, or nothing to do.
    """
    import torch

    shape, batch = tuple(input_ids.shape), layout.batch
    if len(shape) != 2 or shape[0] != batch or not shape[1] or input_ids.dtype not in (torch.int64, torch.int32):
        raise TamagoError(
            "G006",
            f"input_ids is {input_ids.dtype} of shape {shape}",
            why=f"compiled for int64 of shape ({batch}, length)",
            todo="compile with another batch, or pass prompts of this shape",
        )
    if new_tokens < 1:
        raise TamagoError("G006", f"{new_tokens} new tokens are asked for", todo="use a number from 1")
    if shape[1] > longest:
        raise TamagoError(
            "G004",
            f"the prompt has {shape[1]} tokens",
            why=f"the longest that was compiled for has {longest}",
            todo="compile with larger prompt_lengths",
        )
    if shape[1] + new_tokens > layout.max_length:
        raise TamagoError(
            "G005",
            f"{shape[1]} tokens and {new_tokens} new ones are asked for",
            why=f"the cache has {layout.max_length} slots",
            todo="compile with a larger max_length",
        )
    return to_numpy(input_ids.to(torch.int64))

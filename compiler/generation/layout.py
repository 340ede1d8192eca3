"""What a causal language model keeps of a text: the shape of each layer's keys and values, and the names they get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..errors import EXIT_UNSUPPORTED, TamagoError
from ..from_torch.export import check_evaluation_mode

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Layout:
    """The cache of a model.

    Attributes:
        shapes: of each layer's keys and values in turn: (batch, heads, slots, size of a head).
        dtype: of all of them.
        device: of the model.
        batch: texts side by side.
        max_length: slots.
    """

    shapes: tuple[tuple[int, ...], ...]
    dtype: torch.dtype
    device: torch.device
    batch: int
    max_length: int

    def empty(self) -> list[torch.Tensor]:
        """A cache with nothing in it."""
        return [torch.zeros(shape, dtype=self.dtype, device=self.device) for shape in self.shapes]

    def names(self, when: str) -> list[str]:
        """The names of the states in the order of `shapes`; `past_key.0`, `past_value.0`, `past_key.1` with "past"."""
        return [f"{when}_{('key', 'value')[number % 2]}.{number // 2}" for number in range(len(self.shapes))]


def check_model(model: Any) -> None:
    """Raise G001 for what is not a causal language model of transformers, T001 for one in training mode."""
    from transformers import GenerationMixin, PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise _no_language_model(model, "it is no transformers.PreTrainedModel")
    if model.config.is_encoder_decoder:
        raise _no_language_model(model, "it has an encoder")
    if not isinstance(model, GenerationMixin) or not model.can_generate():
        raise _no_language_model(model, "it has no generate()")
    check_evaluation_mode(model)


def _no_language_model(model: Any, why: str) -> TamagoError:
    return TamagoError(
        "G001",
        f"a {type(model).__name__} is not a causal language model",
        why=why,
        todo="pass what AutoModelForCausalLM gives; tamago.compile takes any other module",
        exit_code=EXIT_UNSUPPORTED,
    )


def layout_of(model: PreTrainedModel, batch: int, max_length: int) -> Layout:
    """Read the cache's layout off one run of the model.

    Raises:
        TamagoError: G002, the model keeps something else than each layer's keys and values; G003, it has not so many
            positions.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise TamagoError(
            "G003", f"max_length is {max_length}", why=f"the model has {positions} positions", todo="use fewer"
        )
    with torch.no_grad():
        token = torch.zeros(batch, 1, dtype=torch.int64, device=model.device)
        result: Any = model(input_ids=token, use_cache=True, return_dict=True)
    cache = getattr(result, "past_key_values", None)
    if not isinstance(cache, DynamicCache):
        raise _other_cache(type(cache).__name__)
    states: list[torch.Tensor] = []
    for layer in cache.layers:
        if not isinstance(layer, DynamicLayer) or type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise _other_cache(type(layer).__name__)
        if layer.keys is None or layer.values is None:
            raise _other_cache(f"a {type(layer).__name__} that stays empty")
        states += [layer.keys, layer.values]
    shapes = tuple((batch, state.shape[1], max_length, state.shape[3]) for state in states)
    return Layout(shapes, states[0].dtype, states[0].device, batch, max_length)


def _other_cache(name: str) -> TamagoError:
    return TamagoError(
        "G002",
        "the model keeps something else than keys and values of its layers",
        where=name,
        why="recurrent states, latent caches and cross attention are not built",
        exit_code=EXIT_UNSUPPORTED,
    )

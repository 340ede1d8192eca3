"""Key-value caches of `transformers` as containers that torch.export can take apart and put together.

`DynamicCache` gets the rule that transformers itself ships for torch.export; `EncoderDecoderCache` is a pair of them.
"""

from __future__ import annotations

from typing import Any


def register_caches() -> None:
    """Register the caches with pytree, once; a registration by somebody else stands."""
    from torch.utils import _pytree as pytree
    from transformers.cache_utils import DynamicCache, EncoderDecoderCache
    from transformers.integrations.executorch import register_dynamic_cache_export_support

    if DynamicCache not in pytree.SUPPORTED_NODES:
        register_dynamic_cache_export_support()
    if EncoderDecoderCache not in pytree.SUPPORTED_NODES:
        pytree.register_pytree_node(
            EncoderDecoderCache,
            _take_apart,
            _put_together,
            serialized_type_name=f"{EncoderDecoderCache.__module__}.{EncoderDecoderCache.__name__}",
            flatten_with_keys_fn=_take_apart_with_keys,
        )


def _take_apart(cache: Any) -> tuple[list[Any], None]:
    return [cache.self_attention_cache, cache.cross_attention_cache], None


def _take_apart_with_keys(cache: Any) -> tuple[list[tuple[Any, Any]], None]:
    from torch.utils._pytree import GetAttrKey

    children, context = _take_apart(cache)
    names = ("self_attention_cache", "cross_attention_cache")
    return [(GetAttrKey(name), child) for name, child in zip(names, children, strict=True)], context


def _put_together(children: Any, context: None) -> Any:
    from transformers.cache_utils import EncoderDecoderCache

    return EncoderDecoderCache(*children)

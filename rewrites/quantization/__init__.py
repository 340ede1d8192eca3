"""Weights and activations in fewer bits, as kernels that the runtime has; a method a file, under its published name."""

from __future__ import annotations

from .awq import awq
from .block_weights import block_weights
from .cross_layer_equalisation import cross_layer_equalisation
from .dynamic_int8 import dynamic_int8
from .embedding_int4 import embedding_int4
from .embedding_int8 import embedding_int8
from .gptq import gptq
from .hqq import hqq
from .per_token_int8 import per_token_int8
from .smoothed_normalisations import smoothed_normalisations
from .smoothquant import smoothquant
from .static_int8 import static_int8
from .static_int8_convolution import static_int8_convolution
from .stored_weights import stored_weights

METHODS = (
    dynamic_int8,
    smoothquant,
    per_token_int8,
    static_int8,
    static_int8_convolution,
    cross_layer_equalisation,
    block_weights,
    gptq,
    awq,
    hqq,
    embedding_int8,
    embedding_int4,
    stored_weights,
)

PREPARATIONS = (smoothed_normalisations,)

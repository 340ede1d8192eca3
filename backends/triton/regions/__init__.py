"""What is fused after the choice, where one kernel has several results or several places become one.

Each file gives a further program, or None; the target times it beside the one it came from, and the faster stays.
Some are decided place by place (`Region`).
"""

from __future__ import annotations

from .attention_step import attention_steps
from .depthwise_squeezes import depthwise_squeezes
from .epilogues import epilogues
from .fused_products import fused_products
from .merged_linears import merged_linears
from .mlps import fuse_mlps, mlp_places
from .norm_affines import fuse_norm_affines, norm_affine_places
from .norm_mlps import fuse_norm_mlps, norm_mlp_places
from .region import Region, everywhere
from .separables import fuse_separables, separable_places
from .squeeze_excites import squeeze_excites

# What fusing leaves side by side can be merged once more.
REGIONS: tuple[Region, ...] = (
    *map(everywhere, (fused_products, merged_linears, attention_steps)),
    *map(everywhere, (squeeze_excites, epilogues, depthwise_squeezes, merged_linears)),
    Region("two products in one", mlp_places, fuse_mlps),
    Region("a norm and two products in one", norm_mlp_places, fuse_norm_mlps),
    Region("a norm and a product in one", norm_affine_places, fuse_norm_affines),
    Region("depthwise and pointwise in one", separable_places, fuse_separables),
)

__all__ = ["REGIONS", "Region", "attention_steps", "epilogues", "fused_products", "merged_linears", "squeeze_excites"]

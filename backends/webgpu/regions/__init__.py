"""What is fused after the choice, where it makes fewer dispatches: a file for each."""

from __future__ import annotations

from .parallel_products import parallel_products

REGIONS = (parallel_products,)

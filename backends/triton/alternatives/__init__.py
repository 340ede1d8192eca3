"""Operators that this target has kernels for, offered where the kernel is made for the shape; the price decides."""

from __future__ import annotations

from ....compiler.rule import Rule
from .linear import linear
from .linear_add import linear_add
from .norm_linear import norm_linear
from .swiglu import norm_swiglu, swiglu

RULES: tuple[Rule, ...] = (linear, linear_add, norm_linear, swiglu, norm_swiglu)

"""Weights as products of two smaller ones; a method a file, under its published name."""

from __future__ import annotations

from .welore import welore
from .whitened_svd import whitened_svd

METHODS = (whitened_svd, welore)

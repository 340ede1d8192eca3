"""Weights as products of two smaller ones; a method a file, under its published name."""

from __future__ import annotations

from .atomic_feature_mimicking import atomic_feature_mimicking
from .channel_factorisation import channel_factorisation
from .spatial_factorisation import spatial_factorisation
from .welore import welore
from .whitened_svd import whitened_svd

METHODS = (whitened_svd, welore, atomic_feature_mimicking, channel_factorisation, spatial_factorisation)

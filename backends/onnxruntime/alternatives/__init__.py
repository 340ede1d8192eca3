"""Operators that only ONNX Runtime has, offered where its CPU provider has a kernel; the price decides."""

from __future__ import annotations

from ....compiler.rule import Rule

RULES: tuple[Rule, ...] = ()

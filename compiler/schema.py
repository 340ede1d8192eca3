"""What ONNX says of an operator: its name in the e-graph, default attributes, versions, whether it may be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import onnx
from onnx import defs

from .opset import TARGET

MICROSOFT = "com.microsoft"
ML = "ai.onnx.ml"
ML_NEWEST = 5

# Two calls of these with equal inputs need not give equal results.
NONDETERMINISTIC = frozenset(
    ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"]
)


def split_name(op: str) -> tuple[str, str]:
    """("com.microsoft", "Gelu") for "com.microsoft::Gelu"; the default domain is empty."""
    domain, _, name = op.rpartition("::")
    return domain, name


def full_name(domain: str, op_type: str) -> str:
    """The inverse of `split_name`."""
    domain = "" if domain == "ai.onnx" else domain
    return f"{domain}::{op_type}" if domain else op_type


@cache
def schema_of(op: str, version: int = TARGET) -> defs.OpSchema | None:
    """The schema in force at an opset version of the operator's domain, None where ONNX knows none."""
    domain, name = split_name(op)
    newest = ML_NEWEST if domain == ML else version
    return defs.get_schema(name, newest, domain) if defs.has(name, newest, domain) else None


@cache
def since_version(op: str, version: int) -> int | None:
    """The version that introduced the operator's meaning in force at `version`."""
    found = schema_of(op, version)
    return None if found is None or found.deprecated else found.since_version


@cache
def default_attributes(op: str, version: int = TARGET) -> Mapping[str, Any]:
    """Attribute values that ONNX assumes when a node does not state them."""
    found = schema_of(op, version)
    if found is None:
        return {}
    defaults: dict[str, Any] = {}
    for name, attribute in found.attributes.items():
        if attribute.default_value.type != onnx.AttributeProto.UNDEFINED:
            value = onnx.helper.get_attribute_value(attribute.default_value)
            defaults[name] = value.decode() if isinstance(value, bytes) else value
    return defaults


def attribute(op: str, attributes: Mapping[str, Any], name: str) -> Any:
    """The attribute's value, ONNX's default where it is not stated, None where there is none."""
    found = attributes.get(name)
    return default_attributes(op).get(name) if found is None else found

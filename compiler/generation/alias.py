"""Which output of a model may take the place of which input: the state of one call that the next one goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import onnx_ir as ir

from ..errors import TamagoError

KEY = "tamago.alias"


def record_aliases(model: ir.Model, pairs: Mapping[str, str]) -> None:
    """Write into the model's metadata which output may take the memory of which input; files keep it.

    Args:
        model: changed in place.
        pairs: output name -> input name.
    """
    model.metadata_props[KEY] = json.dumps(dict(pairs))


def aliases(model: ir.Model) -> dict[str, str]:
    """Output name -> the name of the input whose memory it may take; empty for a model that says nothing.

    A pair has one shape and one element type. The input's old contents are not needed after the call, so that a runtime
    may write the output in their place; feeding the output to the next call means the same.

    Args:
        model: a traced model, `CompiledModel.graph`, or a file that was read again.

    Raises:
        TamagoError: G007, the metadata is no such table, or names what the model does not have.
    """
    text = model.metadata_props.get(KEY)
    if text is None:
        return {}
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        raise _malformed(str(error)) from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in cast("dict[Any, Any]", found).values()):
        raise _malformed("it is no table of names")
    pairs = cast("dict[str, str]", found)
    inputs = {value.name for value in model.graph.inputs}
    outputs = {value.name for value in model.graph.outputs}
    strange = [name for name in pairs if name not in outputs] + [name for name in pairs.values() if name not in inputs]
    if strange:
        raise _malformed(f"the model has no {', '.join(strange)}")
    return pairs


def _malformed(why: str) -> TamagoError:
    return TamagoError("G007", "the model's table of aliases cannot be read", where=f"metadata {KEY}", why=why)

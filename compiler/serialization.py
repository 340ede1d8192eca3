"""Between protobuf messages and the IR, losing nothing.

`onnx_ir` reads and writes most of it; `mend` brings rare spellings into the usual one, `model_checks` refuses what is
no model, and `carried` keeps what `onnx_ir` has no place for. What becomes a file or enters a runtime must go through
`to_proto` here, not through `onnx_ir.to_proto`.
"""

import logging
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.serde import SerdeError

from .carried import (
    Container,
    Replace,
    Undo,
    attribute_holders,
    complete,
    give_back,
    inline,
    set_aside,
    stand_in,
)
from .errors import TamagoError
from .external_data import DataFiles
from .look_alikes import too_deep
from .mend import graphs_of, mend, tensors_of
from .model_checks import check_model
from .tensor_data import resident, shown
from .text_fields import settle_text

TRAINING = "tamago.training_info"

_logger = logging.getLogger(__name__)
_TODO = "export the model again, or check it with `onnx.checker.check_model`"


def from_proto(proto: onnx.ModelProto, folder: Path | None = None) -> ir.Model:
    """The model in the IR; the message stays as it is.

    Args:
        proto: the model.
        folder: where its external data are; without it a model that has any is refused.

    Raises:
        TamagoError: M007 to M025 for what cannot be a model.
    """
    own = onnx.ModelProto()
    own.CopyFrom(proto)
    with DataFiles(folder) as files:
        return adopt(own, files)


def adopt(proto: onnx.ModelProto, files: DataFiles) -> ir.Model:
    """As `from_proto`, but consumes the message."""
    try:
        return _adopt(proto, files)
    except RecursionError as error:
        raise too_deep("the model") from error
    except (SerdeError, UnicodeError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        what = "the file is damaged: a part of it cannot be read"
        raise TamagoError("M007", what, why=shown(cause, 300), todo=_TODO) from error


def to_proto(model: ir.Model, replace: Replace = lambda tensor: None) -> onnx.ModelProto:
    """The model as a message, with all that `from_proto` set aside.

    Args:
        model: the model; it is changed while this runs, and is as before afterwards.
        replace: another tensor to write in a tensor's place, such as a reference to a file; `None` keeps it.
    """
    containers = list(_containers(model))
    undo: Undo = []
    try:
        for container in containers:
            stand_in(container, replace, undo)
        proto = ir.serde.serialize_model(model)
    finally:
        for restore in undo:
            restore()
    for container, message in zip(containers, list(graphs_of(proto)), strict=True):
        complete(container, message)
    _write_training(model, proto)
    return proto


def tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every tensor of the model in the order in which they are written; tied weights come as often as they are used."""
    for container in _containers(model):
        if isinstance(container, ir.Graph):
            yield from (value.const_value for value in container.initializers.values() if value.const_value is not None)
        for holder in attribute_holders(container):
            for attribute in _tensor_attributes(holder):
                yield from _in_attribute(attribute)


def _adopt(proto: onnx.ModelProto, files: DataFiles) -> ir.Model:
    settle_text(proto)
    mend(proto)
    in_order = check_model(proto)
    training = [_self_contained(info, files) for info in proto.training_info]
    aside = [set_aside(message) for message in list(graphs_of(proto))]
    model = ir.serde.deserialize_model(proto)
    for container, kept in zip(list(_containers(model)), aside, strict=True):
        give_back(container, kept, files)
        _settle(container, files)
    if training:
        model.meta[TRAINING] = training
    if not in_order:
        for container in (model.graph, *model.functions.values()):
            _sort(container)
    return model


def _containers(model: ir.Model) -> Iterator[Container]:
    """Every graph and function, each before the graphs inside it, as `graphs_of` lists the messages."""
    for top in (model.graph, *model.functions.values()):
        yield from _with_bodies(top)


def _with_bodies(container: Container) -> Iterator[Container]:
    yield container
    for holder in attribute_holders(container):
        for body in _bodies(holder):
            yield from _with_bodies(body)


def _bodies(holder: ir.Node | ir.Function) -> Iterator[ir.Graph]:
    for attribute in holder.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
            yield from attribute.as_graphs()


def _settle(container: Container, files: DataFiles) -> None:
    """Gives every tensor its own bytes or its mapped file, so that the message can be freed."""

    def settled(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        return files.load(tensor) if isinstance(tensor, ir.ExternalTensor) else resident(tensor)

    if isinstance(container, ir.Graph):
        for value in container.initializers.values():
            if value.const_value is not None:
                value.const_value = settled(value.const_value)
    for holder in attribute_holders(container):
        for attribute in _tensor_attributes(holder):
            found = [settled(tensor) for tensor in _in_attribute(attribute)]
            if attribute.type == ir.AttributeType.TENSOR:
                holder.attributes.add(ir.AttrTensor(attribute.name, found[0], doc_string=attribute.doc_string))
            else:
                holder.attributes.add(ir.AttrTensors(attribute.name, found, doc_string=attribute.doc_string))


def _tensor_attributes(holder: ir.Node | ir.Function) -> list[ir.Attr]:
    kinds = (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS)
    return [attribute for attribute in holder.attributes.values() if attribute.type in kinds and not attribute.is_ref()]


def _in_attribute(attribute: ir.Attr) -> list[ir.TensorProtocol]:
    return [attribute.as_tensor()] if attribute.type == ir.AttributeType.TENSOR else list(attribute.as_tensors())


def _sort(container: Container) -> None:
    try:
        container.sort()
    except ValueError as error:
        what = "the nodes of the graph form a cycle"
        why = "no order of the nodes lets each run after those it reads from"
        raise TamagoError("M016", what, where=_a_cycle(container), why=why, todo=_TODO) from error


def _a_cycle(container: Container) -> str:
    for graph in _with_bodies(container):
        try:
            TopologicalSorter({node: _sources(node) for node in graph}).prepare()
        except CycleError as error:
            nodes: list[ir.Node] = error.args[1][:8]
            return " ← ".join(f"{shown(node.name, 40)} ({shown(node.op_type, 40)})" for node in nodes)
    return "the sub-graphs of a node"


def _sources(node: ir.Node) -> set[ir.Node]:
    inside = [inner for body in _bodies(node) for graph in _with_bodies(body) for inner in graph]
    values = [value for reader in (node, *inside) for value in reader.inputs if value is not None]
    return {producer for value in values if (producer := value.producer()) is not None}


def _self_contained(info: onnx.TrainingInfoProto, files: DataFiles) -> onnx.TrainingInfoProto:
    """Training information with its external data inside it: it travels as a message, away from its folder."""
    own = onnx.TrainingInfoProto()
    own.CopyFrom(info)
    for graph in (own.initialization, own.algorithm):
        holder = onnx.ModelProto(graph=graph)
        tensors = [tensor for message in graphs_of(holder) for tensor in tensors_of(message)]
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
            for tensor in tensors:
                inline(tensor, files)
            graph.CopyFrom(holder.graph)
    return own


def _write_training(model: ir.Model, proto: onnx.ModelProto) -> None:
    known = {tensor.name for tensor in proto.graph.initializer}
    for info in model.meta.get(TRAINING, ()):
        own = {tensor.name for tensor in info.algorithm.initializer}
        targets = {binding.key for binding in (*info.initialization_binding, *info.update_binding)}
        if targets <= known | own:
            proto.training_info.add().CopyFrom(info)
        else:
            _logger.warning("training information is dropped: the model no longer has the weights that it updates")

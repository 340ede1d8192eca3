"""What a model file holds and `onnx_ir` does not: set aside when a graph is read, put back when it is written.

Sparse constants become tensors that look dense to every reader (`SparseTensor`). Attributes of kinds that `onnx_ir`
lacks become a `CarriedAttribute`, which no rule understands. Types of values that it lacks (maps, opaque types) leave
the value without a type and travel in `value.meta`. Trailing unnamed outputs, which `onnx_ir` drops although `Split`
counts them, are written as they were.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir
from onnx_ir.serde import TensorProtoTensor, deserialize_tensor, serialize_tensor_into

from .external_data import DataFiles, region_of
from .model_checks import attribute_lists
from .tensor_data import SparseTensor, resident

TYPE = "tamago.type"

Container = ir.Graph | ir.Function
Message = onnx.GraphProto | onnx.FunctionProto
Replace = Callable[[ir.TensorProtocol], ir.TensorProtocol | None]
Undo = list[Callable[[], None]]

_Attribute = onnx.AttributeProto


class CarriedAttribute(ir.Attr):
    """An attribute that the IR cannot express.

    Attributes:
        message: the attribute as the file has it.
    """

    def __init__(self, message: onnx.AttributeProto) -> None:
        super().__init__(message.name, ir.AttributeType.UNDEFINED, message, doc_string=message.doc_string or None)
        self.message = message


@dataclass
class SetAside:
    """What one graph holds that `onnx_ir` does not: types by value, sparse initializers, attributes by node."""

    types: dict[str, onnx.TypeProto] = field(default_factory=dict[str, onnx.TypeProto])
    sparse: list[onnx.SparseTensorProto] = field(default_factory=list[onnx.SparseTensorProto])
    attributes: list[tuple[int, onnx.AttributeProto]] = field(default_factory=list[tuple[int, onnx.AttributeProto]])


def attribute_holders(container: Container) -> Iterator[ir.Node | ir.Function]:
    """Whatever has attributes, in the order of `attribute_lists`: a function itself, then the nodes."""
    if isinstance(container, ir.Function):
        yield container
    yield from container


def set_aside(graph: Message) -> SetAside:
    """Takes out of one graph, without those inside it, what `onnx_ir` cannot read."""
    kept = SetAside()
    infos = [*graph.value_info]
    if isinstance(graph, onnx.GraphProto):
        infos += [*graph.input, *graph.output]
        for sparse in graph.sparse_initializer:
            own = onnx.SparseTensorProto()
            own.CopyFrom(sparse)
            kept.sparse.append(own)
            # The name must be declared for the nodes that use it; `give_back` brings the data.
            graph.initializer.add(name=own.values.name, data_type=own.values.data_type, dims=own.dims)
        del graph.sparse_initializer[:]
    for info in infos:
        if info.HasField("type") and not expressible(info.type):
            own = onnx.TypeProto()
            own.CopyFrom(info.type)
            kept.types[info.name] = own
            info.ClearField("type")
    for index, attributes in enumerate(attribute_lists(graph)):
        for position in reversed(range(len(attributes))):
            if _must_carry(attributes[position]):
                own = onnx.AttributeProto()
                own.CopyFrom(attributes[position])
                kept.attributes.append((index, own))
                del attributes[position]
    return kept


def give_back(container: Container, kept: SetAside, files: DataFiles) -> None:
    """Puts what was set aside into the graph made from the rest."""
    if kept.types:
        for value in _values(container):
            if value.name in kept.types:
                value.meta[TYPE] = kept.types[value.name]
    if isinstance(container, ir.Graph):
        for sparse in kept.sparse:
            container.initializers[sparse.values.name].const_value = _sparse(sparse, files)
    holders = list(attribute_holders(container)) if kept.attributes else []
    for index, attribute in kept.attributes:
        holders[index].attributes.add(_attribute(holders[index], attribute, files))


def inline(tensor: onnx.TensorProto, files: DataFiles) -> None:
    """Brings the bytes of an external tensor into its message."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    tensor.raw_data = bytes(files.view(region_of(tensor), tensor.name))
    tensor.ClearField("data_location")
    del tensor.external_data[:]


def stand_in(container: Container, replace: Replace, undo: Undo) -> None:
    """Puts, for as long as the graph is serialised, something that `onnx_ir` can write in the place of what it cannot.

    Args:
        container: the graph.
        replace: another tensor to write in a tensor's place, or `None`.
        undo: gets the calls that bring the graph back to what it was.
    """
    if isinstance(container, ir.Graph):
        for value in container.initializers.values():
            tensor = value.const_value
            other = None if tensor is None else _stub(tensor) or replace(tensor)
            if other is not None:
                undo.append(lambda value=value, tensor=tensor: setattr(value, "const_value", tensor))
                value.const_value = other
    for holder in attribute_holders(container):
        for attribute in list(holder.attributes.values()):
            other = _other_attribute(attribute, replace)
            if other is not None:
                undo.append(lambda holder=holder, attribute=attribute: holder.attributes.add(attribute))
                holder.attributes.add(other)


def complete(container: Container, message: Message) -> None:
    """Adds to a serialised graph what `onnx_ir` left out."""
    for node, written in zip(container, message.node, strict=True):
        written.output.extend([""] * (len(node.outputs) - len(written.output)))
    for holder, attributes in zip(attribute_holders(container), attribute_lists(message), strict=True):
        # An attribute of a function without a default is a name only, and listed elsewhere.
        valued = [
            attribute for attribute in holder.attributes.values() if attribute.is_ref() or attribute.value is not None
        ]
        for attribute, target in zip(valued, attributes, strict=True):
            if isinstance(attribute, CarriedAttribute):
                target.CopyFrom(attribute.message)
            elif attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.value, SparseTensor):
                _write_sparse_attribute(holder, attribute.value, target)
    if isinstance(container, ir.Graph) and isinstance(message, onnx.GraphProto):
        _write_sparse_initializers(container, message)
    _write_types(container, message)


def _must_carry(attribute: onnx.AttributeProto) -> bool:
    if attribute.ref_attr_name:
        return False
    if attribute.type == _Attribute.STRINGS:
        return not all(_is_utf8(text) for text in attribute.strings)
    if attribute.type == _Attribute.TYPE_PROTO:
        return not expressible(attribute.tp)
    if attribute.type == _Attribute.TYPE_PROTOS:
        return not all(expressible(kind) for kind in attribute.type_protos)
    return attribute.type in (_Attribute.SPARSE_TENSOR, _Attribute.SPARSE_TENSORS)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def expressible(kind: onnx.TypeProto) -> bool:
    """Whether `onnx_ir` has the type: tensors, and sequences and optionals of what it has."""
    while (value := kind.WhichOneof("value")) in ("sequence_type", "optional_type"):
        kind = kind.sequence_type.elem_type if value == "sequence_type" else kind.optional_type.elem_type
        if kind.WhichOneof("value") is None:
            return False
    if value == "tensor_type":
        return kind.tensor_type.HasField("elem_type")
    if value == "sparse_tensor_type":
        return kind.sparse_tensor_type.HasField("elem_type")
    return value is None


def _values(container: Container) -> Iterator[ir.Value]:
    yield from container.inputs
    for node in container:
        yield from node.outputs
    yield from container.outputs


def _attribute(holder: ir.Node | ir.Function, attribute: onnx.AttributeProto, files: DataFiles) -> ir.Attr:
    if attribute.name == "sparse_value" and _is_constant(holder):
        return ir.AttrTensor("value", _sparse(attribute.sparse_tensor, files))
    return CarriedAttribute(attribute)


def _is_constant(holder: ir.Node | ir.Function) -> bool:
    return isinstance(holder, ir.Node) and holder.op_type == "Constant" and holder.domain == ""


def _sparse(sparse: onnx.SparseTensorProto, files: DataFiles) -> SparseTensor:
    for tensor in (sparse.values, sparse.indices):
        inline(tensor, files)
    values, indices = (resident(deserialize_tensor(tensor)) for tensor in (sparse.values, sparse.indices))
    return SparseTensor(sparse, values, indices)


def _stub(tensor: ir.TensorProtocol) -> ir.TensorProtocol | None:
    if not isinstance(tensor, SparseTensor):
        return None
    # Serialising the tensor itself would write it dense; `complete` puts the sparse form in the stub's place.
    return TensorProtoTensor(onnx.TensorProto(name=tensor.name, data_type=tensor.dtype, dims=tensor.proto.dims))


def _other_attribute(attribute: ir.Attr, replace: Replace) -> ir.Attr | None:
    if isinstance(attribute, CarriedAttribute):
        return ir.AttrInt64(attribute.name, 0)
    if attribute.type != ir.AttributeType.TENSOR or attribute.is_ref():
        return None
    tensor = attribute.as_tensor()
    other = _stub(tensor) or replace(tensor)
    return None if other is None else ir.AttrTensor(attribute.name, other, doc_string=attribute.doc_string)


def _write_sparse_attribute(holder: ir.Node | ir.Function, tensor: SparseTensor, target: onnx.AttributeProto) -> None:
    target.ClearField("t")
    if not (_is_constant(holder) and target.name == "value"):
        serialize_tensor_into(target.t, ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name))
        return
    target.name = "sparse_value"
    target.type = _Attribute.SPARSE_TENSOR
    target.sparse_tensor.CopyFrom(tensor.proto)


def _write_sparse_initializers(graph: ir.Graph, message: onnx.GraphProto) -> None:
    sparse = [value for value in graph.initializers.values() if isinstance(value.const_value, SparseTensor)]
    if not sparse:
        return
    names = {value.name for value in sparse}
    for index in reversed(range(len(message.initializer))):
        if message.initializer[index].name in names:
            del message.initializer[index]
    for value in sparse:
        written = message.sparse_initializer.add()
        if isinstance(value.const_value, SparseTensor):
            written.CopyFrom(value.const_value.proto)
        written.values.name = value.name or ""


def _write_types(container: Container, message: Message) -> None:
    carried = {
        value.name: value.meta[TYPE]
        for value in _values(container)
        if value.type is None and value.name and TYPE in value.meta
    }
    if not carried:
        return
    infos = [*message.value_info]
    if isinstance(message, onnx.GraphProto):
        infos += [*message.input, *message.output]
    for info in infos:
        if info.name in carried:
            info.type.CopyFrom(carried[info.name])
    told = {info.name for info in infos}
    for name, kind in carried.items():
        if name not in told:
            message.value_info.add(name=name).type.CopyFrom(kind)

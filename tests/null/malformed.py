"""Files that are wrong in every way we could think of, made anew from a seed: the same seed gives the same bytes."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

Mutant = tuple[str, bytes]
_FLOAT = TensorProto.FLOAT
_Change = Callable[[onnx.ModelProto], object]


def corpus(seed: int, bytes_each: int = 25, cuts_each: int = 8, fields_each: int = 60) -> Iterator[Mutant]:
    """Named malformed files; some turn out to be readable, which is no fault.

    Args:
        seed: of all random choices.
        bytes_each: byte mutations of each base model.
        cuts_each: truncations of each base model.
        fields_each: models whose message is sound and some of whose fields are random, of each base model.
    """
    for name, base in bases().items():
        data = base.SerializeToString(deterministic=True)
        chance = random.Random(f"{seed} {name}")
        for index in range(bytes_each):
            yield f"{name} bytes {index}", _disturbed(data, chance)
        for index in range(cuts_each):
            yield f"{name} cut {index}", data[: chance.randrange(1, len(data))]
        for index in range(fields_each):
            yield f"{name} fields {index}", _refilled(base, chance)
    yield from structural()
    yield from raw()


def bases() -> dict[str, onnx.ModelProto]:
    """Small valid models that between them use most of what a file can hold."""
    return {"mlp": mlp(), "branches": branches(), "rich": rich()}


def mlp() -> onnx.ModelProto:
    """Two layers with weights in raw bytes, in typed fields and in a `Constant`."""
    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4), "weight")
    bias = helper.make_tensor("bias", _FLOAT, [4], [0.0, 1.0, 2.0, 3.0])
    shape = numpy_helper.from_array(np.array([-1, 4], dtype=np.int64))
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["product"], name="matmul"),
        helper.make_node("Add", ["product", "bias"], ["sum"], name="add"),
        helper.make_node("LeakyRelu", ["sum"], ["active"], name="relu", alpha=0.1),
        helper.make_node("Constant", [], ["shape"], name="shape", value=shape),
        helper.make_node("Reshape", ["active", "shape"], ["y"], name="reshape"),
    ]
    inputs = [helper.make_tensor_value_info("x", _FLOAT, ["batch", 3])]
    outputs = [helper.make_tensor_value_info("y", _FLOAT, ["batch", 4])]
    inner = [helper.make_tensor_value_info("sum", _FLOAT, ["batch", 4])]
    graph = helper.make_graph(nodes, "mlp", inputs, outputs, [weight, bias], value_info=inner)
    return _model(graph)


def branches() -> onnx.ModelProto:
    """An `If` whose bodies read the graph around them."""
    out = helper.make_tensor_value_info("out", _FLOAT, None)
    scale = helper.make_tensor("scale", _FLOAT, [1], [2.0])
    then = helper.make_graph([helper.make_node("Mul", ["x", "scale"], ["out"])], "then", [], [out], [scale])
    otherwise = helper.make_graph([helper.make_node("Neg", ["x"], ["out"])], "else", [], [out])
    node = helper.make_node("If", ["choice"], ["y"], name="if", then_branch=then, else_branch=otherwise)
    inputs = [
        helper.make_tensor_value_info("x", _FLOAT, [2]),
        helper.make_tensor_value_info("choice", TensorProto.BOOL, []),
    ]
    return _model(helper.make_graph([node], "branches", inputs, [helper.make_tensor_value_info("y", _FLOAT, [2])]))


def rich() -> onnx.ModelProto:
    """Functions, sparse and string constants, maps, sequences, half and four-bit types, metadata, annotations."""
    sparse = onnx.SparseTensorProto(
        values=numpy_helper.from_array(np.array([3.0, 4.0], np.float32), "sparse"),
        indices=numpy_helper.from_array(np.array([0, 2], np.int64)),
        dims=[4],
    )
    constants = [
        onnx.TensorProto(name="words", data_type=TensorProto.STRING, dims=[2], string_data=[b"a", b"\xff\xfe"]),
        helper.make_tensor("half", TensorProto.FLOAT16, [2], [1.5, -2.0]),
        helper.make_tensor("nibbles", TensorProto.INT4, [3], b"\x21\x03", raw=True),
    ]
    nodes = [
        helper.make_node("Twice", ["x"], ["doubled"], domain="local"),
        helper.make_node("Add", ["doubled", "sparse"], ["sum"]),
        helper.make_node("Constant", [], ["more"], sparse_value=sparse),
        helper.make_node("Add", ["sum", "more"], ["y"]),
        helper.make_node("Strange", ["words", "half", "nibbles"], ["table"], domain="com.example", options=["a", "b"]),
        helper.make_node("SequenceConstruct", ["x", "x"], ["pair"]),
    ]
    table = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(_FLOAT, None))
    outputs = [
        helper.make_tensor_value_info("y", _FLOAT, [4]),
        helper.make_value_info("table", helper.make_sequence_type_proto(table)),
        helper.make_tensor_sequence_value_info("pair", _FLOAT, [4]),
    ]
    inputs = [helper.make_tensor_value_info("x", _FLOAT, [4])]
    graph = helper.make_graph(nodes, "rich", inputs, outputs, constants, doc_string="a graph")
    graph.sparse_initializer.append(sparse)
    note = graph.quantization_annotation.add(tensor_name="doubled")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    body = [helper.make_node("Mul", ["a", "two"], ["b"]), helper.make_node("Constant", [], ["two"], value_float=2.0)]
    twice = helper.make_function("local", "Twice", ["a"], ["b"], body[::-1], [helper.make_opsetid("", 21)])
    model = _model(graph, functions=[twice])
    model.opset_import.extend([helper.make_opsetid("local", 1), helper.make_opsetid("com.example", 7)])
    helper.set_model_props(model, {"author": "nobody", "": "empty"})
    training = model.training_info.add()
    training.algorithm.name = "step"
    training.update_binding.add(key="half", value="half")
    return model


def structural() -> Iterator[Mutant]:
    """Models that are well-formed messages and no models."""
    for base, changes in ((mlp, _MLP_CHANGES), (branches, _BRANCH_CHANGES), (rich, _RICH_CHANGES)):
        for name, change in changes.items():
            model = base()
            change(model)
            yield f"{base.__name__} {name}", model.SerializeToString(deterministic=True)


def raw() -> Iterator[Mutant]:
    """Bytes that are no message, or one that is too much."""
    base = mlp().SerializeToString(deterministic=True)
    yield "empty", b""
    for byte in (b"\0", b"\n", b"\x08", b"\xff"):
        yield f"one byte {byte!r}", byte
    yield "all ones", b"\xff" * (64 << 20)
    yield "all zeros", bytes(1 << 20)
    yield "text", b"this is not a model\n" * 50
    yield "twice the same model", base + base
    yield "trailing garbage", base + b"\xde\xad\xbe\xef" * 20
    yield "leading garbage", b"\0" * 16 + base
    for depth in (40, 1000, 20_000):
        yield f"{depth} graphs within one another", nested(depth)
        yield f"{depth} sequences within one another", nested_types(depth)


def nested(depth: int) -> bytes:
    """A model of `depth` graphs, each in an attribute of the only node of the one around it."""
    # GraphProto.node = 1, NodeProto.attribute = 5, AttributeProto.g = 6; ModelProto.graph = 7
    return b"\x08\x0a" + _wrapped([0x3A, *[0x0A, 0x2A, 0x32] * depth])


def nested_types(depth: int) -> bytes:
    """A model with an input that is a sequence of sequences, `depth` of them within one another."""
    # GraphProto.input = 11, ValueInfoProto.type = 2, TypeProto.sequence_type = 4, Sequence.elem_type = 1
    return b"\x08\x0a" + _wrapped([0x3A, 0x5A, 0x12, *[0x22, 0x0A] * depth])


def _wrapped(tags: list[int]) -> bytes:
    parts: list[bytes] = []
    size = 0
    for tag in reversed(tags):
        head = bytes([tag]) + _varint(size)
        parts.append(head)
        size += len(head)
    return b"".join(reversed(parts))


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _disturbed(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        place = chance.randrange(len(changed))
        match chance.randrange(4):
            case 0:
                changed[place] = chance.randrange(256)
            case 1:
                changed[place] ^= 1 << chance.randrange(8)
            case 2:
                changed.insert(place, chance.randrange(256))
            case _:
                del changed[place]
    return bytes(changed)


_NUMBERS = (0, 1, -1, 2, 3, 7, 99, 2**31 - 1, -(2**31))
_TEXTS = ("", "x", "y", "sum", "out", "nowhere", "a\0b", "\u202e", "n" * 300)


def _refilled(base: onnx.ModelProto, chance: random.Random) -> bytes:
    """The model with one to three fields somewhere in it cleared, doubled, exchanged or filled at random."""
    model = onnx.ModelProto()
    model.CopyFrom(base)
    for _ in range(chance.choice((1, 1, 2, 3))):
        message = chance.choice(list(_messages(model)))
        _refill(message, chance.choice(list(message.DESCRIPTOR.fields)), chance)
    return model.SerializeToString(deterministic=True)


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in [value] if isinstance(value, Message) else value:
                yield from _messages(part)


def _refill(message: Message, field: Any, chance: random.Random) -> None:
    value = getattr(message, field.name)
    if chance.random() < 0.3 or field.type == FieldDescriptor.TYPE_ENUM:
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if isinstance(value, Message):
            value.SetInParent()
        elif value:
            value.append(chance.choice(list(value)))
        else:
            value.add()
    elif isinstance(value, int | float | str | bytes):
        setattr(message, field.name, _filling(field, chance))
    else:
        value.append(_filling(field, chance))
        value.insert(0, value.pop(chance.randrange(len(value))))


def _filling(field: Any, chance: random.Random) -> object:
    if field.type == FieldDescriptor.TYPE_STRING:
        return chance.choice(_TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.randbytes(chance.choice((0, 1, 4, 8, 48)))
    number = chance.choice(_NUMBERS)
    return abs(number) if field.type == FieldDescriptor.TYPE_UINT64 else number


def _model(graph: onnx.GraphProto, **rest: Any) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10, **rest)


def _set(path: str, value: object) -> _Change:
    """Sets a field given as `graph.node[0].op_type`."""
    names = path.replace("[", ".").replace("]", "").split(".")

    def change(model: onnx.ModelProto) -> None:
        here: Any = model
        for name in names[:-1]:
            here = here[int(name)] if name.lstrip("-").isdigit() else getattr(here, name)
        if isinstance(value, list):
            field = here if names[-1] == "" else getattr(here, names[-1])
            del field[:]
            field.extend(value)
        elif names[-1].lstrip("-").isdigit():
            here[int(names[-1])] = value
        else:
            setattr(here, names[-1], value)

    return change


def _drop(path: str) -> _Change:
    """Clears a field given as `graph.node[0].op_type`."""
    names = path.replace("[", ".").replace("]", "").split(".")

    def change(model: onnx.ModelProto) -> None:
        here: Any = model
        for name in names[:-1]:
            here = here[int(name)] if name.isdigit() else getattr(here, name)
        here.ClearField(names[-1])

    return change


def _external(**keys: str) -> _Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in keys.items():
            tensor.external_data.add(key=key, value=value)

    return change


def _many_nodes(model: onnx.ModelProto) -> None:
    model.graph.node.extend(helper.make_node("Relu", ["y"], [f"y{i}"]) for i in range(5000))


def _self_made(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[1].g.node[0].input[0] = "y"


def _returns_outer(model: onnx.ModelProto) -> None:
    body = model.graph.node[0].attribute[1].g
    del body.node[:]
    body.output[0].name = "x"


def _untyped_elements(model: onnx.ModelProto) -> None:
    model.graph.output[2].type.sequence_type.elem_type.Clear()


_W, _B, _N = "graph.initializer[0]", "graph.initializer[1]", "graph.node[0]"
_BIDI = "\u202e\u2066evil\x1b[31m\x07\u200b"

_MLP_CHANGES: dict[str, _Change] = {
    "no graph": _drop("graph"),
    "no opset": _set("opset_import", []),
    "no IR version": _drop("ir_version"),
    "IR version 0": _set("ir_version", 0),
    "negative IR version": _set("ir_version", -1),
    "newer IR version": _set("ir_version", onnx.IR_VERSION + 1),
    "newest IR version": _set("ir_version", 2**62),
    "newer opset": _set("opset_import[0].version", 9999),
    "negative opset": _set("opset_import[0].version", -3),
    "two opsets": lambda m: m.opset_import.add(domain="", version=9),
    "opset of a long name": lambda m: m.opset_import.add(domain="d" * 1_000_000, version=1),
    "no nodes": _set("graph.node", []),
    "no inputs": _set("graph.input", []),
    "no outputs": _set("graph.output", []),
    "input twice": lambda m: m.graph.input.append(m.graph.input[0]),
    "output twice": lambda m: m.graph.output.append(m.graph.output[0]),
    "node twice": lambda m: m.graph.node.append(m.graph.node[0]),
    "initializer twice": lambda m: m.graph.initializer.append(m.graph.initializer[0]),
    "constant twice": lambda m: m.graph.node.append(m.graph.node[3]),
    "nodes backwards": lambda m: m.graph.node.reverse(),
    "cycle": _set(f"{_N}.input[0]", "y"),
    "node reads itself": _set("graph.node[1].input[0]", "sum"),
    "undefined input": _set(f"{_N}.input[1]", "nowhere"),
    "undefined output": _set("graph.output[0].name", "nowhere"),
    "unnamed output": _set("graph.output[0].name", ""),
    "unnamed input": _set("graph.input[0].name", ""),
    "input called as a node's output": _set("graph.input[0].name", "sum"),
    "weight called as a node's output": _set(f"{_W}.name", "sum"),
    "weight called as an input": _set(f"{_W}.name", "x"),
    "unnamed weight": _set(f"{_W}.name", ""),
    "long name": _set(f"{_N}.name", "n" * 1_000_000),
    "long undefined input": _set(f"{_N}.input[1]", "n" * 1_000_000),
    "controls in a name": _set(f"{_N}.input[1]", _BIDI),
    "controls in an operator": _set(f"{_N}.op_type", _BIDI),
    "NUL in a name": _set("graph.node[0].name", "a\0b"),
    "unknown operator": _set(f"{_N}.op_type", "NoSuchOperator"),
    "no operator": _set(f"{_N}.op_type", ""),
    "unknown domain": _set(f"{_N}.domain", "no.such.domain"),
    "no inputs of a node": _set(f"{_N}.input", []),
    "no outputs of a node": _set(f"{_N}.output", []),
    "unnamed output of a node": _set(f"{_N}.output[0]", ""),
    "input without a type": _drop("graph.input[0].type"),
    "output without a type": _drop("graph.output[0].type"),
    "input without an element type": _drop("graph.input[0].type.tensor_type.elem_type"),
    "input of an unknown type": _set("graph.input[0].type.tensor_type.elem_type", 99),
    "input of a negative type": _set("graph.input[0].type.tensor_type.elem_type", -1),
    "value of an unknown type": _set("graph.value_info[0].type.tensor_type.elem_type", 2**31 - 1),
    "negative dimension of an input": _set("graph.input[0].type.tensor_type.shape.dim[0].dim_value", -1),
    "huge dimension of an input": _set("graph.input[0].type.tensor_type.shape.dim[0].dim_value", 2**63 - 1),
    "empty dimension name": _set("graph.input[0].type.tensor_type.shape.dim[0].dim_param", ""),
    "expression as dimension name": _set("graph.input[0].type.tensor_type.shape.dim[0].dim_param", "a**b**(c"),
    "raw data too short": _set(f"{_W}.raw_data", b"\0" * 47),
    "raw data too long": _set(f"{_W}.raw_data", b"\0" * 49),
    "raw data empty": _set(f"{_W}.raw_data", b""),
    "no data": _drop(f"{_W}.raw_data"),
    "typed data too short": _set(f"{_B}.float_data", [1.0]),
    "typed data too long": _set(f"{_B}.float_data", [1.0] * 5),
    "typed data in the wrong field": lambda m: (
        m.graph.initializer[1].ClearField("float_data"),
        m.graph.initializer[1].int32_data.extend([1, 2, 3, 4]),
    ),
    "raw and typed data": _set(f"{_W}.float_data", [1.0] * 12),
    "negative dimension": _set(f"{_W}.dims", [-3, -4]),
    "one negative dimension": _set(f"{_W}.dims", [-3, 4]),
    "dimension of 2^63 - 1": _set(f"{_W}.dims", [2**63 - 1]),
    "dimensions that overflow to 0": _set(f"{_W}.dims", [2**32, 2**32]),
    "dimensions that overflow to 12": _set(f"{_W}.dims", [2**62, 4, 12]),
    "huge dimensions beside 0": _set(f"{_W}.dims", [0, 2**62, 2**62]),
    "dimensions of 2^31": _set(f"{_W}.dims", [2**31]),
    "100 dimensions": _set(f"{_W}.dims", [1] * 100),
    "no dimensions": _set(f"{_W}.dims", []),
    "unknown data type": _set(f"{_W}.data_type", 99),
    "negative data type": _set(f"{_W}.data_type", -5),
    "undefined data type": _set(f"{_W}.data_type", 0),
    "strings as raw data": _set(f"{_W}.data_type", TensorProto.STRING),
    "half the width": _set(f"{_W}.data_type", TensorProto.FLOAT16),
    "double the width": _set(f"{_W}.data_type", TensorProto.DOUBLE),
    "four bits": _set(f"{_W}.data_type", TensorProto.INT4),
    "six bits": lambda m: (_set(f"{_W}.data_type", 27)(m), _set(f"{_W}.raw_data", b"\xff" * 9)(m)),
    "six bits with padding": lambda m: (
        _set(f"{_W}.data_type", 27)(m),
        _set(f"{_W}.dims", [1])(m),
        _set(f"{_W}.raw_data", b"\xff")(m),
    ),
    "segment of a tensor": lambda m: setattr(m.graph.initializer[0].segment, "end", 5),
    "attribute twice": lambda m: m.graph.node[2].attribute.append(m.graph.node[2].attribute[0]),
    "attribute without a name": _set("graph.node[2].attribute[0].name", ""),
    "attribute without a type": _drop("graph.node[2].attribute[0].type"),
    "attribute without anything": lambda m: m.graph.node[0].attribute.add(name="a"),
    "attribute of another type": _set("graph.node[2].attribute[0].type", onnx.AttributeProto.GRAPH),
    "graph where a tensor belongs": _set("graph.node[3].attribute[0].type", onnx.AttributeProto.GRAPH),
    "tensor attribute without a tensor": _drop("graph.node[3].attribute[0].t"),
    "reference outside of a function": _set("graph.node[2].attribute[0].ref_attr_name", "alpha"),
    "huge attribute": lambda m: m.graph.node[0].attribute.add(
        name="huge", type=onnx.AttributeProto.INTS, ints=range(300_000)
    ),
    "huge string attribute": lambda m: m.graph.node[0].attribute.add(
        name="huge", type=onnx.AttributeProto.STRING, s=b"\xff" * 10_000_000
    ),
    "strings that are not UTF-8": lambda m: m.graph.node[0].attribute.add(
        name="bad", type=onnx.AttributeProto.STRINGS, strings=[b"\xff", b"ok"]
    ),
    "10,000 empty attributes": lambda m: m.graph.node[0].attribute.extend(
        onnx.AttributeProto(name=f"a{i}", type=onnx.AttributeProto.INT) for i in range(10_000)
    ),
    "5,000 nodes": _many_nodes,
    "external: no keys": _external(),
    "external: no folder": _external(location="w.bin"),
    "external: climbs": _external(location="../../../../etc/hostname"),
    "external: absolute": _external(location="/etc/hostname"),
    "external: NUL": _external(location="w\0.bin"),
    "external: empty": _external(location=""),
    "external: the folder": _external(location="."),
    "external: negative offset": _external(location="w.bin", offset="-1"),
    "external: huge offset": _external(location="w.bin", offset=str(2**64)),
    "external: no number": _external(location="w.bin", length="many"),
    "external: other digits": _external(location="w.bin", length="४८"),
    "external: long number": _external(location="w.bin", length="9" * 10_000),
    "external: wrong length": _external(location="w.bin", length="1099511627776"),
    "external: odd keys": _external(location="w.bin", __class__="x", __dict__="y"),
}

_THEN = "graph.node[0].attribute[1].g"  # the helper sorts attributes

_BRANCH_CHANGES: dict[str, _Change] = {
    "body reads nothing": _set(f"{_THEN}.node[0].input[0]", "nowhere"),
    "body reads its own node": _self_made,
    "body returns nothing": _set(f"{_THEN}.output[0].name", "nowhere"),
    "body returns a value of the graph around": _returns_outer,
    "body without outputs": _set(f"{_THEN}.output", []),
    "body makes a value twice": lambda m: (
        m.graph.node[0].attribute[1].g.node.append(m.graph.node[0].attribute[1].g.node[0])
    ),
    "body with a bad weight": _set(f"{_THEN}.initializer[0].dims", [7]),
    "body with a value of the same name as around": lambda m: (
        m.graph.node[0].attribute[1].g.initializer.append(helper.make_tensor("x", _FLOAT, [1], [5.0]))
    ),
    "body without the weight it reads": _set(f"{_THEN}.initializer[0].name", "other"),
    "body with an input": lambda m: m.graph.node[0].attribute[1].g.input.add(name="extra"),
    "graphs where a graph belongs": _set("graph.node[0].attribute[0].type", onnx.AttributeProto.GRAPHS),
    "no bodies": _set("graph.node[0].attribute", []),
    "body that is not there": _drop(_THEN),
}

_RICH_CHANGES: dict[str, _Change] = {
    "function twice": lambda m: m.functions.append(m.functions[0]),
    "function without a name": _set("functions[0].name", ""),
    "function calls itself": lambda m: (
        _set("functions[0].node[1].op_type", "Twice")(m),
        _set("functions[0].node[1].domain", "local")(m),
    ),
    "function reads nothing": _set("functions[0].node[1].input[0]", "nowhere"),
    "function returns nothing": _set("functions[0].output[0]", "nowhere"),
    "function with two inputs of one name": _set("functions[0].input", ["a", "a"]),
    "function out of order": lambda m: m.functions[0].node.reverse(),
    "function without opsets": _set("functions[0].opset_import", []),
    "function with a bad default": lambda m: m.functions[0].attribute_proto.add(name="d"),
    "sparse index beyond the end": lambda m: _set_raw(m.graph.sparse_initializer[0].indices, [0, 4]),
    "sparse index negative": lambda m: _set_raw(m.graph.sparse_initializer[0].indices, [-1, 2]),
    "sparse index missing": lambda m: m.graph.sparse_initializer[0].indices.CopyFrom(
        numpy_helper.from_array(np.array([0], np.int64))
    ),
    "sparse indices of three dimensions": _set("graph.sparse_initializer[0].indices.dims", [1, 2, 1]),
    "sparse indices of another type": _set("graph.sparse_initializer[0].indices.data_type", TensorProto.DOUBLE),
    "sparse without a name": _set("graph.sparse_initializer[0].values.name", ""),
    "sparse called as a weight": _set("graph.sparse_initializer[0].values.name", "half"),
    "function with a sparse default": lambda m: m.functions[0].attribute_proto.append(m.graph.node[2].attribute[0]),
    "function with a default graph that reads nothing": lambda m: m.functions[0].attribute_proto.add(
        name="g",
        type=onnx.AttributeProto.GRAPH,
        g=helper.make_graph([helper.make_node("Neg", ["q"], ["r"])], "g", [], []),
    ),
    "sparse without dimensions": _set("graph.sparse_initializer[0].dims", []),
    "sparse of negative size": _set("graph.sparse_initializer[0].dims", [-4]),
    "sparse of huge size": _set("graph.sparse_initializer[0].dims", [2**62, 2]),
    "sparse attribute without values": _drop("graph.node[2].attribute[0].sparse_tensor.values"),
    "map without a value type": _drop("graph.output[1].type.sequence_type.elem_type.map_type.value_type"),
    "sequence of nothing": _untyped_elements,
    "sequence of an unknown type": _set("graph.output[2].type.sequence_type.elem_type.tensor_type.elem_type", 77),
    "too few words": _set("graph.initializer[0].string_data", [b"a"]),
    "half of the nibbles": _set("graph.initializer[2].raw_data", b"\x21"),
    "half as doubles": _set("graph.initializer[1].data_type", TensorProto.DOUBLE),
    "training without a graph": lambda m: m.training_info[0].ClearField("algorithm"),
    "annotation of nothing": _set("graph.quantization_annotation[0].tensor_name", "nowhere"),
    "metadata twice": lambda m: m.metadata_props.append(m.metadata_props[0]),
}


def _set_raw(tensor: onnx.TensorProto, numbers: list[int]) -> None:
    tensor.raw_data = np.array(numbers, dtype=np.int64).tobytes()

"""Weights that stay in a large model's own file: the same model, and nothing in a damaged file is believed."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tamago.compiler import left_in_file, streaming
from tamago.compiler.errors import TamagoError
from tamago.compiler.files import read_model, to_proto
from tamago.compiler.left_in_file import NotPlain, without_weights
from tamago.compiler.mapped import is_mapped

WEIGHT = np.arange(1000, dtype=np.float32).reshape(20, 50)


def proto(*more: TensorProto) -> onnx.ModelProto:
    weights = [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(np.array([3], np.float32), "b"), *more]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", size]) for n, size in (("x", 20), ("y", 50))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights, doc_string="of a test")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of this test are large."""
    monkeypatch.setattr(streaming, "LARGEST_HELD", 100)
    monkeypatch.setattr(left_in_file, "SMALLEST", 1000)


def weight(model: ir.Model) -> np.ndarray:
    tensor = model.graph.initializers["w"].const_value
    assert tensor is not None
    return tensor.numpy()


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return path


def test_weights_are_mapped_and_the_model_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, proto().SerializeToString())

    model = read_model(path)

    assert is_mapped(weight(model))
    assert streaming.is_too_large(model)
    monkeypatch.undo()
    held = read_model(path)
    assert not is_mapped(weight(held))
    assert to_proto(model) == to_proto(held)


def test_the_message_is_small_and_names_the_place() -> None:
    data = proto().SerializeToString()

    message = onnx.ModelProto.FromString(without_weights(memoryview(data), "here"))

    (found, other) = message.graph.initializer
    place = {entry.key: entry.value for entry in found.external_data}
    start, size = int(place["offset"]), int(place["length"])
    assert place["location"] == "here"
    assert data[start : start + size] == WEIGHT.tobytes()
    assert not found.raw_data
    assert other == proto().graph.initializer[1]


def test_a_tensor_that_says_that_its_bytes_are_its_own_is_left(tmp_path: Path) -> None:
    """As onnx writes what it has read from other files."""
    given = proto()
    given.graph.initializer[0].data_location = TensorProto.DEFAULT

    model = read_model(saved(tmp_path, given.SerializeToString()))

    assert is_mapped(weight(model))
    np.testing.assert_array_equal(weight(model), WEIGHT)


def test_numbers_that_are_no_raw_bytes_are_read_with_the_message(tmp_path: Path) -> None:
    typed = helper.make_tensor("t", TensorProto.FLOAT, [300], np.arange(300, dtype=np.float32))
    assert typed.float_data

    model = read_model(saved(tmp_path, proto(typed).SerializeToString()))

    found = model.graph.initializers["t"].const_value
    assert found is not None
    assert not is_mapped(found.numpy())
    np.testing.assert_array_equal(found.numpy(), np.arange(300, dtype=np.float32))
    assert is_mapped(weight(model))


@pytest.mark.parametrize("second", [b"\x3a\x00", b"\x3b", b"\x80" * 11, b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"])
def test_what_is_not_plain_is_not_left_in_its_file(second: bytes) -> None:
    """A second graph, a group, a number without an end, a length beyond the end."""
    data = proto().SerializeToString()

    assert without_weights(memoryview(data), "here")
    with pytest.raises(NotPlain):
        without_weights(memoryview(data + second), "here")


def test_two_contents_of_one_tensor_are_not_plain() -> None:
    tensor = numpy_helper.from_array(WEIGHT, "w").SerializeToString()
    twice = tensor + onnx.TensorProto(raw_data=bytes(4000)).SerializeToString()

    def model(content: bytes) -> memoryview:
        """Lengths of two bytes: seven bits each, the lower ones first and marked."""
        for tag in (b"\x2a", b"\x3a"):  # an initializer, in a graph
            content = tag + bytes([len(content) & 127 | 128, len(content) >> 7]) + content
        return memoryview(content)

    assert b"here" in without_weights(model(tensor), "here")
    with pytest.raises(NotPlain):
        without_weights(model(twice), "here")


def test_a_damaged_file_is_refused_as_a_small_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut anywhere, or of a shape that its bytes do not fill: the same code as without mapping."""
    data = proto().SerializeToString()
    short = proto()
    short.graph.initializer[0].dims[:] = [20, 60]

    def code(content: bytes) -> str:
        with pytest.raises(TamagoError) as caught:
            read_model(saved(tmp_path, content))
        return caught.value.code

    damaged = [data[:cut] for cut in range(1, len(data), 397)] + [short.SerializeToString()]
    found = [code(content) for content in damaged]
    monkeypatch.undo()
    assert found == [code(content) for content in damaged]


def test_a_file_cannot_name_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name under which the file's own bytes are known is drawn anew each time."""
    own = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[400], data_location=TensorProto.EXTERNAL)
    own.doc_string = "x" * 2000
    for key, value in (("location", "0" * 32), ("offset", "0"), ("length", "1600")):
        own.external_data.add(key=key, value=value)
    path = saved(tmp_path, proto(own).SerializeToString())

    with pytest.raises(TamagoError, match="M020"):
        read_model(path)
    monkeypatch.setattr(secrets, "token_hex", lambda _: "0" * 32)
    assert read_model(path).graph.initializers["t"].const_value is not None  # what drawing it prevents


def test_a_link_to_a_model_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to(saved(tmp_path, proto().SerializeToString()))

    np.testing.assert_array_equal(weight(read_model(tmp_path / "link.onnx")), WEIGHT)

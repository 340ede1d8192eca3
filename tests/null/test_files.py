"""Model files: what is read is written again, whole; what is no model is called by its name."""

import gzip
import io
import json
import logging
import os
import stat
import subprocess
import sys
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tamago.compiler import files
from tamago.compiler.carried import CarriedAttribute
from tamago.compiler.errors import TamagoError
from tamago.compiler.files import (
    file_bytes,
    from_proto,
    parse_model,
    read_model,
    to_proto,
    write_bytes,
    write_model,
    write_text,
)
from tests.null.malformed import bases, branches, mlp, rich
from tests.null.same_model import assert_same

FLOAT = TensorProto.FLOAT


def backend_models() -> list[tuple[str, onnx.ModelProto]]:
    """The models of ONNX's own backend suite that need no download."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators of the cases overflow on purpose
        from onnx.backend.test.loader import load_model_tests

        cases = [
            case
            for kind in ("node", "simple", "pytorch-converted", "pytorch-operator")
            for case in load_model_tests(kind=kind)
        ]
    models: list[tuple[str, onnx.ModelProto]] = []
    for case in cases:
        found = onnx.load(os.path.join(case.model_dir, "model.onnx")) if case.model_dir else case.model
        if isinstance(found, onnx.ModelProto):
            models.append((case.name, found))
    return models


def around(path: Path) -> onnx.ModelProto:
    """What a file says after it was read and written."""
    write_model(read_model(path), path.with_name("again.onnx"))
    return onnx.load(path.with_name("again.onnx"))


def saved(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("external", [False, True])
def test_a_files_size_is_known_before_it_is_written(tmp_path: Path, external: bool) -> None:
    base = mlp()
    base.graph.initializer.append(numpy_helper.from_array(np.ones((300, 20), np.float32), "unread"))
    model = from_proto(base)
    before = to_proto(model).SerializeToString()

    found = file_bytes(model)

    write_model(model, tmp_path / "model.onnx", external=external)
    assert abs(found - sum(path.stat().st_size for path in tmp_path.iterdir())) < 200
    assert to_proto(model).SerializeToString() == before


def one_node(node: onnx.NodeProto, **fields: object) -> onnx.ModelProto:
    """`y = node(x)` on four floats."""
    info = [helper.make_tensor_value_info(name, FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph([node], "g", [info[0]], [info[1]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10, **fields)


def heavy(*values: float, size: int = 1000) -> ir.Model:
    """A model whose weights are constant vectors of those values."""
    weights = [numpy_helper.from_array(np.full(size, value, np.float32), f"w{i}") for i, value in enumerate(values)]
    nodes = [helper.make_node("Sum", ["x", *(weight.name for weight in weights)], ["y"])]
    info = [helper.make_tensor_value_info(name, FLOAT, [size]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(nodes, "heavy", [info[0]], [info[1]], weights), ir_version=10)
    return from_proto(model)


def weights_of(path: Path) -> list[float]:
    return [
        float(value.const_value.numpy()[0])
        for value in read_model(path).graph.initializers.values()
        if value.const_value
    ]


# --- nothing is lost


def test_every_model_of_the_backend_suite_is_written_as_it_was_read() -> None:
    models = backend_models()
    assert len(models) >= 1500
    for name, before in models:
        try:
            after = to_proto(parse_model(before.SerializeToString()))
            assert_same(before, after)
            again = to_proto(from_proto(after))
        except Exception as error:
            error.add_note(name)
            raise
        assert again.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True), name


@pytest.mark.parametrize("name", bases())
def test_all_kinds_of_content_survive_a_file(name: str, tmp_path: Path) -> None:
    model = bases()[name]

    assert_same(model, around(saved(model, tmp_path)))


def test_the_users_message_is_left_alone() -> None:
    model = rich()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    before = model.SerializeToString(deterministic=True)

    from_proto(model)

    assert model.SerializeToString(deterministic=True) == before


def test_writing_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = read_model(saved(rich(), tmp_path))
    tensors = [value.const_value for value in model.graph.initializers.values()]
    attributes = [dict(node.attributes) for node in model.graph]

    write_model(model, tmp_path / "out.onnx", external=True)

    assert [value.const_value for value in model.graph.initializers.values()] == tensors
    assert [dict(node.attributes) for node in model.graph] == attributes


def test_a_sparse_constant_reads_as_the_dense_tensor_it_stands_for() -> None:
    model = from_proto(rich())

    initializer = model.graph.initializers["sparse"].const_value
    constant = model.graph[2].attributes["value"].as_tensor()
    assert initializer is not None
    for tensor in (initializer, constant):
        np.testing.assert_array_equal(tensor.numpy(), np.array([3, 0, 4, 0], np.float32))
        assert tensor.tobytes() == np.array([3, 0, 4, 0], np.float32).tobytes()


def test_sparse_coordinates_may_be_a_matrix() -> None:
    model = mlp()
    values = numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "s")
    indices = numpy_helper.from_array(np.array([[0, 1], [1, 0]], np.int64))
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=indices, dims=[2, 2]))

    tensor = from_proto(model).graph.initializers["s"].const_value

    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), np.array([[0, 1], [2, 0]], np.float32))


def test_outputs_of_a_split_that_have_no_name_are_counted() -> None:
    model = one_node(helper.make_node("Split", ["x"], ["y", ""], num_outputs=2))

    assert list(to_proto(from_proto(model)).graph.node[0].output) == ["y", ""]


def test_attributes_that_the_ir_lacks_are_carried() -> None:
    node = helper.make_node("Odd", ["x"], ["y"], domain="odd")
    node.attribute.add(name="bad", type=onnx.AttributeProto.STRINGS, strings=[b"\xff", b"fine"])
    sparse = rich().graph.sparse_initializer[0]
    node.attribute.add(name="many", type=onnx.AttributeProto.SPARSE_TENSORS, sparse_tensors=[sparse, sparse])
    node.attribute.add(name="kind", type=onnx.AttributeProto.TYPE_PROTO, tp=rich().graph.output[1].type)
    model = one_node(node)
    model.opset_import.add(domain="odd", version=1)

    read = from_proto(model)

    assert all(isinstance(attribute, CarriedAttribute) for attribute in read.graph[0].attributes.values())
    written = {attribute.name: attribute for attribute in to_proto(read).graph.node[0].attribute}
    assert written == {attribute.name: attribute for attribute in model.graph.node[0].attribute}


def test_defaults_of_a_function_are_carried(tmp_path: Path) -> None:
    model = rich()
    own = model.functions[0].attribute_proto
    own.append(helper.make_attribute("tensor", numpy_helper.from_array(np.arange(600, dtype=np.float32))))
    own.append(helper.make_attribute("graph", branches().graph))
    own.add(name="bad", type=onnx.AttributeProto.STRINGS, strings=[b"\xff"])
    model.functions[0].attribute.append("required")

    assert_same(model, around(saved(model, tmp_path)))
    write_model(from_proto(model), tmp_path / "out.onnx", external=True)
    assert_same(model, to_proto(read_model(tmp_path / "out.onnx")))


def test_metadata_of_a_typed_tensor_is_written_once() -> None:
    model = mlp()
    model.graph.initializer[1].metadata_props.add(key="k", value="v")

    written = to_proto(from_proto(to_proto(from_proto(model))))

    assert [entry.key for entry in written.graph.initializer[1].metadata_props] == ["k"]


def test_training_information_goes_with_the_weights_it_updates() -> None:
    model = from_proto(rich())
    assert len(to_proto(model).training_info) == 1

    del model.graph.initializers["half"]
    assert len(to_proto(model).training_info) == 0


# --- spellings


def test_names_of_the_default_domain_are_one() -> None:
    model = one_node(helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx"))
    model.opset_import[0].domain = "ai.onnx"

    read = from_proto(model)

    assert dict(read.opset_imports) == {"": 21}
    assert read.graph[0].domain == ""


def test_of_constants_with_one_name_the_last_counts_as_in_onnx_runtime() -> None:
    constant = [helper.make_node("Constant", [], ["w"], value_float=number) for number in (1.0, 2.0)]
    model = one_node(helper.make_node("Add", ["x", "w"], ["y"]))
    model.graph.node.insert(0, constant[0])
    model.graph.node.append(constant[1])
    model.graph.initializer.append(helper.make_tensor("w", FLOAT, [], [3.0]))

    read = from_proto(model)

    assert [node.op_type for node in read.graph] == ["Constant", "Add"]
    assert read.graph[0].attributes["value_float"].as_float() == 2.0
    assert not read.graph.initializers


def test_nodes_are_put_in_order() -> None:
    model = mlp()
    model.graph.node.reverse()

    read = from_proto(model)

    made = set[ir.Value | None](read.graph.inputs) | set(read.graph.initializers.values())
    for node in read.graph:
        assert set(node.inputs) <= made
        made.update(node.outputs)


def test_a_body_may_read_what_is_made_after_its_node() -> None:
    model = branches()
    model.graph.node.add(op_type="Abs", input=["x"], output=["late"])
    model.graph.node[0].attribute[0].g.node[0].input[0] = "late"

    assert [node.op_type for node in from_proto(model).graph] == ["Abs", "If"]


def test_a_cycle_is_named() -> None:
    model = mlp()
    model.graph.node[0].input[0] = "active"

    with pytest.raises(TamagoError, match="M016") as caught:
        from_proto(model)

    assert all(name in caught.value.where for name in ("matmul", "add", "relu"))
    assert "reshape" not in caught.value.where


def test_unknown_dimensions_are_none() -> None:
    model = mlp()
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    dimensions[0].dim_value = -1
    dimensions[1].dim_param = ""

    assert [dim.value for dim in from_proto(model).graph.inputs[0].shape or () if isinstance(dim, ir.SymbolicDim)] == [
        None,
        None,
    ]


def test_text_that_is_not_utf8_is_replaced_in_descriptions_and_refused_in_names() -> None:
    data = one_node(helper.make_node("Relu", ["x"], ["y"], doc_string="DOCUMENT", name="NAME")).SerializeToString()

    read = parse_model(data.replace(b"DOCUMENT", b"DOC\xff\xfeENT"))
    assert read.graph[0].doc_string == "DOC\ufffd\ufffdENT"
    with pytest.raises(TamagoError, match="M007"):
        parse_model(data.replace(b"NAME", b"N\xff\xfeE"))


def test_attributes_of_the_first_ir_version_have_the_type_of_their_value() -> None:
    model = one_node(helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.5))
    model.ir_version = 1
    del model.opset_import[:]
    model.graph.node[0].attribute[0].ClearField("type")

    read = from_proto(model)

    assert read.graph[0].attributes["alpha"].as_float() == 0.5
    assert dict(read.opset_imports) == {"": 1}


# --- what is no model


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("model.onnx"))
    return buffer.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


LOOK_ALIKES: dict[str, tuple[Callable[[], bytes], str]] = {
    "torch archive": (lambda: archive(**{"archive__data.pkl": b"", "archive__version": b"3"}), "PyTorch"),
    "exported program": (lambda: archive(**{"m__models__model.json": b"{}"}), "PyTorch"),
    "old torch": (lambda: b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "PyTorch"),
    "npz": (npz, "npz"),
    "npy": (npy, "NumPy"),
    "safetensors": (safetensors, "safetensors"),
    "zip": (lambda: archive(readme=b"hello"), "zip"),
    "broken zip": (lambda: archive(readme=b"hello")[:-30], "zip"),
    "gzip": (lambda: gzip.compress(b"model"), "gzip"),
    "tar": (tar, "tar"),
    "text": (lambda: "a note, not a model: größer\n".encode(), "text"),
    "Python": (lambda: b"import torch\nmodel = torch.nn.Linear(3, 4)\n", "text"),
    "page": (lambda: b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "LFS pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "Git LFS"),
    "OpenVINO": (lambda: b'<?xml version="1.0"?>\n<net name="m" version="11"></net>', "OpenVINO"),
    "textproto": (lambda: b'ir_version: 10\nproducer_name: "x"\ngraph {\n}\n', "text format"),
    "ONNX text": (
        lambda: b'<ir_version: 10, opset_import: ["" : 21]>\ng (float[4] x) => (float[4] y) {}\n',
        "text format",
    ),
    "TensorFlow Lite": (lambda: b"\x1c\0\0\0TFL3" + bytes(64), "TensorFlow Lite"),
    "ORT format": (lambda: b"\x1c\0\0\0ORTM" + bytes(64), ".ort"),
    "GGUF": (lambda: b"GGUF\x03\0\0\0" + bytes(64), "GGUF"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
    "image": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(64), "image"),
}


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_other_files_are_recognised(name: str, tmp_path: Path) -> None:
    content, called = LOOK_ALIKES[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(content())

    with pytest.raises(TamagoError, match="M005") as caught:
        read_model(path)

    assert called in caught.value.what
    assert caught.value.where == str(path)
    assert caught.value.todo


def test_a_file_that_was_cut_off_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    data = mlp().SerializeToString()
    for content, code in ((data[: len(data) // 2], "M006"), (data[:-1], "M006"), (data[::-1], "M007")):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(TamagoError, match=code):
            read_model(tmp_path / "model.onnx")


def test_places_that_hold_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "dangling.onnx").symlink_to("nowhere.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    cases = {
        "missing.onnx": "M001",
        "dangling.onnx": "M001",
        "folder": "M002",
        "pipe.onnx": "M002",
        "empty.onnx": "M004",
    }
    for name, code in {**cases, "empty.onnx/model.onnx": "M003", "a\0b": "M003"}.items():
        with pytest.raises(TamagoError, match=code):
            read_model(tmp_path / name)
    with pytest.raises(TamagoError, match="M004"):
        parse_model(b"")


def test_a_file_beyond_the_limit_of_protobuf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PROTOBUF_LIMIT", 100)

    with pytest.raises(TamagoError, match="M008"):
        read_model(saved(mlp(), tmp_path))
    (tmp_path / "other").write_bytes(LOOK_ALIKES["torch archive"][0]())
    with pytest.raises(TamagoError, match="M005"):
        read_model(tmp_path / "other")


# --- writing


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    path = saved(rich(), tmp_path)
    script = "import sys; from tamago.compiler.files import *; write_model(read_model(sys.argv[1]), sys.argv[2])"
    written = [tmp_path / f"{seed}.onnx" for seed in range(3)]

    for seed, target in enumerate(written):
        subprocess.run(
            [sys.executable, "-c", script, path, target], check=True, env={**os.environ, "PYTHONHASHSEED": str(seed)}
        )

    assert len({target.read_bytes() for target in written}) == 1


def test_permissions_are_those_of_the_file_replaced_or_of_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_text(tmp_path / "new.txt", "new")
        (tmp_path / "old.txt").write_text("old")
        (tmp_path / "old.txt").chmod(0o604)
        write_bytes(tmp_path / "old.txt", b"new")
    finally:
        os.umask(old)

    assert stat.S_IMODE((tmp_path / "new.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "old.txt").stat().st_mode) == 0o604
    assert [file.name for file in tmp_path.iterdir()] == ["new.txt", "old.txt"] or len(list(tmp_path.iterdir())) == 2


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    cases = {"nowhere/out.onnx": "M030", "file/out.onnx": "M030", "folder": "M031", "pipe": "M031", "n" * 300: "M034"}
    for name, code in cases.items():
        with pytest.raises(TamagoError, match=code):
            write_model(heavy(1.0), tmp_path / name)
    with pytest.raises(TamagoError, match="M03"):
        write_text("/proc/tamago.txt", "no")


def test_a_link_at_the_destination_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    (tmp_path / "target.onnx").write_bytes(b"precious")
    (tmp_path / "link.onnx").symlink_to("target.onnx")

    write_model(heavy(1.0), tmp_path / "link.onnx")

    assert (tmp_path / "target.onnx").read_bytes() == b"precious"
    assert not (tmp_path / "link.onnx").is_symlink()
    assert weights_of(tmp_path / "link.onnx") == [1.0]


def test_external_data_are_aligned_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAPPED_ALONE", 8000)
    write_model(heavy(1.0, 2.0, 3.0, size=2001), tmp_path / "m.onnx", external=True)

    offsets = [
        int(entry.value)
        for tensor in onnx.load(tmp_path / "m.onnx", load_external_data=False).graph.initializer
        for entry in tensor.external_data
        if entry.key == "offset"
    ]
    assert offsets == [0, 65536, 131072]
    assert weights_of(tmp_path / "m.onnx") == [1.0, 2.0, 3.0]
    onnx.checker.check_model(str(tmp_path / "m.onnx"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]


def test_weights_go_outside_beyond_the_threshold_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(heavy(1.0), tmp_path / "small.onnx")
    monkeypatch.setattr(files, "EXTERNAL_ABOVE", 3999)
    write_model(heavy(1.0), tmp_path / "large.onnx")
    write_model(heavy(1.0), tmp_path / "inside.onnx", external=False)

    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "inside.onnx",
        "large.onnx",
        "large.onnx.data",
        "small.onnx",
    ]


def test_tied_weights_and_constants_in_nodes_bodies_and_functions_go_outside_once(tmp_path: Path) -> None:
    array = np.arange(1024, dtype=np.float32)
    node = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(array))
    body = helper.make_graph([node], "body", [], [helper.make_tensor_value_info("k", FLOAT, [1024])])
    model = branches()
    model.graph.node[0].attribute[0].g.CopyFrom(body)
    twice = helper.make_function(
        "f", "F", ["a"], ["b"], [node, helper.make_node("Add", ["a", "k"], ["b"])], [helper.make_opsetid("", 21)]
    )
    model.functions.append(twice)
    model.opset_import.add(domain="f", version=1)
    model.graph.node.add(op_type="F", domain="f", input=["y"], output=["z"])
    read = from_proto(model)
    tied = ir.Tensor(array, name="one")
    for name in ("one", "two"):
        read.graph.initializers.add(ir.Value(name=name, const_value=tied, type=ir.TensorType(ir.DataType.FLOAT)))

    write_model(read, tmp_path / "m.onnx", external=True)

    assert (tmp_path / "m.onnx.data").stat().st_size == 3 * 4096
    again = read_model(tmp_path / "m.onnx")
    assert_same(to_proto(read), to_proto(again))


def test_four_bit_and_half_weights_keep_their_bits_outside(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    nibbles = generator.bytes(2049)
    halves = generator.bytes(4096)
    model = mlp()
    model.graph.initializer.append(helper.make_tensor("nibbles", TensorProto.INT4, [4097], nibbles, raw=True))
    model.graph.initializer.append(helper.make_tensor("halves", TensorProto.BFLOAT16, [2048], halves, raw=True))

    write_model(from_proto(model), tmp_path / "m.onnx", external=True)

    tensors = {name: value.const_value for name, value in read_model(tmp_path / "m.onnx").graph.initializers.items()}
    assert tensors["nibbles"] is not None
    assert tensors["nibbles"].tobytes() == nibbles
    assert tensors["halves"] is not None
    assert tensors["halves"].tobytes() == halves


def test_a_model_may_be_written_over_the_files_that_it_is_mapped_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m.onnx"
    write_model(heavy(1.0, 2.0), path, external=True)
    model = read_model(path)
    model.graph.initializers["w0"].const_value = ir.Tensor(np.full(1000, 5.0, np.float32), name="w0")

    with caplog.at_level(logging.WARNING):
        write_model(model, path, external=True)

    assert weights_of(path) == [5.0, 2.0]
    value = model.graph.initializers["w1"].const_value
    assert value is not None
    assert value.numpy()[0] == 2.0, "the mapped weights are what they were"
    assert "m.onnx.data" in caplog.text
    assert len(list(tmp_path.glob("*.data"))) == 2, "the old weights may belong to another model as well"


def test_writing_again_makes_no_further_files(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for values in ((1.0,), (2.0,), (1.0,), (2.0,)):
        write_model(heavy(*values), path, external=True)
        assert weights_of(path) == list(values)

    assert len(list(tmp_path.iterdir())) == 3


def test_a_data_name_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "m.onnx.data").symlink_to("elsewhere")

    write_model(heavy(1.0), tmp_path / "m.onnx", external=True)

    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
    assert weights_of(tmp_path / "m.onnx") == [1.0]


def test_writers_of_one_name_never_mix_their_weights(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    models = [heavy(float(number), float(number)) for number in range(4)]
    failures: list[BaseException] = []

    def write(model: ir.Model) -> None:
        try:
            for _ in range(5):
                write_model(model, path, external=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert len(set(weights_of(path))) == 1
    assert not failures
    assert len(set(weights_of(path))) == 1


@pytest.mark.slow
def test_a_model_of_more_than_two_gigabytes_is_read_and_written_a_tensor_at_a_time(tmp_path: Path) -> None:
    """The weights are a file with holes; memory that is not mapped stays below 400 MB of the 2.25 GiB."""
    size, count = 2**26, 9
    tensors: list[TensorProto] = []
    for index in range(count):
        tensor = TensorProto(name=f"w{index}", data_type=FLOAT, dims=[size], data_location=TensorProto.EXTERNAL)
        for key, value in {"location": "w.bin", "offset": index * size * 4, "length": size * 4}.items():
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)
    info = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("x", "y")]
    nodes = [helper.make_node("Sum", ["x", *(tensor.name for tensor in tensors)], ["y"])]
    saved(helper.make_model(helper.make_graph(nodes, "large", [info[0]], [info[1]], tensors), ir_version=10), tmp_path)
    with open(tmp_path / "w.bin", "wb") as file:
        file.truncate(count * size * 4)
        file.seek((count - 1) * size * 4)
        file.write(np.float32(7.0).tobytes())
    script = """if True:
        import sys
        from tamago.compiler.files import read_model, write_model
        write_model(read_model(sys.argv[1]), sys.argv[2])
        print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("RssAnon")))
        """
    target = tmp_path / "out.onnx"

    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "model.onnx", target], check=True, capture_output=True
    )

    assert int(run.stdout) < 400_000
    assert (tmp_path / "out.onnx.data").stat().st_size == count * size * 4
    assert weights_of(target) == [0.0] * (count - 1) + [7.0]

"""External data: nothing outside of the model's folder is ever read, and every refusal names the tensor."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tamago.compiler import external_data
from tamago.compiler.errors import TamagoError
from tamago.compiler.files import parse_model, read_model, to_proto

VALUES = np.arange(8, dtype=np.float32)
SECRET = np.full(8, 666, dtype=np.float32)


@pytest.fixture(params=["below the folder", "by real paths"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of opening: the one for platforms that can open below a folder, and the other."""
    if request.param == "by real paths":
        monkeypatch.setattr(external_data, "_SAFE_OPEN", False)
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with the data file `w.bin`, beside another folder with a secret."""
    for name in ("model/sub", "outside"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("model/w.bin", "model/sub/w.bin"):
        (tmp_path / name).write_bytes(VALUES.tobytes())
    (tmp_path / "outside/w.bin").write_bytes(SECRET.tobytes())
    return tmp_path / "model"


def tensor(dims: tuple[int, ...] = (4,), data_type: int = TensorProto.FLOAT, **keys: Any) -> TensorProto:
    proto = TensorProto(name="weight", data_type=data_type, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in keys.items():
        proto.external_data.add(key=key, value=str(value))
    return proto


def model_with(*weights: TensorProto) -> onnx.ModelProto:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [info[0]], [info[1]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def read(folder: Path, model: onnx.ModelProto, name: str = "model.onnx") -> np.ndarray:
    """What the weight of the model holds once the model is saved in the folder and read."""
    (folder / name).write_bytes(model.SerializeToString())
    value = read_model(folder / name).graph.initializers["weight"].const_value
    assert value is not None
    return value.numpy()


def refused(folder: Path, model: onnx.ModelProto) -> str:
    with pytest.raises(TamagoError) as caught:
        read(folder, model)
    assert "weight" in caught.value.where
    assert "666" not in str(caught.value)
    return caught.value.code


# --- what is read


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("keys", "first"),
    [
        ({"location": "w.bin", "offset": 0, "length": 16}, 0),
        ({"location": "w.bin", "offset": 16, "length": 16}, 4),
        ({"location": "w.bin", "offset": 4}, 1),
        ({"location": "w.bin"}, 0),
        ({"location": "w.bin", "offset": 8, "length": 0}, 2),
        ({"location": "./w.bin"}, 0),
        ({"location": "sub/w.bin", "offset": 12}, 3),
        ({"location": "sub//./w.bin", "offset": 12}, 3),
        ({"location": "w.bin", "checksum": "00", "basepath": "/elsewhere"}, 0),
        ({"location": "w.bin", "no such key": "1"}, 0),
    ],
)
def test_regions_of_files_in_the_folder_are_read(folder: Path, keys: dict[str, Any], first: int) -> None:
    found = read(folder, model_with(tensor(**keys)))

    np.testing.assert_array_equal(found, VALUES[first : first + 4])
    assert not found.flags.writeable


def test_an_unaligned_region_of_any_type_is_read(folder: Path) -> None:
    data = bytes(range(32))
    (folder / "w.bin").write_bytes(data)
    for data_type in (
        TensorProto.BFLOAT16,
        TensorProto.DOUBLE,
        TensorProto.INT4,
        TensorProto.BOOL,
        TensorProto.COMPLEX64,
    ):
        (folder / "model.onnx").write_bytes(
            model_with(tensor((3,), data_type, location="w.bin", offset=1)).SerializeToString()
        )
        value = read_model(folder / "model.onnx").graph.initializers["weight"].const_value
        assert value is not None
        assert value.tobytes() == data[1 : 1 + value.nbytes]


def test_an_empty_tensor_needs_no_file(folder: Path) -> None:
    assert read(folder, model_with(tensor((0, 3), location="missing.bin"))).shape == (0, 3)


@pytest.mark.usefixtures("way")
def test_links_that_the_user_typed_are_followed(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    np.testing.assert_array_equal(read(link, model_with(tensor(location="w.bin"))), VALUES[:4])

    # the model's folder is the one of the path as typed
    (folder.parent / "typed").mkdir()
    (folder.parent / "typed/w.bin").write_bytes(VALUES[::-1].tobytes())
    (folder.parent / "typed/model.onnx").symlink_to(folder / "model.onnx")
    value = read_model(folder.parent / "typed/model.onnx").graph.initializers["weight"].const_value
    assert value is not None
    np.testing.assert_array_equal(value.numpy(), VALUES[::-1][:4])


def test_a_path_without_a_folder_means_the_current_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "model.onnx").write_bytes(model_with(tensor(location="w.bin")).SerializeToString())
    monkeypatch.chdir(folder)

    assert "weight" in read_model("model.onnx").graph.initializers


def test_bytes_need_a_folder(folder: Path) -> None:
    data = model_with(tensor(location="w.bin")).SerializeToString()

    assert "weight" in parse_model(data, folder).graph.initializers
    with pytest.raises(TamagoError, match="M025"):
        parse_model(data)


def test_the_data_are_mapped_once_and_stay(folder: Path) -> None:
    weights = [tensor(location="w.bin", offset=4 * index) for index in range(4)]
    for index, weight in enumerate(weights):
        weight.name = f"w{index}"
    (folder / "model.onnx").write_bytes(model_with(*weights).SerializeToString())
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    model = read_model(folder / "model.onnx")
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1, "one mapping, and no folder, stays open"

    (folder / "new.bin").write_bytes(SECRET.tobytes())
    os.replace(folder / "new.bin", folder / "w.bin")

    for index, value in enumerate(model.graph.initializers.values()):
        assert value.const_value is not None
        np.testing.assert_array_equal(value.const_value.numpy(), VALUES[index : index + 4])


def test_tensors_everywhere_in_a_model_are_resolved(folder: Path) -> None:
    outside = tensor(location="w.bin", offset=4)
    constant = helper.make_node("Constant", [], ["c"], value=outside)
    out = helper.make_tensor_value_info("c", TensorProto.FLOAT, [4])
    body = helper.make_graph([constant], "body", [], [out])
    model = model_with()
    model.graph.node.add(op_type="Strange", domain="d", output=["z"]).attribute.extend(
        [
            onnx.AttributeProto(name="body", type=onnx.AttributeProto.GRAPH, g=body),
            onnx.AttributeProto(name="many", type=onnx.AttributeProto.TENSORS, tensors=[outside, outside]),
        ]
    )
    function = helper.make_function("d", "F", [], ["c"], [constant], [helper.make_opsetid("", 21)])
    function.attribute_proto.append(onnx.AttributeProto(name="t", type=onnx.AttributeProto.TENSOR, t=outside))
    function.attribute_proto.append(onnx.AttributeProto(name="g", type=onnx.AttributeProto.GRAPH, g=body))
    model.functions.append(function)
    values = tensor((2,), location="w.bin", offset=20)
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [0, 3])
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=indices, dims=[4]))
    model.training_info.add().algorithm.initializer.append(outside)

    written = to_proto(parse_model(model.SerializeToString(), folder))

    assert b"w.bin" not in written.SerializeToString()
    tensors = [
        written.graph.node[1].attribute[0].g.node[0].attribute[0].t,
        *written.graph.node[1].attribute[1].tensors,
        written.functions[0].node[0].attribute[0].t,
        written.functions[0].attribute_proto[0].t,
        written.functions[0].attribute_proto[1].g.node[0].attribute[0].t,
        written.training_info[0].algorithm.initializer[0],
    ]
    assert [proto.raw_data for proto in tensors] == [VALUES[1:5].tobytes()] * 7
    assert written.graph.sparse_initializer[0].values.raw_data == VALUES[5:7].tobytes()


# --- what is refused


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("../outside/w.bin", "M021"),
        ("sub/../../outside/w.bin", "M021"),
        ("sub/../w.bin", "M021"),
        ("..", "M021"),
        ("./..", "M021"),
        ("/etc/hostname", "M021"),
        ("//etc/hostname", "M021"),
        ("", "M021"),
        (".", "M021"),
        ("/", "M021"),
        ("w.bin\0", "M021"),
        ("w\0.bin", "M021"),
        ("missing.bin", "M020"),
        ("sub/missing.bin", "M020"),
        ("..\\outside\\w.bin", "M020"),
        ("n" * 300, "M020"),
        ("sub", "M022"),
        ("w.bin/w.bin", "M02"),
        ("link.bin", "M022"),
        ("link/w.bin", "M022"),
        ("inner.bin", "M022"),
        ("sub/up/w.bin", "M022"),
        ("hard.bin", "M022"),
        ("pipe", "M022"),
        ("socket", "M022"),
    ],
)
def test_locations_that_lead_outside_or_to_no_file_are_refused(folder: Path, location: str, code: str) -> None:
    (folder / "link.bin").symlink_to("../outside/w.bin")
    (folder / "inner.bin").symlink_to("w.bin")
    (folder / "link").symlink_to("../outside")
    (folder / "sub/up").symlink_to("..")
    os.link(folder.parent / "outside/w.bin", folder / "hard.bin")
    os.mkfifo(folder / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    try:
        os.chdir(folder)  # the path of a socket may have about 100 characters
        listener.bind("socket")
        os.chdir(here)
        assert refused(folder, model_with(tensor(location=location))).startswith(code)
    finally:
        os.chdir(here)
        listener.close()


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"offset": -4}, "M023"),
        ({"offset": "+4"}, "M023"),
        ({"offset": " 4"}, "M023"),
        ({"offset": "4.0"}, "M023"),
        ({"offset": "0x4"}, "M023"),
        ({"offset": "1_0"}, "M023"),
        ({"offset": "४"}, "M023"),
        ({"offset": ""}, "M023"),
        ({"offset": 2**63}, "M023"),
        ({"offset": "9" * 5000}, "M023"),
        ({"length": -16}, "M023"),
        ({"offset": 2**63 - 1}, "M023"),
        ({"offset": 2**63 - 16}, "M023"),
        ({"offset": 17}, "M023"),
        ({"offset": 32}, "M023"),
        ({"length": 15}, "M024"),
        ({"length": 17}, "M024"),
        ({"length": 1 << 40}, "M024"),
    ],
)
def test_regions_that_do_not_fit_are_refused(folder: Path, keys: dict[str, Any], code: str) -> None:
    assert refused(folder, model_with(tensor(location="w.bin", **keys))) == code


def test_a_shape_that_needs_more_than_the_file_is_refused(folder: Path) -> None:
    assert refused(folder, model_with(tensor((9,), location="w.bin"))) == "M023"
    assert refused(folder, model_with(tensor((2**61,), location="w.bin"))) == "M023"
    assert refused(folder, model_with(tensor((2**62, 4), location="w.bin"))) == "M017"
    assert refused(folder, model_with(tensor((-4,), location="w.bin"))) == "M017"


def test_an_empty_file_holds_nothing(folder: Path) -> None:
    (folder / "w.bin").write_bytes(b"")

    assert refused(folder, model_with(tensor(location="w.bin"))) == "M023"


def test_a_key_that_appears_twice_is_refused(folder: Path) -> None:
    weight = tensor(location="w.bin")
    weight.external_data.add(key="location", value="sub/w.bin")

    assert refused(folder, model_with(weight)) == "M023"


def test_strings_cannot_be_outside(folder: Path) -> None:
    assert refused(folder, model_with(tensor((2,), TensorProto.STRING, location="w.bin"))) == "M017"


# --- the Hugging Face cache: every file of a snapshot is a link into a folder of blobs


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A snapshot with `model.onnx` and its data, both links; gives the folder of the cache."""
    for name in ("blobs", "snapshots/abc/onnx", "outside"):
        (tmp_path / name).mkdir(parents=True)
    model = model_with(tensor(location="model.onnx_data"))
    (tmp_path / "blobs/1234").write_bytes(model.SerializeToString())
    (tmp_path / "blobs/5678").write_bytes(VALUES.tobytes())
    (tmp_path / "outside/9999").write_bytes(SECRET.tobytes())
    snapshot = tmp_path / "snapshots/abc/onnx"
    (snapshot / "model.onnx").symlink_to("../../../blobs/1234")
    (snapshot / "model.onnx_data").symlink_to("../../../blobs/5678")
    return tmp_path


def test_a_cached_model_finds_its_data_among_the_blobs(cache: Path) -> None:
    value = read_model(cache / "snapshots/abc/onnx/model.onnx").graph.initializers["weight"].const_value

    assert value is not None
    np.testing.assert_array_equal(value.numpy(), VALUES[:4])


def relink(cache: Path, target: str) -> None:
    (cache / "snapshots/abc/onnx/model.onnx_data").unlink()
    (cache / "snapshots/abc/onnx/model.onnx_data").symlink_to(target)


def chain(cache: Path) -> None:
    (cache / "blobs/5678").unlink()
    (cache / "blobs/5678").symlink_to("../outside/9999")


def harden(cache: Path) -> None:
    (cache / "blobs/5678").unlink()
    os.link(cache / "outside/9999", cache / "blobs/5678")


def unlink_model(cache: Path) -> None:
    path = cache / "snapshots/abc/onnx/model.onnx"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize(
    "attack",
    [
        lambda cache: relink(cache, "../../../outside/9999"),
        lambda cache: relink(cache, "../../../blobs/../outside/9999"),
        lambda cache: relink(cache, "/etc/hostname"),
        lambda cache: relink(cache, "../../../blobs"),
        lambda cache: relink(cache, ".."),
        chain,
        harden,
        unlink_model,
    ],
)
def test_the_exception_for_the_cache_is_no_way_out(cache: Path, attack: Callable[[Path], None]) -> None:
    attack(cache)

    with pytest.raises(TamagoError, match=r"M02[02]"):
        read_model(cache / "snapshots/abc/onnx/model.onnx")


def test_a_folder_that_turns_into_a_link_while_models_are_read_leaks_nothing(folder: Path) -> None:
    """A race between check and use: `sub` is a folder and a link to the secret in turns."""
    path = folder / "model.onnx"
    path.write_bytes(model_with(tensor(location="sub/w.bin")).SerializeToString())
    (folder / "evil").symlink_to("../outside")
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            os.rename(folder / "sub", folder / "good")
            os.rename(folder / "evil", folder / "sub")
            os.rename(folder / "sub", folder / "evil")
            os.rename(folder / "good", folder / "sub")

    thread = threading.Thread(target=exchange)
    thread.start()
    outcomes = set[str]()
    try:
        for _ in range(800):
            try:
                value = read_model(path).graph.initializers["weight"].const_value
            except TamagoError as error:
                outcomes.add(error.code)
                continue
            assert value is not None
            np.testing.assert_array_equal(value.numpy(), VALUES[:4])
            outcomes.add("read")
    finally:
        stop.set()
        thread.join()
    assert outcomes <= {"read", "M020", "M022"}
    assert "read" in outcomes

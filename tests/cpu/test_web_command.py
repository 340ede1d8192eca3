"""`tamago web`: from a file to a folder, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tamago.compiler.cli import main


def save(path: Path, nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any], weights: Any = ()) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(a, n) for n, a in weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    w = np.random.default_rng(0).standard_normal((16, 10)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    return save(tmp_path / "mlp.onnx", nodes, [floats("x", "n", 16)], [floats("y", "n", 10)], [("w", w)])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)]
    axes = [("axes", np.array([2, 3]))]
    return save(tmp_path / "pictures.onnx", nodes, [floats("x", 1, 3, 8, 8)], [floats("y", 1, 3)], axes)


def model_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text("utf-8"))


def test_a_folder_is_written_and_described(mlp: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "site"
    assert main(["web", str(mlp), str(folder), "--shape", "x=4,16"]) == 0
    said = capsys.readouterr().out

    assert model_of(folder)["name"] == "mlp"
    assert model_of(folder)["plan"]["inputs"][0]["shape"] == [4, 16]
    assert f"{len([s for s in model_of(folder)['plan']['steps'] if 'dispatch' in s])} dispatches" in said
    assert "weights-0.safetensors" in said
    assert f"python3 -m http.server -d {folder}" in said

    assert main(["web", str(mlp), str(folder), "--shape", "x=2,16", "--force", "--name", "two", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert model_of(folder)["name"] == "two"
    assert told["bytes"] == sum(p.stat().st_size for p in folder.iterdir()) == sum(f["bytes"] for f in told["files"])
    assert told["gzip"] < told["bytes"]


def test_a_classifier_gets_its_labels(pictures: Path, tmp_path: Path) -> None:
    folder, labels = tmp_path / "site", tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\n")
    words = ["web", str(pictures), str(folder), "--app", "classifier", "--labels", str(labels)]
    assert main([*words, "--mean", "0.4,0.5,0.6", "--std", "0.2"]) == 0

    assert model_of(folder)["app"] == {
        "kind": "classifier",
        "labels": ["a", "b", "c"],
        "layout": "NCHW",
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2] * 3,
    }
    labels.write_text("a\nb\n")
    assert main([*words, "--force"]) == 2


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["web", *map(str, words)]) in (2, 3)
    return capsys.readouterr().err


def test_what_cannot_be_done_is_said(
    mlp: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site"
    for words, code in [
        ((mlp, site, "--shape", "x"), "W005"),
        ((mlp, site, "--shape", "x=a,b"), "W005"),
        ((mlp, site, "--shape", "z=1"), "W006"),
        ((mlp, site, "--shape", "x=1,2,3"), "B033"),
        ((mlp, site), "B032"),
        ((mlp, tmp_path, "--shape", "x=1,16", "--force"), "W002"),
        ((mlp, site, "--shape", "x=1,16", "--app", "classifier"), "W008"),
        ((mlp, site, "--shape", "x=1,16", "--app", "completion"), "W008"),
        ((mlp, site, "--shape", "x=1,16", "--mean", "1"), "W007"),
        ((pictures, site, "--app", "classifier", "--std", "0"), "W005"),
        ((pictures, site, "--app", "classifier", "--labels", tmp_path / "absent"), "W009"),
    ]:
        assert f"error[{code}]" in refused(capsys, *words)

    assert not site.exists()


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    """Which of two operators there is depends on an input."""

    def branch(op: str) -> onnx.GraphProto:
        return helper.make_graph([helper.make_node(op, ["x"], [op])], op, [], [floats(op, 1, 4)])

    nodes = [
        helper.make_node("Equal", ["rate", "wide"], ["same"]),
        helper.make_node("If", ["same"], ["y"], then_branch=branch("Exp"), else_branch=branch("Neg")),
    ]
    inputs = [floats("x", 1, 4), helper.make_tensor_value_info("rate", TensorProto.INT64, [1])]
    return save(tmp_path / "rates.onnx", nodes, inputs, [floats("y", 1, 4)], [("wide", np.asarray([16000]))])


def test_an_input_that_is_always_the_same_takes_its_branch(
    rates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "error[B031]" in refused(capsys, rates, tmp_path / "none")
    for rate in ("16000", "8000"):
        folder = tmp_path / rate
        assert main(["web", str(rates), str(folder), "--value", f"rate={rate}"]) == 0
        plan = model_of(folder)["plan"]
        assert [i["name"] for i in plan["inputs"]] == ["x"]
        assert ["exp(" in kernel["source"] for kernel in plan["kernels"]] == [rate == "16000"]
    for value, code in (("rate=x", "W005"), ("16000", "W005"), ("other=1", "W006"), ("x=1", "W010")):
        assert f"error[{code}]" in refused(capsys, rates, tmp_path / "none", "--value", value)
    assert not (tmp_path / "none").exists()


def test_a_buffer_that_not_every_gpu_binds_is_said(
    mlp: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tamago.backends.webgpu import limits

    assert main(["web", str(mlp), str(tmp_path / "small"), "--shape", "x=4,16"]) == 0
    assert "binds" not in capsys.readouterr().out
    monkeypatch.setattr(limits, "EVERYWHERE", 600)
    assert main(["web", str(mlp), str(tmp_path / "large"), "--shape", "x=4,16"]) == 0
    assert "binds 640 bytes at once" in capsys.readouterr().out


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    weights = [(n, random.normal(0, 0.1, s).astype(np.float32)) for n, s in (("u", (64, 128)), ("v", (128, 96)))]
    nodes = [
        helper.make_node("MatMul", ["x", "u"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "v"], ["y"]),
    ]
    np.savez(tmp_path / "data.npz", x=random.standard_normal((64, 64)).astype(np.float32))
    return save(tmp_path / "layers.onnx", nodes, [floats("x", 1, 64)], [floats("y", 1, 96)], weights)


def test_a_budget_makes_the_download_small(layers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--rise", "0.02", "--calibration", str(tmp_path / "data.npz"), "--json"]
    assert main(["web", str(layers), str(tmp_path / "exact"), "--json"]) == 0
    exact = json.loads(capsys.readouterr().out)
    assert main(["web", str(layers), str(tmp_path / "small"), *words]) == 0
    small = json.loads(capsys.readouterr().out)

    sizes = [sum(f["bytes"] for f in told["files"] if f["name"].startswith("weights")) for told in (exact, small)]
    assert sizes[1] < 0.3 * sizes[0]
    assert small["dispatches"] == exact["dispatches"]  # what makes weights wide again is done once
    assert 0 < small["approximation"]["proof"]["value"] < small["approximation"]["upper"] <= 0.02
    assert small["approximation"]["workloads"] == []  # nobody knows how fast a visitor's browser is


def test_no_rounding_is_added_to_what_was_proved(
    layers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--rise", "0.02", "--calibration", tmp_path / "data.npz", "--half")
    assert "error[W007]" in refused(capsys, layers, tmp_path / "site", *words)


def test_operators_without_kernels_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["y"])]
    output = helper.make_tensor_value_info("y", TensorProto.INT64, [2, "n"])
    said = refused(capsys, save(tmp_path / "m.onnx", nodes, [floats("x", 2, 3)], [output]), tmp_path / "site")

    assert "error[B031]" in said


def test_a_vocabulary_may_be_a_list_or_an_object(tmp_path: Path) -> None:
    from tamago.compiler.commands.web import _read_labels  # pyright: ignore[reportPrivateUsage]

    for text, wanted in (('["a", "b"]', ["a", "b"]), ('{"b": 2, "a": 0}', ["a", "", "b"])):
        (tmp_path / "v.json").write_text(text)
        assert _read_labels(tmp_path / "v.json") == wanted


def test_labels_of_imagenets_usual_file(pictures: Path, tmp_path: Path) -> None:
    labels = tmp_path / "class_index.json"
    labels.write_text(json.dumps({"1": ["n02", "goldfish"], "0": ["n01", "tench"], "2": ["n03", "shark"]}))
    folder = tmp_path / "site"
    assert main(["web", str(pictures), str(folder), "--app", "classifier", "--labels", str(labels)]) == 0
    assert model_of(folder)["app"]["labels"] == ["tench", "goldfish", "shark"]


def test_numbers_that_json_lacks_are_refused(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["web", str(pictures), str(tmp_path / "site"), "--app", "classifier", "--mean", "nan"]) == 2
    assert "W005" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_a_shape_for_a_single_number_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scalar = save(tmp_path / "scalar.onnx", [helper.make_node("Relu", ["x"], ["y"])], [floats("x")], [floats("y")])
    assert main(["web", str(scalar), str(tmp_path / "site"), "--shape", "x=3"]) == 2
    assert "B033" in capsys.readouterr().err

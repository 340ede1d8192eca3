"""`tamago web --sizes`: one folder for several sizes, and what contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tamago.compiler.cli import main
from tamago.compiler.commands.web_sizes import every_size, read_shapes, read_sizes


def save(path: Path, shapes: dict[str, list[int | str | None]]) -> Path:
    """A linear layer of x, with what each other input says of its rows added."""
    w = np.random.default_rng(0).standard_normal((16, 10)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["r"])]
    last = "r"
    for name in [n for n in shapes if n != "x"]:
        nodes.append(helper.make_node("Add", [last, name], [f"with {name}"]))
        last = f"with {name}"
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None, 10])
    graph = helper.make_graph(nodes, "g", inputs, [output], [numpy_helper.from_array(w, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """Any batch and sequence, which both inputs have."""
    return save(tmp_path / "layer.onnx", {"x": ["batch", "sequence", 16], "bias": ["batch", "sequence", 1]})


@pytest.fixture
def nameless(tmp_path: Path) -> Path:
    return save(tmp_path / "nameless.onnx", {"x": [1, None, 16]})


def model_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text("utf-8"))


def shapes_of(plan: dict[str, Any]) -> list[list[int]]:
    return [i["shape"] for i in plan["inputs"]]


def test_one_folder_holds_every_size(layer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site"
    assert main(["web", str(layer), str(site), "--sizes", "batch=1,2", "--sizes", "sequence=4,8"]) == 0
    said = capsys.readouterr().out
    model = model_of(site)
    batches = [(b, s) for b in (1, 2) for s in (4, 8)]

    assert [p["size"] for p in model["plans"]] == [{"batch": b, "sequence": s} for b, s in batches]
    assert [shapes_of(p) for p in model["plans"]] == [[[b, s, 16], [b, s, 1]] for b, s in batches]
    assert "4 sizes" in said
    assert "batch=2, sequence=8: " in said
    stored = [name for shard in model["shards"] for name, _ in shard["tensors"].values()]
    assert len(stored) == len(set(stored)) == len(model["weights"])
    assert sum(shard["bytes"] for shard in model["shards"]) < 1.5 * 16 * 10 * 4  # the weight once

    assert (
        main(["web", str(layer), str(site), "--sizes", "sequence=4,8", "--sizes", "batch=1", "--force", "--json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert [row["size"] for row in told["sizes"]] == [{"sequence": s, "batch": 1} for s in (4, 8)]
    assert told["largest_buffer"] >= 640


def test_one_size_is_a_bundle_as_it_was(layer: Path, tmp_path: Path) -> None:
    """Byte for byte, however the size was said."""
    ways = (["--shape", "x=1,4,16", "--shape", "bias=1,4,1"], ["--sizes", "batch=1", "--sizes", "sequence=4"])
    for number, words in enumerate(ways):
        assert main(["web", str(layer), str(tmp_path / str(number)), "--name", "m", *words]) == 0
    names = sorted(p.name for p in (tmp_path / "0").iterdir())

    assert names == sorted(p.name for p in (tmp_path / "1").iterdir())
    assert all((tmp_path / "0" / n).read_bytes() == (tmp_path / "1" / n).read_bytes() for n in names)
    assert model_of(tmp_path / "0")["format"] == 2
    assert set(model_of(tmp_path / "0")) == {"kind", "format", "name", "hash", "app", "plan", "shards", "files"}


def test_a_shape_may_name_a_dimension(nameless: Path, layer: Path, tmp_path: Path) -> None:
    words = ["--shape", "x=1,rows,16", "--sizes", "rows=3,5"]
    assert main(["web", str(nameless), str(tmp_path / "a"), *words]) == 0
    assert [shapes_of(p) for p in model_of(tmp_path / "a")["plans"]] == [[[1, 3, 16]], [[1, 5, 16]]]
    words = ["--shape", "x=1,sequence,16", "--sizes", "sequence=3,5"]
    assert main(["web", str(layer), str(tmp_path / "b"), *words]) == 0
    assert [shapes_of(p)[1] for p in model_of(tmp_path / "b")["plans"]] == [[1, 3, 1], [1, 5, 1]]


def test_sums_of_dimensions_follow(tmp_path: Path) -> None:
    rows: dict[str, list[int | str | None]] = {"x": [1, "past + new", 16], "bias": [1, "new", 1]}
    source = save(tmp_path / "sum.onnx", rows)
    words = ["--sizes", "new=1", "--sizes", "past=0,7"]
    assert main(["web", str(source), str(tmp_path / "site"), *words]) == 0

    assert [shapes_of(p) for p in model_of(tmp_path / "site")["plans"]] == [[[1, n, 16], [1, 1, 1]] for n in (1, 8)]


def test_half_and_a_budget_go_with_sizes(layer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--sizes", "sequence=4,8", "--sizes", "batch=1", "--json"]
    assert main(["web", str(layer), str(tmp_path / "half"), *words, "--half"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["half_error"] < 1e-2
    random = np.random.default_rng(1)
    arrays = {n: random.standard_normal((64, 1, 8, s), np.float32) for n, s in (("x", 16), ("bias", 1))}
    np.savez(tmp_path / "data.npz", x=arrays["x"], bias=arrays["bias"])
    budget = ["--rise", "0.05", "--calibration", str(tmp_path / "data.npz")]
    assert main(["web", str(layer), str(tmp_path / "small"), *words, *budget]) == 0
    assert "approximation" in json.loads(capsys.readouterr().out)
    assert [p["size"]["sequence"] for p in model_of(tmp_path / "small")["plans"]] == [4, 8]


REFUSED: list[tuple[list[str], str, str]] = [
    (["--sizes", "sequence"], "W005", "--sizes NAME=32,128"),
    (["--sizes", "sequence="], "W005", "--sizes NAME=32,128"),
    (["--sizes", "sequence=4,x"], "W005", "--sizes NAME=32,128"),
    (["--sizes", "sequence=-1"], "W005", "--sizes NAME=32,128"),
    (["--sizes", "sequence=4,99999999999999999999"], "W005", "--sizes NAME=32,128"),
    (["--shape", "x=1,4,n", "--sizes", "n=8,16"], "W011", "is 16 in the file: it cannot have several sizes"),
    (["--sizes", "sequence=4,8", "--sizes", "sequence=16"], "W011", "the sizes of 'sequence' are given twice"),
    (["--sizes", "sequence=4,4"], "W011", "a size is given twice"),
    (["--shape", "x=1,4,16", "--shape", "x=1,8,16"], "W011", "--sizes n=32,128"),
    (["--shape", "x=1,4,16", "--sizes", "sequence=4,8"], "W011", "both say what 'sequence' is"),
    (["--shape", "x=1,n,16", "--sizes", "n=4,8"], "W011", "is 'sequence' in the file, not 'n'"),
    (["--sizes", "length=4,8"], "W012", "its inputs have batch, sequence"),
    (["--shape", "x=1,n,16"], "W005", "--shape NAME=1,3,224,224"),
    (["--sizes", "sequence=4,8"], "B032", "--shape x="),
    (["--sizes", "sequence=4,8", "--sizes", "batch=1", "--app", "completion"], "W007", "runs one size"),
]


@pytest.mark.parametrize(("words", "code", "why"), REFUSED, ids=[" ".join(words) for words, _, _ in REFUSED])
def test_what_contradicts_itself_is_refused(
    layer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: str, why: str
) -> None:
    assert main(["web", str(layer), str(tmp_path / "site"), *words]) in (2, 3)
    said = capsys.readouterr().err

    assert f"error[{code}]" in said
    assert why in said
    assert not (tmp_path / "site").exists()


def test_a_dimension_without_a_name_is_to_be_named(
    nameless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["web", str(nameless), str(tmp_path / "site"), "--sizes", "rows=3,5"]) == 2
    assert "name one: --shape INPUT=1,rows" in capsys.readouterr().err
    words = ["--shape", "x=rows,1,16", "--sizes", "rows=3,5"]
    assert main(["web", str(nameless), str(tmp_path / "site"), *words]) == 2
    assert not (tmp_path / "site").exists()


def test_words_are_read_in_their_order() -> None:
    ranges = read_sizes(["b=1,2", "a b=3"])

    assert ranges == {"b": (1, 2), "a b": (3,)}
    assert every_size(ranges) == [{"b": 1, "a b": 3}, {"b": 2, "a b": 3}]
    assert every_size({}) == [{}]
    assert read_shapes(["x=2,b", "y=", "a=b=4"], ranges) == {"x": (2, "b"), "y": (), "a=b": (4,)}

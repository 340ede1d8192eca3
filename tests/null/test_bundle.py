"""A folder for the web: complete or absent, never over something else, and as the runtime reads it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamago.backends.webgpu import bundle
from tamago.backends.webgpu.bundle import files_of, is_bundle, write_bundle
from tamago.backends.webgpu.plan import Choice, Copy, Dispatch, Interface, Kernel, Plan
from tamago.compiler.errors import TamagoError

PLAN = Plan(
    buffers=(40, 12, 8, 4),
    weights={0: "a", 1: "b", 2: "half"},
    kernels=(Kernel("fn", (True,)),),
    steps=(Dispatch("x", (3,), (Choice(0, (1, 1, 1)),)), Copy(0, 1, 12)),
    inputs=(Interface("x", 3, (), "float32", "f32"),),
    outputs=(),
)
WEIGHTS: dict[str, Any] = {
    "a": np.arange(10, dtype=np.float32),
    "b": np.array([[1], [2], [3]], np.int32),
    "half": np.array([1, 2, 3], np.float16),
}
SITE = Path(bundle.__file__).with_name("site")


def model_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text("utf-8"))


def test_a_bundle_is_the_site_the_plan_and_its_weights(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write_bundle(folder, PLAN, WEIGHTS, name="a <model>", app={"kind": "classifier"})
    model = model_of(folder)

    assert is_bundle(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["site"]
    assert {p.name for p in folder.iterdir()} == {p.name for p in SITE.iterdir()} | {
        "model.json",
        "weights-0.safetensors",
    }
    assert (model["name"], model["app"], model["format"]) == ("a <model>", {"kind": "classifier"}, 2)
    assert model["plan"] == json.loads(json.dumps(PLAN.to_dict()))
    shard = (folder / "weights-0.safetensors").read_bytes()
    assert model["shards"][0]["bytes"] == len(shard)
    assert model["shards"][0]["sha256"] == hashlib.sha256(shard).hexdigest()
    sizes = {f.name: f.bytes for f in files_of(folder)}
    assert sizes["weights-0.safetensors"] == len(shard)
    beside = tmp_path / "beside"
    beside.mkdir()
    assert folder.stat().st_mode == beside.stat().st_mode  # a server that runs as somebody else can read it


def test_the_weights_are_what_safetensors_reads(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    write_bundle(tmp_path / "site", PLAN, WEIGHTS, name="m")
    found = safetensors.load_file(tmp_path / "site" / "weights-0.safetensors")

    assert {n: (a.dtype, a.shape) for n, a in found.items()} == {n: (a.dtype, a.shape) for n, a in WEIGHTS.items()}
    assert all(np.array_equal(found[n], WEIGHTS[n]) for n in WEIGHTS)


def test_large_weights_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is larger than hosts and browsers take; parts and their places make the whole."""
    safetensors = pytest.importorskip("safetensors.numpy")
    monkeypatch.setattr(bundle, "SHARD", 16)
    write_bundle(tmp_path / "site", PLAN, WEIGHTS, name="m")
    found = {name: bytearray(a.nbytes) for name, a in WEIGHTS.items()}
    for shard in model_of(tmp_path / "site")["shards"]:
        tensors = safetensors.load_file(tmp_path / "site" / shard["file"])
        assert sum(a.nbytes for a in tensors.values()) <= 16
        for key, (name, offset) in shard["tensors"].items():
            data = tensors[key].tobytes()
            found[name][offset : offset + len(data)] = data

    assert found == {name: a.tobytes() for name, a in WEIGHTS.items()}


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write_bundle(folder, PLAN, WEIGHTS, name="old")
    with pytest.raises(TamagoError, match="W001"):
        write_bundle(folder, PLAN, WEIGHTS, name="new")
    assert model_of(folder)["name"] == "old"

    write_bundle(folder, PLAN, WEIGHTS, name="new", force=True)
    assert model_of(folder)["name"] == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def test_what_somebody_put_into_a_bundle_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write_bundle(folder, PLAN, WEIGHTS, name="old")
    (folder / "CNAME").write_text("mine")
    with pytest.raises(TamagoError, match="CNAME"):
        write_bundle(folder, PLAN, WEIGHTS, name="new", force=True)

    assert (folder / "CNAME").read_text() == "mine"
    assert model_of(folder)["name"] == "old"


def test_a_bundle_of_the_first_format_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write_bundle(folder, PLAN, WEIGHTS, name="old")
    model = model_of(folder)
    del model["files"]
    (folder / "model.json").write_text(json.dumps(model | {"format": 1}))
    write_bundle(folder, PLAN, WEIGHTS, name="new", force=True)

    assert model_of(folder)["name"] == "new"


@pytest.mark.parametrize("what", ["folder", "file", "link", "other"])
def test_only_a_bundle_is_replaced(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "site"
    if what == "file":
        folder.write_text("mine")
    elif what == "link":
        write_bundle(tmp_path / "real", PLAN, WEIGHTS, name="m")
        folder.symlink_to(tmp_path / "real")
    else:
        folder.mkdir()
        (folder / "model.json").write_text('{"kind": "other"}' if what == "other" else "no json")
    with pytest.raises(TamagoError, match="W002"):
        write_bundle(folder, PLAN, WEIGHTS, name="m", force=True)

    assert folder.is_symlink() or folder.is_file() or (folder / "model.json").exists()


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site"
    write_bundle(folder, PLAN, WEIGHTS, name="old")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if target == folder and not self.name.endswith("-old"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(TamagoError, match="M033"):
        write_bundle(folder, PLAN, WEIGHTS, name="new", force=True)
    with pytest.raises(TamagoError, match="M030"):
        write_bundle(tmp_path / "absent" / "site", PLAN, WEIGHTS, name="new")

    assert model_of(folder)["name"] == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize(
    ("weight", "why"),
    [
        (None, "missing"),
        (np.zeros(3, np.float64), "its type is float64"),
        (np.zeros(4, np.float32), "it has 16 bytes, its buffer 12"),
    ],
    ids=["missing", "type", "size"],
)
def test_weights_must_be_those_of_the_plan(tmp_path: Path, weight: Any, why: str) -> None:
    weights = {n: a for n, a in WEIGHTS.items() if n != "b"} | ({} if weight is None else {"b": weight})
    with pytest.raises(TamagoError, match=f"W004.*b\n.*{why}"):
        write_bundle(tmp_path / "site", PLAN, weights, name="m")

    assert list(tmp_path.iterdir()) == []


def test_an_unknown_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TamagoError, match="W003"):
        write_bundle(tmp_path / "site", PLAN, WEIGHTS, name="m", app={"kind": "game"})


def test_the_runtime_is_small_and_loads_nothing_from_elsewhere() -> None:
    """Works offline and under the page's own policy: no other host, no inline script or style."""
    texts = {p.name: p.read_text("utf-8") for p in SITE.iterdir()}

    assert sum(map(len, texts.values())) < 120_000
    assert len(texts["tamago.js"]) < 60_000
    assert "Content-Security-Policy" in texts["index.html"]
    for name, text in texts.items():
        assert re.findall(r"https?://(?!localhost)\S+", text) == [], name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", texts["index.html"])

"""The command line, each command as a user types it: what it prints, writes and exits with."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from tamago.compiler.cli import main
from tests.cpu.test_compile import model


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    onnx.save(model(), path)
    return path


def test_optimize_needs_nothing_but_two_files(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    destination = source.with_name("out.onnx")

    assert main(["optimize", str(source), str(destination), "--time", "5", "--threads", "1"]) == 0

    assert len(onnx.load(destination).graph.node) <= len(model().graph.node)
    printed = capsys.readouterr().out
    assert "verdict:" in printed
    assert f"again: tamago optimize {source} {destination}" in printed


def test_optimize_on_the_owners_inputs_with_reports(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs, page = source.with_name("x.npz"), source.with_name("report.html")
    np.savez(inputs, x=np.ones((3, 8), np.float32))
    words = ["optimize", str(source), str(source), "--inputs", str(inputs), "--report", str(page), "--json"]

    assert main([*words, "--time", "5"]) == 0

    assert json.loads(capsys.readouterr().out)["verdict"]
    assert page.read_text().startswith("<!doctype html>")


def test_check_tells_equal_from_different(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = model()
    other.graph.initializer[0].raw_data = np.zeros((8, 8), np.float32).tobytes()
    other.graph.initializer[0].ClearField("float_data")
    changed = source.with_name("changed.onnx")
    onnx.save(other, changed)

    assert main(["check", str(source), str(source)]) == 0
    assert main(["check", str(source), str(changed)]) == 1
    assert "y" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["inspect", "explain"])
def test_a_model_is_described(command: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = source.read_bytes()

    assert main([command, str(source)]) == 0
    text = capsys.readouterr().out
    assert main([command, str(source), "--json"]) == 0

    assert text
    assert json.loads(capsys.readouterr().out)
    assert source.read_bytes() == before


def test_bench_compares_files(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(source), str(source), "--threads", "1", "--rounds", "3"]) == 0
    assert capsys.readouterr().out.count("ms") == 2


def test_doctor_finds_this_installation_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "onnxruntime" in capsys.readouterr().out


def test_the_cache_goes_out_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, file = ["--store", str(tmp_path / "store.sqlite")], str(tmp_path / "prices.json")

    for words in (["export", file], ["clear"], ["import", file], ["size"]):
        assert main(["cache", *words, *store]) == 0
    assert "prices" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["optimize", "nowhere.onnx", "out.onnx"], "M001", 2),
        (["optimize", "{source}", "{folder}/nowhere/out.onnx"], "M0", 2),
        (["optimize", "{source}", "out.onnx", "--target", "tpu"], "U001", 3),
        (["check", "{source}", "nowhere.onnx"], "M001", 2),
        (["cache", "export"], "U022", 2),
        (["paint"], "U020", 2),
        (["bench", "{source}", "--rounds", "0"], "U006", 2),
        (["bench", "{source}", "--batch", "-1"], "U006", 2),
        (["bench", "{source}", "--inputs", "{folder}/other.npz"], "U011", 2),
        (["bench", "{source}", "--inputs", "{folder}/narrow.npz"], "U012", 2),
        (["bench", "{source}", "--inputs", "{folder}/array.npy"], "M040", 2),
        (["bench", "{source}", "--inputs", "{folder}"], "M040", 2),
        (["check", "{source}", "{source}", "--inputs", "{folder}/empty.npz"], "U011", 2),
        (["check", "{source}", "{source}", "--inputs", "{folder}/text.npz"], "M040", 2),
        (["check", "{source}", "{source}", "--samples", "0"], "U006", 2),
        (["check", "{source}", "{source}", "--inputs", "{folder}/narrow.npz"], "U012", 2),
    ],
)
def test_mistakes_have_a_code_and_no_traceback(
    words: list[str], code: str, exit_code: int, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = source.parent
    np.savez(folder / "other.npz", z=np.ones((1, 8), np.float32))
    np.savez(folder / "narrow.npz", x=np.ones((1, 7), np.float32))
    np.save(folder / "array.npy", np.ones((1, 8), np.float32))
    np.savez(folder / "empty.npz")
    with zipfile.ZipFile(folder / "text.npz", "w") as archive:
        archive.writestr("x", "hello")
    filled = [word.format(source=source, folder=folder) for word in words]

    assert main(filled) == exit_code

    error = capsys.readouterr().err
    assert f"error[{code}" in error
    assert "Traceback" not in error


def test_files_are_timed_and_checked_on_what_each_takes_of_the_owners_arrays(source: Path) -> None:
    """A file of calibration has labels too."""
    np.savez(source.with_name("data.npz"), x=np.ones((3, 8), np.float32), labels=np.zeros(3))
    words = [str(source), str(source), "--inputs", str(source.with_name("data.npz"))]

    assert main(["bench", *words, "--rounds", "2"]) == 0
    assert main(["check", *words]) == 0


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["optimize", "{source}", "{out}"], ["--store", "{store}"]),
        (["explain", "{source}"], ["--store", "{store}"]),
        (["bench", "{source}", "{source}"], ["--rounds", "2"]),
        (["check", "{source}", "{source}"], []),
    ],
)
def test_arrays_that_no_model_takes_are_named_by_every_command(
    words: list[str], extra: list[str], source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = source.with_name("data.npz")
    places = {"source": source, "out": source.with_name("out.onnx"), "store": source.with_name("store.sqlite")}
    filled = [word.format(**places) for word in [*words, "--inputs", str(data), *extra]]

    np.savez(data, x=np.ones((3, 8), np.float32), labels=np.zeros(3))
    assert main(filled) == 0
    assert "note: no input is called labels" in capsys.readouterr().err

    np.savez(data, x=np.ones((3, 8), np.float32))
    assert main(filled) == 0
    assert "note" not in capsys.readouterr().err

    np.savez(data, X=np.ones((3, 8), np.float32))  # a slip of the name of one that is needed
    assert main(filled) == 2
    error = capsys.readouterr().err
    assert "no input is called X" in error
    assert "error[U011]: an input is missing — x" in error


def test_an_array_that_only_the_second_file_takes_is_given_to_it(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two exports of one network, whose input has two names."""
    other = model()
    other.graph.input[0].name = other.graph.node[0].input[0] = "elsewhere"
    onnx.save(other, source.with_name("other.onnx"))
    x = np.ones((3, 8), np.float32)
    np.savez(source.with_name("data.npz"), x=x, elsewhere=x)
    words = [str(source), str(source.with_name("other.onnx")), "--inputs", str(source.with_name("data.npz"))]

    assert main(["check", *words]) == 0
    assert main(["bench", *words, "--rounds", "2"]) == 0
    assert "note" not in capsys.readouterr().err


def test_strings_are_read_and_python_objects_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> g (string[N] s) => (int64[N] y) {
        y = ai.onnx.ml.LabelEncoder <keys_strings = ["a", "b"], values_int64s = [1, 2]> (s) }"""
    )
    file, data = str(tmp_path / "words.onnx"), tmp_path / "words.npz"
    onnx.save(words, file)

    np.savez(data, s=np.array(["b", "a"]))
    assert main(["check", file, file, "--inputs", str(data)]) == 0
    np.savez(data, s=np.array(["b", "a"], object))
    assert main(["check", file, file, "--inputs", str(data)]) == 2
    assert "array.astype(str)" in capsys.readouterr().err


def test_a_file_with_other_inputs_is_refused_by_name(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = model()
    other.graph.input[0].name = other.graph.node[0].input[0] = "elsewhere"
    onnx.save(other, source.with_name("other.onnx"))

    assert main(["bench", str(source), str(source.with_name("other.onnx")), "--rounds", "2"]) == 2
    assert "error[U011]: an input is missing — elsewhere" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "code"), [("--version", 0), ("compile", 2)])
def test_the_package_runs_as_a_program(word: str, code: int) -> None:
    ran = subprocess.run([sys.executable, "-m", "tamago", word], capture_output=True, text=True, check=False)

    assert ran.returncode == code
    assert ran.stdout.startswith("tamago ") if code == 0 else "error[U020]" in ran.stderr

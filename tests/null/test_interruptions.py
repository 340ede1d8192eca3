"""Every call of the file system may fail, and the process may die at it: the old files are whole, or the new ones."""

import errno
import os
import resource
import signal
import threading
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tamago.compiler.errors import TamagoError
from tamago.compiler.files import from_proto, read_model, write_model, write_text

CALLS = ("open", "write", "fsync", "replace", "fchmod", "close")
ERRORS = (errno.ENOSPC, errno.EIO)
OLD, NEW = 1.0, 2.0
KILLED = 9


def model_of(number: float) -> ir.Model:
    weights = [numpy_helper.from_array(np.full(600, number, np.float32), f"w{index}") for index in range(3)]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [600]) for name in ("x", "y")]
    node = helper.make_node("Sum", ["x", *(weight.name for weight in weights)], ["y"])
    return from_proto(helper.make_model(helper.make_graph([node], "g", [info[0]], [info[1]], weights), ir_version=10))


def number_of(path: Path) -> float:
    """The one number that all weights hold; fails if they are of two models."""
    model = read_model(path)
    numbers = {
        float(number)
        for value in model.graph.initializers.values()
        if value.const_value
        for number in value.const_value.numpy()
    }
    assert len(numbers) == 1
    return numbers.pop()


class Rewrite:
    """A model that is written over an older one, whose weights are inside or beside it."""

    def __init__(self, was_external: bool, external: bool, from_itself: bool = False) -> None:
        self.was_external, self.external, self.from_itself = was_external, external, from_itself

    def prepare(self, folder: Path) -> Callable[[], None]:
        path = folder / "m.onnx"
        for file in folder.iterdir():
            file.unlink()
        write_model(model_of(OLD), path, external=self.was_external)
        new = read_model(path) if self.from_itself else model_of(NEW)
        for value in new.graph.initializers.values():
            if value.const_value is not None:
                value.const_value = ir.Tensor(value.const_value.numpy() * 0 + np.float32(NEW), name=value.name)
        return lambda: write_model(new, path, external=self.external)

    def outcome(self, folder: Path) -> float:
        return number_of(folder / "m.onnx")


class Text:
    """A text that is written over an older one."""

    def prepare(self, folder: Path) -> Callable[[], None]:
        (folder / "t.txt").write_text(str(OLD))
        return lambda: write_text(folder / "t.txt", str(NEW))

    def outcome(self, folder: Path) -> float:
        return float((folder / "t.txt").read_text())


SCENARIOS = {
    "inside over inside": Rewrite(False, False),
    "beside over beside": Rewrite(True, True),
    "beside over the files it is mapped from": Rewrite(True, True, from_itself=True),
    "beside over inside": Rewrite(False, True),
    "inside over beside": Rewrite(True, False),
    "text": Text(),
}


@contextmanager
def at_call(number: int, happens: Callable[[], None]) -> Generator[list[str]]:
    """Lets something happen before the call of that number, counted from 0; gives the names of the calls."""
    seen: list[str] = []
    thread = threading.get_ident()
    real = {name: getattr(os, name) for name in CALLS}

    def watched(name: str) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            if threading.get_ident() != thread:
                return real[name](*args, **keywords)
            seen.append(name)
            if len(seen) - 1 == number:
                if name == "close":
                    real[name](*args, **keywords)
                happens()
            return real[name](*args, **keywords)

        return call

    for name in CALLS:
        setattr(os, name, watched(name))
    try:
        yield seen
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def calls_of(scenario: Rewrite | Text, folder: Path) -> int:
    write = scenario.prepare(folder)
    with at_call(-1, lambda: None) as seen:
        write()
    assert scenario.outcome(folder) == NEW
    assert {"open", "write", "fsync", "replace"} <= set(seen)
    return len(seen)


@pytest.mark.parametrize("name", SCENARIOS)
def test_any_call_may_fail(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    for number in range(calls_of(scenario, tmp_path)):
        for code in ERRORS:
            write = scenario.prepare(tmp_path)

            def fail(code: int = code) -> None:
                raise OSError(code, os.strerror(code))

            with at_call(number, fail) as seen:
                refusal = code_of(write)
            outcome = scenario.outcome(tmp_path)
            assert refusal in ("", "M033" if code == errno.ENOSPC else "M034")
            assert outcome in (OLD, NEW), seen
            assert refusal or outcome == NEW, seen
            assert "replace" in seen[:number] or outcome == OLD, seen
            assert not list(tmp_path.glob(".tamago-*")), "nothing unfinished is left behind"
            write()
            assert scenario.outcome(tmp_path) == NEW


def code_of(write: Callable[[], None]) -> str:
    try:
        write()
    except TamagoError as error:
        return error.code
    return ""


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_process_may_die_at_any_call(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    for number in range(calls_of(scenario, tmp_path)):
        write = scenario.prepare(tmp_path)

        assert in_child(lambda write=write, number=number: die_at(number, write)) == KILLED

        assert scenario.outcome(tmp_path) in (OLD, NEW)
        write()
        assert scenario.outcome(tmp_path) == NEW


def die_at(number: int, write: Callable[[], None]) -> None:
    with at_call(number, lambda: os._exit(KILLED)):
        write()


def in_child(action: Callable[[], None]) -> int:
    """Runs an action in a process of its own and gives its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads: the child only writes files
        child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        except TamagoError:
            code = 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_file_system_that_writes_a_little_at_a_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SCENARIOS[name].prepare(tmp_path)
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: max(1, len(data) // 2)]))

    write()

    assert SCENARIOS[name].outcome(tmp_path) == NEW


def test_a_quota_that_is_exceeded_leaves_the_old_file(tmp_path: Path) -> None:
    write = SCENARIOS["beside over beside"].prepare(tmp_path)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        write()

    assert in_child(limited) == 2
    assert number_of(tmp_path / "m.onnx") == OLD
    assert not list(tmp_path.glob(".tamago-*"))


def test_an_interrupt_leaves_the_old_file(tmp_path: Path) -> None:
    write = SCENARIOS["beside over beside"].prepare(tmp_path)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), at_call(3, interrupt):
        write()

    assert number_of(tmp_path / "m.onnx") == OLD
    assert not list(tmp_path.glob(".tamago-*"))

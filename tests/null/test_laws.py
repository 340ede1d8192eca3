"""Laws of the tree: what may import what, which packages are shipped, how long an import may take."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("compiler", "rewrites", "backends")
BACKENDS = sorted(p.name for p in (ROOT / "backends").iterdir() if (p / "__init__.py").exists())


def modules() -> list[Path]:
    return [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Absolute names (below tamago) of what a module imports from the package, wherever the statement stands."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            found.add(".".join([*base, *(node.module or "").split(".")]).strip("."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tamago"):
            found.add((node.module or "").removeprefix("tamago."))
    return found


def test_rewrites_never_import_backends() -> None:
    """A rule is true on every target; what only one runtime has belongs to that backend's alternatives."""
    wrong = [
        p
        for p in modules()
        if p.is_relative_to(ROOT / "rewrites") and any(m.startswith("backends") for m in imported(p))
    ]

    assert wrong == []


def test_backends_never_import_one_another() -> None:
    """A backend can be deleted without the others noticing."""
    wrong = [
        (path, other)
        for name in BACKENDS
        for path in sorted((ROOT / "backends" / name).rglob("*.py"))
        for other in BACKENDS
        if other != name and any(m.startswith(f"backends.{other}") for m in imported(path))
    ]

    assert wrong == []


ALLOWED_TO_TIE = {
    "compiler/pipeline.py",
    "compiler/commands/bench.py",
    "compiler/commands/doctor.py",
    "compiler/commands/web.py",
}


def test_only_the_pipeline_ties_backends_and_rewrites_to_the_compiler() -> None:
    wrong = {
        str(p.relative_to(ROOT))
        for p in modules()
        if p.is_relative_to(ROOT / "compiler") and any(m.startswith(("backends", "rewrites")) for m in imported(p))
    }

    assert wrong - ALLOWED_TO_TIE == set()


def test_the_package_list_names_every_folder() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {p.parent for p in modules()} | {ROOT}
    found = {".".join(["tamago", *p.relative_to(ROOT).parts]) for p in folders}

    assert listed == found


@pytest.mark.parametrize("word", ["pickle", "marshal", "shelve"])
def test_nothing_unpickles(word: str) -> None:
    """A cache or a model file must never be able to run code."""
    wrong = [
        path
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(a.name.split(".")[0] == word for a in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == word)
    ]

    assert wrong == []


def test_nothing_evaluates_text() -> None:
    wrong = [
        path
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")
    ]

    assert wrong == []


def seconds(*words: str) -> float:
    """The fastest of five runs: start-up is judged, not the machine's other work."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV_")}
    samples: list[float] = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd="/", env=environment)
        samples.append(time.perf_counter() - start)
    return min(samples)


def test_import_takes_less_than_150_milliseconds() -> None:
    nothing = seconds("-c", "pass")

    assert seconds("-c", "import tamago") - nothing < 0.150


def test_help_takes_less_than_300_milliseconds() -> None:
    assert seconds("-m", "tamago.compiler.cli", "--help") < 0.300

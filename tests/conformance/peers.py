"""How many cases of the ONNX backend suite break, for tamago and its peers side by side.

    python -m tests.conformance.peers [--json] [--only NAME]

Broken: ONNX Runtime passes the case with the file as it is and does not with what the optimiser made of it. Each
optimiser works in a child process; a case that crashes it or takes longer than a minute is broken, and the child starts
anew behind it. Peers come with the extra `peers`.
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0  # for one case; the first one also pays for imports and for generating the suite
START_SECONDS = 240.0


def _tamago(model: onnx.ModelProto) -> onnx.ModelProto:
    return import_module("tests.conformance.suite").optimised(model)


def _onnxslim(model: onnx.ModelProto) -> onnx.ModelProto:
    return import_module("onnxslim").slim(model)


def _onnxsim(model: onnx.ModelProto) -> onnx.ModelProto:
    return import_module("onnxsim").simplify(model)[0]


def _onnxscript(model: onnx.ModelProto) -> onnx.ModelProto:
    return import_module("onnxscript.optimizer").optimize(model)


OPTIMISERS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "tamago": _tamago,
    "onnxslim": _onnxslim,
    "onnxsim": _onnxsim,
    "onnxscript": _onnxscript,
}


@dataclass
class Tally:
    """One optimiser's results."""

    name: str
    version: str
    passed: int = 0
    broken: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def kinds(self) -> Counter[str]:
        """Broken cases by what happened."""
        return Counter(reason.partition(":")[0] for reason in self.broken.values())


def work(name: str, start: int) -> Iterator[tuple[int, str, str | None]]:
    """In the child: position, case and reason for every case of the baseline from `start` on."""
    from tests.conformance import suite

    optimise = OPTIMISERS[name]
    for position, case in enumerate(suite.cases()):
        if position < start or suite.verdict(case.load()[0], case) is not None:
            continue
        yield position, case.name, None  # announced, so that the parent knows whose crash it is
        yield position, case.name, _judge(optimise, case) or "passed"


def _judge(optimise: Callable[[onnx.ModelProto], onnx.ModelProto], case: Any) -> str | None:
    from tests.conformance import suite

    model = onnx.ModelProto()
    model.CopyFrom(case.load()[0])
    try:
        result = optimise(model)
    except Exception as error:
        return f"exception: {type(error).__name__} {error}"[:300]
    try:
        suite.open_session(result)
    except Exception as error:
        return f"invalid graph: {error}"[:300]
    reason = suite.verdict(result, case)
    return None if reason is None else f"wrong result: {reason}"


def tally(name: str) -> Tally | None:
    """Run one optimiser over the suite in child processes; None if it is not installed."""
    try:
        found = Tally(name, version(name))
    except PackageNotFoundError:
        return None
    start = 0
    while start is not None:
        start = _run_child(name, start, found)
    return found


def _run_child(name: str, start: int, found: Tally) -> int | None:
    """One child's life; the position to go on from if it died, None if it came to the end."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.conformance.peers", "--worker", name, "--start", str(start)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(child, lines), daemon=True).start()
    announced: tuple[int, str] | None = None
    while True:
        try:
            line = lines.get(timeout=SECONDS if announced else START_SECONDS)
        except queue.Empty:
            child.kill()
            line, died = None, "time-out"
        else:
            died = "crash"
        if line is None:
            child.wait()
            if announced is None:
                return None
            found.broken[announced[1]] = died
            return announced[0] + 1
        position, case, reason = json.loads(line)
        announced = (position, case) if reason is None else None
        if reason == "passed":
            found.passed += 1
        elif reason is not None:
            found.broken[case] = reason


def _read(child: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    for line in child.stdout or ():
        if line.startswith("["):  # whatever else a peer prints
            lines.put(line)
    lines.put(None)


def _print_table(tallies: dict[str, Tally | None]) -> None:
    print(f"{'optimiser':24} {'passed':>7} {'broken':>7}  of which")
    for name, found in tallies.items():
        if found is None:
            print(f"{name:24} not installed (pip install tamago[peers])")
            continue
        kinds = ", ".join(f"{count} {kind}" for kind, count in found.kinds.most_common())
        print(f"{name + ' ' + found.version:24} {found.passed:7} {len(found.broken):7}  {kinds}")


def main() -> int:
    """The command; exit code 1 if tamago breaks a case."""
    parser = argparse.ArgumentParser(description="cases of the ONNX backend suite that break after optimising")
    parser.add_argument("--json", action="store_true", help="print every broken case with its reason")
    parser.add_argument("--only", choices=OPTIMISERS, help="one optimiser")
    parser.add_argument("--worker", choices=OPTIMISERS, help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        for entry in work(options.worker, options.start):
            print(json.dumps(entry), flush=True)
        return 0
    names = [options.only] if options.only else list(OPTIMISERS)
    tallies = {name: tally(name) for name in names}
    if options.json:
        print(json.dumps({n: None if t is None else vars(t) for n, t in tallies.items()}, indent=1))
    else:
        _print_table(tallies)
    ours = tallies.get("tamago")
    return 1 if ours is not None and ours.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Models side by side: ONNX Runtime, tamago and its peers, taking turns in one process, a process for each model.

    python -m tests.benchmarks.compare zoo --scale real            # the zoo at real width, as torch exports it
    python -m tests.benchmarks.compare files a.onnx b.onnx --json out.json

Every row says median ± half the interquartile range of plain ONNX Runtime and, for each other, how many times faster it
is: the median of the rounds' paired ratios with its 95 % interval; wall time and the process' CPU time. A peer whose
outputs differ from ONNX Runtime's by more than 1 % (5 % for bf16) is marked `wrong`.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from tamago.backends.onnxruntime.run import Program, processor
from tamago.compiler.errors import TamagoError
from tamago.compiler.files import read_model, to_proto
from tamago.compiler.timing import interleave, paired_ratio
from tamago.compiler.verify import NOISE, relative_error, trials
from tests.benchmarks.peers import PEERS, Feeds, Run, Subject, Unavailable, session

TRIED = 5  # made-up inputs that run, of which one is used
PACKAGES = ("tamago", "torch", "onnxruntime", "onnx", "onnxscript", "onnxslim", "onnxsim", "openvino", "transformers")


def main() -> None:
    """Parse, run, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["zoo", "files"])
    parser.add_argument("names", nargs="*", help="models of the zoo, or files (default: the whole zoo)")
    parser.add_argument("--scale", default="real", choices=["real", "small"])
    parser.add_argument("--opset", type=int, default=18)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--peers", default="", help="only these, comma separated")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true", help="end with the table as the README has it")
    options = parser.parse_args()
    wanted = [p for p in options.peers.split(",") if p] or [p.name for p in PEERS]
    names = options.names or _zoo_names()
    print(header(options.threads))
    rows: list[dict[str, Any]] = []
    for name in names:
        rows.append(_row(name, options, wanted) if len(names) == 1 else _row_of_child(name, options))
        print(line(rows[-1]), flush=True)
        if options.json is not None:  # after each row: a long run that is stopped keeps what it measured
            options.json.write_text(json.dumps({"header": header(options.threads), "rows": rows}, indent=1) + "\n")
    if len(names) > 1:
        print(summary(rows, wanted))
    if options.markdown:
        print(markdown(rows, wanted))


def _zoo_names() -> list[str]:
    from tests.zoo.models import zoo

    return list(zoo())


def _row(name: str, options: argparse.Namespace, wanted: Sequence[str]) -> dict[str, Any]:
    try:
        return compare(name, _subject(name, options), wanted, options.rounds)
    except Exception as error:  # one model's failure is a row, not the end of the run
        return {"model": name, "error": f"{type(error).__name__}: {str(error)[:200]}"}


def _row_of_child(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The row from a process of its own: peers keep gigabytes of a model that they are done with."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "row.json"
        command = [sys.executable, "-m", "tests.benchmarks.compare", options.what, name, "--json", str(found)]
        for flag in ("scale", "opset", "threads", "rounds", "peers"):
            command += [f"--{flag}", str(getattr(options, flag))]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.exists():
            return json.loads(found.read_text())["rows"][0]
        return {"model": name, "error": f"the process ended with {ended.returncode}: {ended.stderr[-200:]}"}


def header(threads: int) -> str:
    """Machine and versions."""
    found = [f"{name} {_version(name)}" for name in PACKAGES]
    return f"{processor()}, {platform.system()}, {threads} thread(s); " + ", ".join(found)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "–"


def _subject(name: str, options: argparse.Namespace) -> Subject:
    """A file with inputs that run, or a model of the zoo with its own.

    Raises:
        ValueError: ONNX Runtime runs the file on no made-up inputs.
    """
    if options.what == "files":
        model = read_model(name)
        feeds = _feeds(name, model, options.threads)
        if feeds is None:
            raise ValueError("ONNX Runtime runs on no made-up inputs")
        return Subject(to_proto(model), feeds, options.threads)
    from tamago.compiler.trace import trace
    from tests.zoo.models import zoo

    module, args, kwargs = zoo()[name](options.scale)
    traced = trace(module, args, kwargs, opset=options.opset)
    assert traced.signature is not None
    feeds = traced.signature.flatten(args, kwargs)
    return Subject(to_proto(traced.model), feeds, options.threads, lambda: module(*args, **kwargs))


def _feeds(path: str, model: ir.Model, threads: int) -> Feeds | None:
    """The arrays of an .npz file beside the model, or made-up ones that run."""
    beside = Path(path).with_suffix(".npz")
    if beside.exists():
        with np.load(beside, allow_pickle=False) as arrays:
            return dict(arrays)
    program = Program(model, threads)
    found: list[Feeds] = []
    for feeds in trials(model.graph):
        try:
            program(feeds)
        except TamagoError:
            continue
        found.append(feeds)
        if len(found) == TRIED:
            break
    return max(found, key=_latency_like, default=None)


def _latency_like(feeds: Feeds) -> tuple[int, int]:
    """One example at a time first, then the longest."""
    return -max(a.shape[0] if a.ndim else 1 for a in feeds.values()), sum(a.size for a in feeds.values())


def compare(name: str, subject: Subject, wanted: Sequence[str], rounds: int) -> dict[str, Any]:
    """One row: each peer prepared, checked and timed."""
    runs: dict[str, Run] = {}
    failures: dict[str, str] = {}
    seconds: dict[str, float] = {}
    plain = session(subject.model, subject.feeds, subject.threads, optimise=False)()
    noise = [0.0] * len(plain)
    for peer in PEERS:
        if peer.name not in wanted and peer.name != "onnxruntime":
            continue
        start = time.perf_counter()
        try:
            runs[peer.name] = peer.prepare(subject)
            if peer.name == "onnxruntime":
                noise = [relative_error(a, b) for a, b in zip(runs[peer.name](), plain, strict=True)]
            problem = _difference(peer.name, runs["onnxruntime"](), runs[peer.name](), noise)
        except Unavailable as reason:
            problem = str(reason)
        except Exception as error:  # a peer may fail in any way of its own
            if peer.name == "onnxruntime":
                raise
            problem = f"{type(error).__name__}: {str(error)[:120]}"
        seconds[peer.name] = time.perf_counter() - start
        if problem is not None:
            failures[peer.name] = problem
            runs.pop(peer.name, None)
    names = list(runs)
    timings = dict(zip(names, interleave([runs[n] for n in names], rounds=rounds, seconds=60.0), strict=True))
    base = timings["onnxruntime"]
    ratios = {n: paired_ratio(base, t) for n, t in timings.items()}
    cpu = {n: _cpu(runs[n]) for n in names}
    return {
        "model": Path(name).stem,
        "nodes": len(subject.model.graph.node),
        "onnxruntime_ms": base.median,
        "spread_ms": base.spread,
        "ratios": ratios,
        "cpu_ratios": {n: cpu["onnxruntime"] / c for n, c in cpu.items()},
        "prepare_seconds": seconds,
        "failures": failures,
    }


def _difference(name: str, wanted: Sequence[Any], found: Sequence[Any], noise: Sequence[float]) -> str | None:
    """What is wrong with the outputs; the noise between ONNX Runtime with and without its optimiser is not."""
    allowed = 5e-2 if "bf16" in name else 1e-2
    for a, b, own in zip(wanted, found, noise, strict=True):
        if isinstance(a, np.ndarray) and a.dtype.kind == "f":
            error = relative_error(a, np.asarray(b).reshape(a.shape))
            if error > max(allowed, NOISE * own):
                return f"wrong: relative error {error:.1e}"
    return None


def _cpu(run: Run) -> float:
    """Process CPU seconds of a call, the least of five tries."""
    samples: list[float] = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(3):
            run()
        samples.append(time.process_time() - start)
    return max(min(samples), 1e-9)


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    if "error" in row:
        return f"{row['model']:24} {row['error']}"
    cells = [f"{n} {m:.2f} ({lo:.2f}-{hi:.2f})" for n, (m, lo, hi) in row["ratios"].items() if n != "onnxruntime"]
    cells += [f"{n}: {why}" for n, why in row["failures"].items() if "not installed" not in why]
    return f"{row['model']:24} {row['onnxruntime_ms']:8.3f} ± {row['spread_ms']:.3f} ms  " + "  ".join(cells)


def markdown(rows: Sequence[dict[str, Any]], wanted: Sequence[str]) -> str:
    """The rows as a Markdown table: ratios, ours with its interval."""
    names = [n for n in wanted if n != "onnxruntime"]
    lines = ["| model | onnxruntime, ms | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        if "error" in row:
            continue
        cells: list[str] = []
        for name in names:
            found = row["ratios"].get(name)
            interval = f" ({found[1]:.2f}-{found[2]:.2f})" if found and name == "tamago" else ""
            cells.append("–" if found is None else f"{found[0]:.2f}x{interval}")
        lines.append(f"| {row['model']} | {row['onnxruntime_ms']:.3g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(rows: Sequence[dict[str, Any]], wanted: Sequence[str]) -> str:
    """Geometric means, and where tamago loses."""
    lines: list[str] = []
    for name in wanted:
        ratios = [row["ratios"][name][0] for row in rows if name in row.get("ratios", {})]
        if ratios and name != "onnxruntime":
            lines.append(f"{name}: geometric mean {np.exp(np.mean(np.log(ratios))):.3f} over {len(ratios)} models")
    losses = [row["model"] for row in rows if row.get("ratios", {}).get("tamago", (1, 1, 1))[2] < 0.98]
    return "\n".join([*lines, f"slower than ONNX Runtime (upper bound below 0.98): {', '.join(losses) or 'none'}"])


if __name__ == "__main__":
    main()

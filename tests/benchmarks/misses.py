"""How close compiled programs come to the hand-fused forms of `tests/cpu/misses`: `python -m tests.benchmarks.misses`.

Export, hand form and compiled program take turns in one process on one thread. Times are CPU time of the process, so
that other work on the machine counts as little as possible; ratios are medians of the rounds' ratios. The goal is 1.05.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnxruntime as ort

from tamago.backends.onnxruntime.run import Program, processor
from tamago.compiler.pipeline import compile_traced
from tamago.compiler.store import Store
from tests.cpu.misses import MISSES
from tests.cpu.misses.case import Miss, histogram

GOAL = 1.05
SLOT = 10.0  # milliseconds of calls in one turn
LOADS = 5  # times that all are loaded anew: where a session's buffers lie makes one program 7 % slower than its equal


@dataclass(frozen=True)
class Result:
    """One miss: CPU milliseconds of the hand form, and how many times as long the others take (ours with quartiles)."""

    name: str
    hand: float
    exported: float
    compiled: float
    low: float
    high: float
    verdict: str
    operators: dict[str, int]


def measure(miss: Miss, rounds: int, store: Store) -> Result:
    """Compile and time one miss."""
    traced, by_hand = miss.traced(), miss.by_hand()
    feeds, hand_feeds = miss.feeds(traced.model), miss.feeds(by_hand)
    compiled = compile_traced(traced, feeds, threads=1, store=store)
    samples: list[list[float]] = [[], [], []]
    for _ in range(LOADS):
        programs = [Program(by_hand, 1), Program(traced.model, 1), Program(compiled.model, 1)]
        runs = [lambda p=p, f=f: p(f) for p, f in zip(programs, (hand_feeds, feeds, feeds), strict=True)]
        for every, new in zip(samples, take_turns(runs, -(-rounds // LOADS)), strict=True):
            every += new
    hand, exported, ours = (np.asarray(s) for s in samples)
    low, high = np.percentile(ours / hand, [25, 75])
    return Result(
        miss.name,
        float(np.median(hand)),
        float(np.median(exported / hand)),
        float(np.median(ours / hand)),
        float(low),
        float(high),
        compiled.report.verdict,
        dict(histogram(compiled.model)),
    )


def take_turns(runs: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """CPU milliseconds of a call, for each program and round; who begins changes from round to round."""
    calls = [_calls(run) for run in runs]
    samples: list[list[float]] = [[] for _ in runs]
    for number in range(rounds):
        for place in range(len(runs)):
            i = (place + number) % len(runs)
            samples[i].append(_milliseconds(runs[i], calls[i]))
    return samples


def _calls(run: Callable[[], object]) -> int:
    run()
    once = min(_milliseconds(run, 1) for _ in range(3))
    return max(1, min(3000, int(SLOT / max(once, 1e-4))))


def _milliseconds(run: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - start) / calls * 1e3


def line(result: Result) -> str:
    """A row of the table."""
    mark = "" if result.compiled <= GOAL else "  above the goal"
    spread = f"{result.low:.2f}-{result.high:.2f}"
    times = f"{result.hand:8.3f} ms {result.exported:7.2f}x {result.compiled:7.2f}x {spread:>10}"
    return f"{result.name:30} {times}  {result.verdict}{mark}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Time all misses, or those named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="misses to time (default: all)")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--json", action="store_true", help="results as JSON instead of a table")
    options = parser.parse_args(arguments)
    chosen = [m for m in MISSES if not options.names or m.name in options.names]
    results: list[Result] = []
    with Store.open(":memory:") as store:
        if not options.json:
            print(f"ONNX Runtime {ort.__version__}, {processor()}, one thread, CPU time, {options.rounds} rounds")
            print(f"{'miss':30} {'hand':>11} {'export':>8} {'tamago':>8} {'quartiles':>10}")
        for miss in chosen:
            results.append(measure(miss, options.rounds, store))
            if not options.json:
                print(line(results[-1]), flush=True)
    if options.json:
        print(json.dumps([asdict(r) for r in results], indent=2))
    return 0 if all(r.compiled <= GOAL for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())

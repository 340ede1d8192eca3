"""Tuning asks another process, believes what it says line by line, and goes on when it hangs or dies."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tamago.backends.triton import children as processes
from tamago.backends.triton.children import Children
from tamago.backends.triton.jobs import AttentionStepJob, GemvJob, job_of
from tamago.backends.triton.tune import Tuner
from tamago.compiler.store import Store

JOB = GemvJob(8, 16, "float32", gated=False, normed=True, residual=False, activation="")
OTHER = AttentionStepJob(2, 2, 16, 64, "float16")
# Speaks what tune_child does; at a candidate that starts with 1, 2, 4, 8 it does what it is told to.
CHILD = """
import json, os, subprocess, sys, time
todo, log = json.loads(sys.argv[1]), open(sys.argv[2], "a")
def say(**words):
    print(json.dumps(words), flush=True)
print("a library has something to say", flush=True)
if todo.get("start") == "dies":
    os._exit(3)
if todo.get("start") == "has others":
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, file=log, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps([os.getpid(), asked]), file=log, flush=True)
    for candidate in ([1, 64, 4], [2, 64, 4], [4, 64, 4], [8, 64, 4]):
        if candidate in asked["skip"]:
            continue
        say(what="start", candidate=candidate)
        match todo.get(str(candidate[0])):
            case "dies":
                print('{"what": "tim', end="", flush=True)
                os._exit(1)
            case "hangs":
                time.sleep(60)
            case "fails":
                say(what="failed", candidate=candidate, reason="its output is off by 2")
            case other:
                say(what="timing", candidate=candidate, milliseconds=other or 1.0, spread=0.1, error=0.0)
    say(what="end")
"""
Stand = Callable[..., Path]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Puts another program in the place of the measuring process; gives the file of what it was asked."""
    real = subprocess.Popen

    def put(**todo: Any) -> Path:
        script, log = tmp_path / "child.py", tmp_path / "log"
        script.write_text(CHILD)
        log.write_text("")

        def popen(words: list[str], **options: Any) -> subprocess.Popen[str]:
            assert words[1:] == ["-m", "tamago.backends.triton.tune_child"]
            return real([sys.executable, "-S", str(script), json.dumps(todo), str(log)], **options)

        monkeypatch.setattr(subprocess, "Popen", popen)
        return log

    return put


def questions(log: Path) -> list[tuple[int, dict[str, Any]]]:
    """Which process was asked what."""
    return [(pid, asked) for pid, asked in map(json.loads, log.read_text().splitlines())]


def measured(records: list[processes.Record]) -> list[int]:
    return [record["candidate"][0] for record in records]


def test_jobs_survive_being_sent() -> None:
    for job in (JOB, OTHER):
        assert job_of(json.loads(json.dumps(vars(job)))) == job


def test_results_are_read_as_they_come(stand_in: Stand) -> None:
    log, children = stand_in(**{"2": 0.5, "4": "fails"}), Children()

    timings, failed = children.measure(JOB)

    assert measured(timings) == [1, 2, 8]
    assert timings[1] == {"candidate": [2, 64, 4], "milliseconds": 0.5, "spread": 0.1, "error": 0.0}
    assert failed == [{"candidate": [4, 64, 4], "reason": "its output is off by 2"}]
    assert [asked for _, asked in questions(log)] == [{"job": vars(JOB), "skip": []}]
    children.close()


def test_one_process_is_asked_again_and_again_until_it_is_closed(stand_in: Stand) -> None:
    log, children = stand_in(), Children()

    for job in (JOB, OTHER):
        children.measure(job)
    children.close()
    children.close()  # which has nothing left to do
    children.measure(JOB)
    children.close()

    pids = [pid for pid, _ in questions(log)]
    assert pids[0] == pids[1] != pids[2]


def test_where_a_process_dies_another_measures_the_rest(stand_in: Stand) -> None:
    log, children = stand_in(**{"2": "dies"}), Children()

    timings, failed = children.measure(JOB)

    assert measured(timings) == [1, 4, 8]
    assert failed == [{"candidate": [2, 64, 4], "reason": "it hung or crashed"}]
    (first, asked), (second, again) = questions(log)
    assert first != second
    assert (asked["skip"], again["skip"]) == ([], [[1, 64, 4], [2, 64, 4]])
    children.close()


def test_a_process_that_hangs_is_ended(stand_in: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.6)
    log, children, start = stand_in(**{"1": "hangs", "8": "hangs"}), Children(), time.perf_counter()

    timings, failed = children.measure(JOB)

    assert time.perf_counter() - start < 15
    assert measured(timings) == [2, 4]
    assert measured(failed) == [1, 8]
    children.close()
    assert not any(is_running(pid) for pid, _ in questions(log))


def test_one_that_never_comes_to_measuring_is_not_asked_again(stand_in: Stand) -> None:
    stand_in(start="dies")
    start = time.perf_counter()

    timings, failed = Children().measure(JOB)

    assert time.perf_counter() - start < 10
    assert timings == []
    assert [(record["candidate"], "before it measured" in record["reason"]) for record in failed] == [(None, True)]


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_crash_is_noticed_at_once_and_leaves_no_process_behind(stand_in: Stand) -> None:
    """Those that compile hold the output of the one that died open, and memory of the device."""
    log, children = stand_in(start="has others", **{"1": "dies", "2": "dies", "4": "dies", "8": "dies"}), Children()
    start = time.perf_counter()

    timings, failed = children.measure(JOB)

    assert time.perf_counter() - start < 15
    assert (timings, measured(failed)) == ([], [1, 2, 4, 8])
    others = [line for line in log.read_text().splitlines() if not line.startswith("[")]
    assert len(others) == 5, "the last one had nothing left to die of"
    children.close()
    time.sleep(0.2)
    assert not any(is_running(int(pid)) for pid in others)


def test_the_fastest_is_kept_and_found_again_without_measuring(stand_in: Stand, tmp_path: Path) -> None:
    log = stand_in(**{"2": 0.5, "4": 0.25, "8": "dies"})
    with Store.open(tmp_path / "store.db") as store:
        tuner = Tuner(store, "a device")
        assert tuner.candidate(JOB) == [4, 64, 4]
        assert tuner.candidate(JOB) == [4, 64, 4]
        asked = len(questions(log))

    with Store.open(tmp_path / "store.db") as again:
        frugal = Tuner(again, "a device", measure=False)
        record = again.verdict(frugal.key(JOB))
        assert frugal.candidate(JOB) == [4, 64, 4]
        assert frugal.candidate(OTHER) is None
        assert Tuner(again, "another device", measure=False).candidate(JOB) is None

    assert len(questions(log)) == asked == 2
    assert record is not None
    assert (record["environment"], record["job"]) == ("a device", vars(JOB))
    assert [failure["candidate"] for failure in record["failed"]] == [[8, 64, 4]]


@pytest.mark.parametrize("field", ["n", "k", "dtype", "gated", "normed", "residual", "activation"])
def test_a_record_is_for_one_job_and_one_environment(field: str) -> None:
    with Store.open(":memory:") as store:
        tuner = Tuner(store, "a device")
        other = job_of({**vars(JOB), field: "another"})

        assert tuner.key(other) != tuner.key(JOB) == Tuner(store, "a device").key(JOB)
        assert Tuner(store, "another").key(JOB) != tuner.key(JOB)


def test_what_could_not_be_measured_is_tried_again_next_time(stand_in: Stand) -> None:
    with Store.open(":memory:") as store:
        stand_in(start="dies")
        assert Tuner(store, "a device").candidate(JOB) is None

        stand_in(**{"8": 0.5})
        assert Tuner(store, "a device").candidate(JOB) == [8, 64, 4]

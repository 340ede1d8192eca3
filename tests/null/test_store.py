"""The store: what it acknowledges it keeps, what it cannot believe it ignores, and it never stops a compilation."""

import json
import logging
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tamago.compiler import store_file
from tamago.compiler.errors import TamagoError
from tamago.compiler.store import ENVIRONMENT, Price, Store
from tamago.compiler.store_file import SCHEMA, default_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test may touch the cache of whoever runs it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    return tmp_path / "cache"


def tampered(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


# --- what is kept


def test_prices_and_verdicts_outlive_the_store(path: Path) -> None:
    with Store.open(path) as store:
        store.put_price("key ü", 1.5, 0.25, 30, {"operator": "MatMul"})
        store.put_verdict("block", {"winner": 2, "times": [1.0, 2.0], "name": "ä"})

    with Store.open(path) as store:
        price = store.price("key ü")
        assert price is not None
        assert (price.milliseconds, price.spread, price.samples, price.meta) == (1.5, 0.25, 30, {"operator": "MatMul"})
        assert abs(price.created - time.time()) < 60
        assert store.verdict("block") == {"winner": 2, "times": [1.0, 2.0], "name": "ä"}
        assert not store.failure


def test_a_later_row_replaces_an_earlier_one(path: Path) -> None:
    with Store.open(path) as store:
        for milliseconds in (2.0, 0.0, 1.0):
            store.put_price("key", milliseconds)
            store.put_verdict("key", {"n": milliseconds})
        price = store.price("key")

        assert price is not None
        assert price.milliseconds == 1.0
        assert store.verdict("key") == {"n": 1.0}
        assert store.stats()["prices"] == store.stats()["verdicts"] == 1


def test_what_is_not_there_is_a_miss(path: Path) -> None:
    with Store.open(path) as store:
        assert store.price("a") is None
        assert store.verdict("b") is None
        assert store.misses == {"a", "b"}


@pytest.mark.parametrize(
    "price", [(float("nan"),), (float("inf"),), (-1.0,), (1.0, float("nan")), (1.0, -1.0), (1.0, 0.0, 0), (1e300,)]
)
def test_what_is_no_price_is_not_taken(price: tuple[Any, ...]) -> None:
    with Store.open(":memory:") as store:
        with pytest.raises(ValueError, match="no price"):
            store.put_price("key", *price)
        assert store.price("key") is None


def test_a_closed_store_opens_again(path: Path) -> None:
    store = Store.open(path)
    store.put_price("key", 1.0)
    store.close()
    store.close()

    assert store.price("key") is not None
    store.close()


def test_threads_share_a_store(path: Path) -> None:
    def write(thread: int) -> None:
        for index in range(50):
            store.put_price(f"{thread} {index}", 1.0)

    with Store.open(path) as store:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.stats()["prices"] == 200


def test_a_forked_process_uses_a_connection_of_its_own(path: Path) -> None:
    with Store.open(path) as store:
        store.put_price("parent", 1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
            child = os.fork()
        if child == 0:
            known = store.price("parent") is not None
            store.put_price("child", 2.0)
            os._exit(0 if known else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.price("child") is not None
        store.put_price("after", 3.0)
        assert not store.failure


# --- where it is


def test_the_default_place_is_private(own_cache: Path) -> None:
    with Store.open() as store:
        store.put_price("key", 1.0)

        assert store.path == default_path() == str(own_cache / "tamago" / "store.sqlite")
    assert stat.S_IMODE((own_cache / "tamago").stat().st_mode) == 0o700
    assert stat.S_IMODE((own_cache / "tamago" / "store.sqlite").stat().st_mode) == 0o600


def test_an_open_default_folder_is_closed_to_others(own_cache: Path) -> None:
    (own_cache / "tamago").mkdir(parents=True, mode=0o777)
    (own_cache / "tamago").chmod(0o777)

    Store.open().close()

    assert stat.S_IMODE((own_cache / "tamago").stat().st_mode) == 0o700


def test_a_default_folder_of_somebody_else_is_not_used(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_cache / "tamago").mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with Store.open() as store:
        store.put_price("key", 1.0)

        assert "another user" in store.failure
        assert store.price("key") is not None
    assert not list((own_cache / "tamago").iterdir())


def test_the_environment_names_a_store_and_an_argument_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "e" / "env.sqlite"))

    with Store.open() as store, Store.open(tmp_path / "argument.sqlite") as other:
        assert store.path == str(tmp_path / "e" / "env.sqlite")
        assert other.path == str(tmp_path / "argument.sqlite")
    assert (tmp_path / "e" / "env.sqlite").exists()


# --- frozen


def test_a_frozen_store_reads_what_was_there_and_writes_nothing(path: Path, tmp_path: Path) -> None:
    with Store.open(path) as store:
        store.put_price("old", 1.0)
        store.put_verdict("old", {"n": 1})
        with Store.open(path, frozen=True) as frozen:
            store.put_price("new", 2.0)
            frozen.put_price("mine", 3.0)
            frozen.put_verdict("mine", {})
            frozen.clear()

            assert frozen.price("old") is not None
            assert frozen.verdict("old") == {"n": 1}
            assert frozen.price("new") is None
            assert frozen.price("mine") is None
            assert frozen.verdict("mine") is None
            assert frozen.misses == {"new", "mine"}
            assert frozen.stats()["frozen"]
    before = path.read_bytes(), sorted(tmp_path.iterdir())
    with Store.open(path, frozen=True) as frozen:
        assert frozen.price("old") is not None
    assert (path.read_bytes(), sorted(tmp_path.iterdir())) == before


def test_a_frozen_store_without_a_file_is_empty_and_makes_none(tmp_path: Path) -> None:
    with Store.open(tmp_path / "none" / "store.sqlite", frozen=True) as frozen:
        assert frozen.price("key") is None
        assert not frozen.failure
    assert not (tmp_path / "none").exists()


# --- what cannot be believed


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("milliseconds", None),
        ("milliseconds", "fast"),
        ("milliseconds", -1.0),
        ("milliseconds", 9e999),
        ("milliseconds", b"\x00\x01"),
        ("spread", None),
        ("spread", -0.5),
        ("samples", 0),
        ("samples", 2.5),
        ("samples", "many"),
        ("meta", None),
        ("meta", "[1, 2]"),
        ("meta", "{"),
        ("meta", "[" * 100_000),
        ("meta", b"\xff\xfe"),
        ("created", "yesterday"),
    ],
)
def test_a_poisoned_price_is_a_miss(path: Path, column: str, value: object) -> None:
    with Store.open(path) as store:
        store.put_price("bad", 1.0)
        store.put_price("good", 2.0)
    tampered(path, f"UPDATE prices SET {column} = ? WHERE key = 'bad'", value)

    with Store.open(path) as store:
        assert store.price("bad") is None
        assert store.price("good") is not None
        assert not store.failure
        store.put_price("bad", 3.0)
        assert store.price("bad") is not None


@pytest.mark.parametrize("value", [None, 7, "", "7", "[]", "{", "{" * 100_000, b"\xff", b"{}\xff"])
def test_a_poisoned_verdict_is_a_miss(path: Path, value: object) -> None:
    with Store.open(path) as store:
        store.put_verdict("bad", {"n": 1})
    tampered(path, "UPDATE verdicts SET value = ?", value)

    with Store.open(path) as store:
        assert store.verdict("bad") is None
        assert not store.failure


# --- what may go wrong


def break_bytes(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def break_middle(path: Path) -> None:
    with Store.open(path) as store:
        for index in range(500):
            store.put_price(f"key {index}", 1.0, meta={"filling": "x" * 100})
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def break_table(path: Path) -> None:
    Store.open(path).close()
    tampered(path, "DROP TABLE prices")


def break_version(path: Path) -> None:
    Store.open(path).close()
    tampered(path, f"PRAGMA user_version = {SCHEMA + 1}")


def break_owner(path: Path) -> None:
    tampered(path, "CREATE TABLE others(key TEXT)")


def break_place(path: Path) -> None:
    path.mkdir()


def break_kind(path: Path) -> None:
    path.symlink_to("/dev/null")


BREAKS = (break_bytes, break_middle, break_table, break_version, break_owner, break_place, break_kind)


@pytest.mark.parametrize("damage", BREAKS)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_damaged_store_ends_in_memory_with_one_warning(
    path: Path, damage: Any, frozen: bool, caplog: pytest.LogCaptureFixture
) -> None:
    damage(path)
    before = path.read_bytes() if path.is_file() else b""
    with caplog.at_level(logging.WARNING), Store.open(path, frozen=frozen) as store:
        for index in range(5):
            store.put_price(f"new {index}", 1.0)
            assert (store.price(f"new {index}") is None) == frozen
        assert store.price("no such key") is None
        assert store.stats()["failure"] == store.failure != ""
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    if damage in (break_bytes, break_owner):
        assert path.read_bytes() == before, "what is not ours stays as it is"


def test_a_place_that_cannot_be_written_ends_in_memory(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Store.open("/proc/tamago/store.sqlite") as store:
        store.put_price("key", 1.0)
        assert store.price("key") is not None
    assert len(caplog.records) == 1


def test_a_store_that_cannot_be_written_is_still_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(path) as store:
        store.put_price("old", 1.0)
    real = store_file.sqlite3.connect

    def connect(database: str, **options: Any) -> sqlite3.Connection:
        if database == str(path):
            raise sqlite3.OperationalError("attempt to write a readonly database")
        return real(database, **options)

    monkeypatch.setattr(store_file.sqlite3, "connect", connect)
    with Store.open(path) as store:
        assert store.price("old") is not None
        store.put_price("new", 2.0)
        assert store.price("new") is not None
        assert "readonly" in store.failure


def test_a_lock_that_does_not_go_away_ends_in_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_file, "_BUSY_SECONDS", 0.1)
    with Store.open(path) as store:
        store.put_price("old", 1.0)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        store.put_price("new", 2.0)
        other.execute("ROLLBACK")
        other.close()

        assert "locked" in store.failure
        assert store.price("old") is not None
        assert store.price("new") is not None


def test_damage_while_it_is_open_ends_in_memory(path: Path) -> None:
    with Store.open(path) as store:
        store.put_price("key", 1.0)
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        path.write_bytes(b"garbage" * 5000)
        store.close()
        store.put_price("key", 2.0)
        price = store.price("key")

        assert price is not None
        assert price.milliseconds == 2.0
        assert store.failure


# --- clearing and sharing


def test_clearing_forgets_everything(path: Path) -> None:
    with Store.open(path) as store:
        store.put_price("key", 1.0)
        store.put_verdict("key", {})
        store.clear()

        assert store.price("key") is None
        assert store.verdict("key") is None
    with Store.open(path) as store:
        assert store.stats()["prices"] == store.stats()["verdicts"] == 0


def test_clearing_mends_a_damaged_store(path: Path) -> None:
    break_middle(path)
    with Store.open(path) as store:
        assert store.price("key 5") is None
        store.clear()
        store.put_price("key", 1.0)
        assert not store.failure
    with Store.open(path) as store:
        assert store.price("key") is not None


def test_clearing_never_deletes_what_tamago_did_not_make(path: Path) -> None:
    path.write_bytes(b"my thesis")
    with Store.open(path) as store, pytest.raises(TamagoError, match="S003"):
        store.clear()
    assert path.read_bytes() == b"my thesis"


def test_an_export_brings_all_rows_to_another_store(path: Path, tmp_path: Path) -> None:
    with Store.open(path) as store:
        store.put_price("a", 1.5, 0.5, 7, {"k": [1]})
        store.put_price("ü\n", 2.0)
        store.put_verdict("v", {"winner": 1})
        store.export(tmp_path / "out.json")
        price = store.price("a")
    with Store.open(":memory:") as other:
        other.put_price("a", 9.0)
        assert other.import_(tmp_path / "out.json") == 2
        assert other.import_(tmp_path / "out.json") == 0
        kept = other.price("a")
        assert kept is not None
        assert kept.milliseconds == 9.0, "what is there stays"
        assert other.price("ü\n") is not None
        assert other.verdict("v") == {"winner": 1}
    with Store.open(":memory:") as empty:
        assert empty.import_(tmp_path / "out.json") == 3
        assert empty.price("a") == price
        empty.export(tmp_path / "again.json")
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("out.json", "again.json"))
    assert first == second


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff", b"{", b"[]", b"7", b"{}", b"[" * 200_000),
        b'{"prices": {}, "verdicts": {}}',
        b'{"format": "tamago store", "prices": []}',
        b'{"format": "tamago store", "prices": {"k": 1}, "verdicts": {}}',
    ],
)
def test_what_is_no_export_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.json").write_bytes(content)

    with Store.open(":memory:") as store, pytest.raises(TamagoError, match="S002"):
        store.import_(tmp_path / "in.json")


def test_an_export_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with Store.open(":memory:") as store, pytest.raises(TamagoError, match="S001"):
        store.import_(tmp_path / "in.json")


def test_poisoned_rows_of_an_export_are_left_out(tmp_path: Path) -> None:
    good = {"milliseconds": 1.0, "spread": 0.0, "samples": 1, "meta": {}, "created": 5.0}
    bad: list[dict[str, Any]] = [
        {**good, "milliseconds": "1"},
        {**good, "milliseconds": float("nan")},
        {**good, "milliseconds": 10**400},
        {**good, "milliseconds": True},
        {**good, "samples": 10**30},
        {**good, "samples": None},
        {**good, "meta": [1]},
        {**good, "meta": {"x": float("inf")}},
        {},
    ]
    content = {
        "format": "tamago store",
        "schema": 1,
        "prices": {"good": good, "\ud800": good, **{f"bad {index}": row for index, row in enumerate(bad)}},
        "verdicts": {"good": {"n": 1}, "bad": {"n": float("nan")}, "\ud800": {}},
    }
    (tmp_path / "in.json").write_text(json.dumps(content))

    with Store.open(":memory:") as store:
        assert store.import_(tmp_path / "in.json") == 2
        assert store.price("good") == Price(1.0, 0.0, 1, {}, 5.0)
        assert store.verdict("good") == {"n": 1}


# --- many processes, some of them killed

WORKER = """
import sys
from tamago.compiler.store import Store
path, name = sys.argv[1:]
store = Store.open(path)
for index in range(10**9):
    key = f"{name} {index}"
    if index % 2:
        store.put_price(key, float(index), 0.0, 1, {"key": key})
    else:
        store.put_verdict(key, {"key": key})
    if store.failure:
        sys.exit(f"gave up: {store.failure}")
    print(key, flush=True)
"""


def test_a_store_that_another_process_is_just_setting_up_is_no_foreign_database(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_file, "_BUSY_SECONDS", 0.2)
    original = store_file._connect  # pyright: ignore[reportPrivateUsage]
    seen: list[str] = []

    def overtaken(statement: str) -> None:
        if "user_version" in statement and not seen:
            seen.append(statement)
            monkeypatch.setattr(store_file, "_connect", original)
            with suppress(sqlite3.OperationalError):  # it may have to wait
                store_file.on_disk(str(path)).close()

    def connect(address: str) -> sqlite3.Connection:
        connection = original(address)
        connection.set_trace_callback(overtaken)
        return connection

    monkeypatch.setattr(store_file, "_connect", connect)
    with Store.open(path) as store:
        store.put_price("key", 1.0)
        assert store.failure == ""
        assert seen
    with Store.open(path) as store:
        assert store.price("key")


def test_16_processes_that_are_killed_lose_nothing_they_were_told_is_kept(path: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    logs: list[Path] = []
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        logs.append(tmp_path / f"{len(logs)}.log")
        with open(logs[-1], "wb") as log:
            running.append(
                subprocess.Popen([sys.executable, "-c", WORKER, path, str(len(logs))], stdout=log, stderr=log)
            )

    for _ in range(16):
        start()
    until = time.monotonic() + 8
    try:
        while time.monotonic() < until:
            time.sleep(0.2)
            victim = running.pop(chance.randrange(len(running)))
            victim.send_signal(signal.SIGKILL)
            assert victim.wait() == -signal.SIGKILL, [log.read_text()[-200:] for log in logs]
            start()
    finally:
        for process in running:
            process.kill()
            process.wait()

    # a line without its end was being written when the process died: not acknowledged
    acknowledged = [line for log in logs for line in log.read_text().split("\n")[:-1]]
    assert len(acknowledged) > 1000
    assert not [line for line in acknowledged if not line[0].isdigit()]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    with Store.open(path, frozen=True) as store:
        for key in acknowledged:
            price = store.price(key)
            found = store.verdict(key) if price is None else price.meta
            assert found == {"key": key}

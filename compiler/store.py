"""What was measured and decided before: prices of operators and verdicts of timings, one SQLite file per user.

Many processes read and write it at once, and a killed one loses nothing that it was told is kept. Rows are numbers,
text and JSON; a row that does not read as what it should be counts as missing. Whatever goes wrong with the file
(read-only disk, damage, a lock that does not go away) ends in a store in memory and one warning: a compilation is
never lost to its cache.
"""

import json
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from .atomic_write import write_text
from .errors import TamagoError
from .store_file import SCHEMA, copied, default_path, in_memory, is_store, on_disk

ENVIRONMENT = "TAMAGO_STORE"
_FORMAT = "tamago store"
_COLUMNS = "milliseconds, spread, samples, meta, created"
_LARGEST = 2**53  # beyond it not every integer is a float

_logger = logging.getLogger(__name__)
_inherited: list[sqlite3.Connection] = []  # of a parent process: may be neither used nor closed here


@dataclass(frozen=True, slots=True)
class Price:
    """A measured cost.

    Attributes:
        milliseconds: the median.
        spread: how far the measurements lie apart, in milliseconds.
        samples: how many there were.
        meta: what else is worth knowing, as JSON.
        created: when, in seconds since 1970.
    """

    milliseconds: float
    spread: float = 0.0
    samples: int = 1
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])
    created: float = 0.0


class Store:
    """Prices and verdicts by key. Made by `Store.open`; a context manager that closes the file.

    Attributes:
        path: the database, or `":memory:"`.
        frozen: nothing is ever written; reads see the file as it was when the store was opened.
        misses: keys that were asked for in vain.
        failure: why the store had to go on in memory; empty while all is well.
    """

    def __init__(self, path: str, frozen: bool) -> None:
        self.path, self.frozen = path, frozen
        self.misses: set[str] = set()
        self.failure = ""
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = os.getpid()
        self._ways = self._ways_to_open()
        self._open = next(self._ways)

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None, frozen: bool = False) -> Self:
        """Opens the store, making it if need be.

        Args:
            path: the database; by default the environment's `TAMAGO_STORE`, else `store.sqlite` in the user's cache
                folder. `":memory:"` keeps nothing.
            frozen: never write, and read the same whatever other processes write: the ground of reproducible results.
        """
        chosen = os.fspath(path) if path is not None else os.environ.get(ENVIRONMENT, "")
        store = cls(chosen or default_path(), frozen)
        store._attempt("SELECT 1")
        return store

    @property
    def folder(self) -> Path:
        """Where its file lies; for one in memory, where the user's own lies."""
        return Path(default_path() if self.path == ":memory:" else self.path).absolute().parent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; using the store again opens it again. What is in memory only is gone."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            if self._process == os.getpid():
                connection.close()
            else:
                _inherited.append(connection)

    def price(self, key: str) -> Price | None:
        """The price under that key, `None` if there is none that can be believed."""
        rows = self._attempt(f"SELECT {_COLUMNS} FROM prices WHERE key = ?", key)
        return (_price(rows[0]) if rows else None) or self._miss(key)

    def put_price(
        self,
        key: str,
        milliseconds: float,
        spread: float = 0.0,
        samples: int = 1,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Keeps a price; once this returns, it outlives the process.

        Raises:
            ValueError: if it is no price: not finite, negative, or without samples.
        """
        row = (float(milliseconds), float(spread), int(samples), _json(dict(meta or {})), time.time())
        if _price(row) is None:
            raise ValueError(f"no price: {row}")
        self._write("INSERT OR REPLACE INTO prices VALUES(?, ?, ?, ?, ?, ?)", key, *row)

    def verdict(self, key: str) -> dict[str, Any] | None:
        """What was decided under that key, `None` if nothing."""
        rows = self._attempt("SELECT value FROM verdicts WHERE key = ?", key)
        found = _mapping(rows[0][0]) if rows else None
        return self._miss(key) if found is None else found

    def put_verdict(self, key: str, value: Mapping[str, Any]) -> None:
        """Keeps a decision; once this returns, it outlives the process.

        Raises:
            ValueError: if it is not JSON.
        """
        self._write("INSERT OR REPLACE INTO verdicts VALUES(?, ?, ?)", key, _json(dict(value)), time.time())

    def stats(self) -> dict[str, Any]:
        """What `tamago cache` shows: the path, how many rows, how many bytes, and whether all is well."""
        counts = {table: self._attempt(f"SELECT count(*) FROM {table}")[0][0] for table in ("prices", "verdicts")}
        state = {"frozen": self.frozen, "misses": len(self.misses), "failure": self.failure}
        return {"path": self.path, "schema": SCHEMA, **counts, "bytes": sum(map(_size, self._files())), **state}

    def clear(self) -> None:
        """Forgets everything; a damaged store is deleted and made anew. A frozen store stays as it is.

        Raises:
            TamagoError: S003 if what is damaged may not be a store: it is not deleted.
        """
        if self.frozen:
            return
        with self._lock:
            if self.failure:
                self._delete_damaged()
            self._write("DELETE FROM prices")
            self._write("DELETE FROM verdicts")
            self.misses.clear()

    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes all rows as JSON, to be shared or kept beside a build.

        Raises:
            TamagoError: M03x if the file cannot be written.
        """
        prices = {key: _price(row) for key, *row in self._attempt(f"SELECT key, {_COLUMNS} FROM prices")}
        verdicts = {key: _mapping(text) for key, text in self._attempt("SELECT key, value FROM verdicts")}
        content = {
            "format": _FORMAT,
            "schema": SCHEMA,
            "prices": {key: asdict(price) for key, price in prices.items() if price is not None},
            "verdicts": {key: value for key, value in verdicts.items() if value is not None},
        }
        write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")

    def import_(self, path: str | os.PathLike[str]) -> int:
        """Takes over the rows of an export that this store does not have; gives their number.

        Raises:
            TamagoError: S001 the file cannot be read, S002 it is no export.
        """
        content = _exported(Path(path))
        before = self.stats()
        for key, entry in content["prices"].items():
            numbers = [entry.get(name) for name in ("milliseconds", "spread", "samples")]
            with suppress(ValueError, OverflowError):  # no JSON after all, no text that UTF-8 can hold
                row = (*numbers, _json(entry.get("meta")), entry.get("created"))
                if _price(row) is not None:
                    self._write("INSERT OR IGNORE INTO prices VALUES(?, ?, ?, ?, ?, ?)", key, *row)
        for key, value in content["verdicts"].items():
            with suppress(ValueError, OverflowError):
                self._write("INSERT OR IGNORE INTO verdicts VALUES(?, ?, ?)", key, _json(value), time.time())
        after = self.stats()
        return sum(after[table] - before[table] for table in ("prices", "verdicts"))

    def _miss(self, key: str) -> None:
        self.misses.add(key)

    def _write(self, statement: str, *values: Any) -> None:
        if not self.frozen:
            self._attempt(statement, *values)

    def _attempt(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Runs a statement; where the file fails, in a copy of it, and where that fails, in an empty store."""
        with self._lock:
            while True:
                try:
                    return self._connected().execute(statement, values).fetchall()
                except (sqlite3.Error, OSError) as error:
                    self._fall_back(error)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._process != os.getpid() and self._open is on_disk:
            self.close()  # a connection to a file must not cross a fork
        if self._connection is None:
            self._connection, self._process = self._open(self.path), os.getpid()
        return self._connection

    def _ways_to_open(self) -> Iterator[Callable[[str], sqlite3.Connection]]:
        if self.path != ":memory:" and not self.frozen:
            yield on_disk
        if self.path != ":memory:":
            yield copied
        yield _empty

    def _fall_back(self, error: Exception) -> None:
        way = next(self._ways, None)
        if way is None:
            raise error
        if not self.failure:
            _logger.warning("the store %s cannot be used, going on without it: %s", self.path, error)
        self.failure = self.failure or str(error) or type(error).__name__
        self.close()
        self._open = way

    def _delete_damaged(self) -> None:
        if self.path != default_path() and not is_store(self.path):
            what = "the file is no store that tamago made, and is not deleted"
            raise TamagoError("S003", what, where=self.path, why=self.failure, todo="name another file")
        self.close()
        for file in self._files():
            with suppress(OSError):
                file.unlink()
        self.failure = ""
        self._ways = self._ways_to_open()
        self._open = next(self._ways)

    def _files(self) -> list[Path]:
        return [Path(self.path + suffix) for suffix in ("", "-wal", "-shm")] if self.path != ":memory:" else []


def _empty(_: str) -> sqlite3.Connection:
    return in_memory()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _price(row: Any) -> Price | None:
    """The price in a row, unless the row was tampered with."""
    milliseconds, spread, samples, meta, created = row
    content = _mapping(meta)
    believable = content is not None and all(_is_amount(number) for number in (milliseconds, spread, created))
    if not believable or not isinstance(samples, int) or not 1 <= samples <= _LARGEST:
        return None
    return Price(milliseconds, spread, samples, content or {}, created)


def _is_amount(number: object) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    return 0 <= number <= _LARGEST and math.isfinite(number)


def _mapping(text: object) -> dict[str, Any] | None:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _exported(path: Path) -> dict[str, dict[str, Any]]:
    todo = "give a file that `tamago cache export` wrote"
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        why = error.strerror or str(error)
        raise TamagoError("S001", "the file cannot be read", where=str(path), why=why, todo=todo) from error
    except (ValueError, RecursionError) as error:
        raise TamagoError("S002", "the file is not JSON", where=str(path), why=str(error), todo=todo) from error
    tables = [content.get(table) for table in ("prices", "verdicts")] if isinstance(content, dict) else [None]
    entries = [entry for table in tables if isinstance(table, dict) for entry in table.values()]
    if not all(isinstance(value, dict) for value in (*tables, *entries)) or content.get("format") != _FORMAT:
        raise TamagoError("S002", "the file is not an export of a store", where=str(path), todo=todo)
    return content

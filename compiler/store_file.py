"""The store's database on disk: opened for many processes at once, copied for a frozen store, refused when foreign."""

import os
import sqlite3
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

SCHEMA = 1

_APPLICATION = 0x746D676F  # "tmgo", in SQLite's application_id: another program's database is never written
_BUSY_SECONDS = 10.0
_TABLES = (
    "CREATE TABLE IF NOT EXISTS prices(key TEXT PRIMARY KEY, milliseconds REAL, spread REAL, samples INTEGER,"
    " meta TEXT, created REAL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS verdicts(key TEXT PRIMARY KEY, value TEXT, created REAL) WITHOUT ROWID",
)


def default_path() -> str:
    """`store.sqlite` in the user's cache folder."""
    from platformdirs import user_cache_path

    return str(user_cache_path("tamago", appauthor=False) / "store.sqlite")


def in_memory() -> sqlite3.Connection:
    """An empty store that nobody else sees."""
    connection = _connect(":memory:")
    for statement in _TABLES:
        connection.execute(statement)
    return connection


def copied(path: str) -> sqlite3.Connection:
    """The file's content in memory, as it is now; an empty store if there is no file. The file is only read.

    Raises:
        sqlite3.Error: it is damaged, or no store.
        OSError: it is not a file.
    """
    connection = in_memory()
    if not os.path.exists(path):
        return connection
    if not os.path.isfile(path):
        raise OSError("it is not a regular file")
    address = Path(path).absolute().as_uri()
    untouched, shared = f"{address}?mode=ro&immutable=1", f"{address}?mode=ro"
    # Without a log nobody is writing, and the file is read without a trace; a shared reading leaves files beside it.
    if not os.path.exists(f"{path}-wal"):
        _copy(untouched, connection)
    if os.path.exists(f"{path}-wal"):
        try:
            _copy(shared, connection)
        except sqlite3.OperationalError:
            _copy(untouched, connection)  # in a read-only folder
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("its content is damaged")
    return connection


def on_disk(path: str) -> sqlite3.Connection:
    """The file, for reading and writing beside other processes; made if there is none.

    Raises:
        sqlite3.Error: it is damaged, locked for long, or no store.
        OSError: it cannot be made, or somebody else may have put it there.
    """
    _prepare(Path(path))
    connection = _connect(path)
    try:
        is_set_up = _is_set_up(connection)  # before anything is written: it may be no store
        # WAL and NORMAL: a killed process loses nothing that was committed; a power cut may lose the last rows.
        _patiently(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchall())
        connection.execute("PRAGMA synchronous=NORMAL")
        if not is_set_up:
            _patiently(lambda: _set_up(connection))
    except BaseException:
        connection.close()
        raise
    return connection


def is_store(path: str) -> bool:
    """Whether the file is one that tamago made, as far as its header tells: only such a file may be deleted."""
    try:
        with open(path, "rb") as file:
            header = file.read(72)
    except OSError:
        return False
    return header.startswith(b"SQLite format 3\0") and header[68:72] == _APPLICATION.to_bytes(4, "big")


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text
    return connection


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")  # damaged text must not raise


def _copy(address: str, target: sqlite3.Connection) -> None:
    source = sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)
    try:
        if _is_set_up(source):
            source.backup(target)
    finally:
        source.close()


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_set_up(connection):  # another process may have been faster
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={_APPLICATION}")
            connection.execute(f"PRAGMA user_version={SCHEMA}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _is_set_up(connection: sqlite3.Connection) -> bool:
    """Whether the tables are there; an empty database is to become a store, any other is refused."""
    connection.execute("SAVEPOINT look")  # the three as of one moment: another process may be setting it up
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.execute("RELEASE look")
    if application == _APPLICATION and version > SCHEMA:
        raise sqlite3.DatabaseError(f"it was made by a newer tamago (schema {version}, this one knows {SCHEMA})")
    if application != _APPLICATION and (application or version or tables):
        raise sqlite3.DatabaseError("it is a database of another program")
    return application == _APPLICATION


def _patiently(action: Callable[[], object]) -> None:
    """Changing the journal mode does not wait for other processes by itself."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            action()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _prepare(path: Path) -> None:
    """Makes the folder and the file for their owner alone, and refuses what somebody else may have put there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if str(path) == default_path():
        _own(path.parent)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError("it is not a regular file") from None


def _own(folder: Path) -> None:
    if sys.platform == "win32":  # the user's profile is private there
        return
    found = os.stat(folder)
    if found.st_uid != os.geteuid():
        raise OSError(f"the folder {folder} belongs to another user")
    if stat.S_IMODE(found.st_mode) & 0o077:
        os.chmod(folder, 0o700)

"""Writes that leave the old file or the new one, whatever interrupts them.

The bytes go to a new sibling (`O_EXCL`, mode 0600), which is synced, given the mode of the file it replaces (or the
umask's), renamed over the destination, and then the folder is synced. A destination that is a symbolic link is
replaced, not followed: nothing outside the folder that was named is ever written.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Generator
from pathlib import Path

from .errors import TamagoError

_LARGEST_WRITE = 1 << 30  # Linux writes at most 2 GiB - 4 KiB in one call
_umask_lock = threading.Lock()


class Output:
    """A file being written: every byte goes straight to the operating system, in full.

    Attributes:
        path: where the bytes are for now.
        position: how many bytes were written.
        digest: SHA-256 of what was written.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor, self.position = path, descriptor, 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        """Writes all of `data` and returns its size in bytes."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += os.write(self.descriptor, view[done : done + _LARGEST_WRITE])
        self.digest.update(view)
        self.position += done
        return done

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@contextlib.contextmanager
def sibling(destination: Path) -> Generator[Output]:
    """A new file beside `destination`, open for writing; removed on the way out unless it was published."""
    path = destination.parent / f".tamago-{os.getpid()}-{secrets.token_hex(8)}.tmp"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    output = Output(path, descriptor)
    try:
        yield output
    finally:
        output.close()
        with contextlib.suppress(OSError):
            os.unlink(path)


def publish(output: Output, destination: Path, mode: int) -> None:
    """Makes the written bytes durable and then visible under the name `destination`, in one step."""
    if hasattr(os, "fchmod"):
        os.fchmod(output.descriptor, mode)
    os.fsync(output.descriptor)
    output.close()  # Windows renames no file that is open
    os.replace(output.path, destination)
    sync_folder(destination.parent)


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` durable, where the platform can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def mode_for(destination: Path) -> int:
    """The permissions a file at `destination` should have: those of the file there, or what the umask grants."""
    try:
        found = os.lstat(destination)
    except FileNotFoundError:
        return 0o666 & ~_umask()
    return stat.S_IMODE(found.st_mode) if stat.S_ISREG(found.st_mode) else 0o666 & ~_umask()


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replaces the file at `path` by `data`, or leaves it as it was.

    Raises:
        TamagoError: M030 the folder is missing, M031 the destination is not a plain file, M032 not permitted,
            M033 no space, M034 any other failure of the file system.
    """
    destination = Path(path)
    with reported(destination):
        refuse_special(destination)
        with sibling(destination) as output:
            output.write(data)
            publish(output, destination, mode_for(destination))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replaces the file at `path` by `text` in UTF-8, or leaves it as it was; raises as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def refuse_special(destination: Path) -> None:
    """Refuses to replace a folder, a device or a pipe.

    Raises:
        TamagoError: M031.
    """
    if not destination.exists() or destination.is_file():
        return
    kind = "a folder" if destination.is_dir() else "not a plain file"
    raise TamagoError("M031", f"the destination is {kind}", where=str(destination), todo="name a file to write")


@contextlib.contextmanager
def reported(destination: Path) -> Generator[None]:
    """Turns a failure of the file system while `destination` is written into an error the user can act on."""
    try:
        yield
    except OSError as error:
        raise _explained(error, destination) from error


def _explained(error: OSError, destination: Path) -> TamagoError:
    reason = error.strerror or str(error)
    kept = "What stands there is complete: the old file or the new one."
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        todo = f"create the folder {destination.parent} first"
        return TamagoError("M030", "the folder to write into does not exist", where=str(destination), todo=todo)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        todo = "choose a folder you may write to"
        return TamagoError(
            "M032", "writing is not permitted", where=str(destination), why=f"{reason}. {kept}", todo=todo
        )
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        todo = "free some space or choose another disk"
        return TamagoError("M033", "the disk is full", where=str(destination), why=f"{reason}. {kept}", todo=todo)
    todo = "check the disk, or choose another folder"
    return TamagoError("M034", "writing failed", where=str(destination), why=f"{reason}. {kept}", todo=todo)


def _umask() -> int:
    # The mask can only be read by setting it; 0o077 in between grants nobody anything.
    with _umask_lock:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask

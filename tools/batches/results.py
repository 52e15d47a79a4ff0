"""What is kept of each item: `<id>/final_result.png` with `result.json` beside it, and the lock on the whole folder.

The layout is upstream's, so that its judge reads it. Files appear whole or not at all; the image comes last, so where
it is the item is done.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .items import BatchError, Item, ItemError

IMAGE, RECORD = "final_result.png", "result.json"
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
# Libraries in Rust (safetensors) tell no number; Linux, its quota, Windows.
_FULL_IN_WORDS = ("no space left", "quota exceeded", "not enough space")


class DiskFull(ItemError):
    """There is no room for a result; no other item will find any."""


class Results:
    """A folder of results. hide: takes keys out of a text before it is written."""

    def __init__(self, folder: Path, part: str = "", hide: Callable[[str], str] = str) -> None:
        self.folder, self.hide = Path(folder), hide
        self.errors = self.folder / f"errors{part}.jsonl"

    def begin(self) -> None:
        """Make the folder; errors are listed anew, for every item without a result is tried again."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.errors.write_text("", encoding="utf-8")
        except OSError as error:
            raise BatchError(f"--out {self.folder} cannot be written: {error.strerror}") from None

    def done(self, item: Item) -> dict[str, Any] | None:
        """The record of an item that has a result, None for one that has none. Raises ItemError for another's."""
        folder = self.folder / item.id
        if not (folder / IMAGE).is_file():
            return None
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # an image that something else put here, as upstream does
        if isinstance(record, dict) and record.get("id", item.name) != item.name:
            raise ItemError(f"{folder} holds the result of the id {record['id']!r}; choose another id or folder")
        return record if isinstance(record, dict) else {}

    def save(self, item: Item, files: Mapping[str, bytes], record: Mapping[str, Any]) -> None:
        """Write an item's files, then its record, then the result. Raises ItemError, DiskFull when there is no room."""
        written = dict(files)
        last = written.pop(IMAGE)
        written[RECORD] = self._encoded(record)
        written[IMAGE] = last
        folder = self.folder / item.id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob(".*.part"):  # of a run that was killed
                old.unlink(missing_ok=True)
            for name, contents in written.items():
                write_whole(folder / name, contents)
        except OSError as error:
            with contextlib.suppress(OSError):
                folder.rmdir()  # if nothing is in it
            raise _fault(folder, error) from None

    def fail(self, item: Item, record: Mapping[str, Any]) -> None:
        """Write why an item has no result: into the list of errors, and beside where the result would be."""
        line = self._encoded({"row": item.row, "id": item.name, "error": record["error"]}, None)
        with contextlib.suppress(OSError), self.errors.open("ab") as file:
            file.write(line + b"\n")
        folder = self.folder / item.id
        if item.fault or (folder / IMAGE).exists():
            return  # the folder is another row's, or holds an older result with its own record
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                write_whole(folder / RECORD, self._encoded(record))
            except OSError:
                folder.rmdir()

    def _encoded(self, record: Mapping[str, Any], indent: int | None = 1) -> bytes:
        text = json.dumps(hidden(record, self.hide), indent=indent, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace")


def hidden(value: Any, hide: Callable[[str], str]) -> Any:
    """A value for JSON with all its texts passed through `hide`. JSON itself must not be: a key may be a number."""
    if isinstance(value, Mapping):
        return {str(name): hidden(one, hide) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [hidden(one, hide) for one in value]
    return value if value is None or isinstance(value, (bool, int, float)) else hide(str(value))


def write_whole(file: Path, contents: bytes) -> None:
    """Write a file so that it is there whole or as it was before. Raises OSError, and then leaves nothing behind."""
    # Threads of the judge write the same reply where two methods gave the same image.
    part = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with part.open("wb") as out:
            out.write(contents)
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, file)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk has no room."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(words in str(error).lower() for words in _FULL_IN_WORDS)


def _fault(folder: Path, error: OSError) -> ItemError:
    if is_full(error):
        return DiskFull(f"the disk is full at {folder}: free some room and start the same command again")
    if error.errno == errno.EFBIG:
        return ItemError(f"the result is larger than a file may be at {folder} ({error.strerror})")
    return ItemError(f"the result cannot be written at {folder}: {error.strerror or error}")


class FolderLock:
    """Keeps two runs from one folder. Shards of the same number of parts share it; anything else is refused.

    The system releases the lock when its process ends, however it ends: a lock of a dead process is taken over. The
    file says which process has it. As a context manager; raises BatchError.
    """

    def __init__(self, folder: Path, shard: tuple[int, int] = (1, 1)) -> None:
        self.folder, self.shard = Path(folder), shard
        self.file = self.folder / f".batch-{shard[0]}-of-{shard[1]}.lock"
        self._open = None

    def __enter__(self) -> FolderLock:
        try:
            self._begin()
        except OSError as error:
            self.__exit__()
            raise BatchError(f"--out {self.folder} cannot be written: {error.strerror}") from None
        return self

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open = self._take(self.file)
        if self._open is None:
            raise self._refusal(self.file)
        about = {
            "pid": os.getpid(), "host": socket.gethostname(), "begun": time.strftime("%Y-%m-%d %H:%M:%S"),
            "shard": "{}/{}".format(*self.shard),
        }  # fmt: skip
        self._open.truncate(0)
        self._open.write(json.dumps(about).encode())
        self._open.flush()
        for other in sorted(self.folder.glob(".batch-*.lock")):
            if other == self.file or other.name.endswith(f"-of-{self.shard[1]}.lock"):
                continue
            tried = self._take(other)
            if tried is None:
                self.__exit__()
                raise self._refusal(other)
            tried.close()

    def __exit__(self, *_) -> None:
        if self._open is not None:
            with contextlib.suppress(OSError):
                self._open.truncate(0)
            self._open.close()
            self._open = None

    def _take(self, file: Path):
        """The open file, locked; None while another process holds it."""
        opened = file.open("a+b")
        for attempt in range(5):  # another run may only be looking
            try:
                _lock(opened)
                return opened
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                    opened.close()
                    raise BatchError(f"{file} cannot be locked: {error.strerror}; choose a folder on a disk") from None
                time.sleep(0.05 * (attempt + 1))
        opened.close()
        return None

    def _refusal(self, file: Path) -> BatchError:
        try:
            about = json.loads(file.read_bytes() or b"{}")
        except (OSError, ValueError):
            about = {}
        about = about if isinstance(about, dict) else {}
        who = f"process {about.get('pid', '?')} on {about.get('host', '?')} since {about.get('begun', '?')}"
        return BatchError(
            f"another batch writes into {self.folder}: {who} (shard {about.get('shard', '?')}). Wait for it, choose "
            "another folder, or give both a --shard of the same number of parts"
        )


if sys.platform == "win32":
    import msvcrt

    def _lock(file) -> None:
        # A byte far behind the end: what is locked cannot be read by others, and they read whose lock it is.
        file.seek(2**30)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        finally:
            file.seek(0)
else:
    import fcntl

    def _lock(file) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

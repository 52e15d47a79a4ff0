"""What to edit: the images of a folder or the rows of a table, each under an id that is safe as a folder's name."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
LONGEST_ID = 100  # bytes of UTF-8; Windows allows 260 characters for a whole path

# Windows' devices, and what a batch itself writes beside the results.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$|errors)(\.|$)", re.IGNORECASE)
_FOLDED = ("image", "instruction", "plan", "id", "seed")


class BatchError(RuntimeError):
    """A batch that cannot begin or go on; the message says what was found and what to do."""


class ItemError(ValueError):
    """One item that cannot be edited, and why; the others go on."""


class Item(NamedTuple):
    """One edit. row: its place in the source, from 1. name: the id as given. id: the same, safe as a folder's name.

    values: what there is to fill in, by column. fault: why it cannot be edited, or "". folder: what paths start from.
    """

    row: int
    id: str
    name: str
    values: Mapping[str, Any]
    fault: str
    folder: Path


class Row(NamedTuple):
    """A row as it was read; fault: why it is none."""

    values: Mapping[str, Any]
    fault: str = ""


class Source:
    """A folder of images or a table, read anew each time: ten thousand rows take no more memory than one.

    The first reading looks at all ids. Raises BatchError for what is neither folder nor table.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            self.folder, self.read = self.path, self._images
        elif not self.path.is_file():
            raise BatchError(f"{path}: there is no such folder or table")
        elif self.path.suffix.lower() in TABLES:
            self.folder = self.path.parent
            self.read = self._lines if self.path.suffix.lower() in (".jsonl", ".ndjson") else self._table
        else:
            raise BatchError(f"{path} is no folder and no table ({', '.join(TABLES)})")
        self.columns: set[str] = set()
        self.count, self._repeated, self._clashing = 0, {}, set()
        unread = ""
        seen: dict[int, tuple[int, int]] = {}  # hashes: of the folded id, to its row and the hash of the exact one
        for row, (values, fault) in enumerate(self.read(), 1):
            self.count = row
            self.columns.update(values)
            if fault:
                unread = unread or f"row {row}: {fault}"
                continue
            name = _name(values, row)
            folded, exact = hash(safe_id(name).casefold()), hash(name)
            first = seen.setdefault(folded, (row, exact))
            if first[0] != row and first[1] == exact:
                self._repeated[row] = first[0]
            elif first[0] != row:
                self._clashing.add(row)
        if not self.count:
            what = f"no image ({', '.join(IMAGES)})" if self.path.is_dir() else "no row"
            raise BatchError(f"{path} holds {what}")
        if "image" not in self.columns:
            if unread:
                raise BatchError(f"{path} has no row with an image that can be read; {unread}")
            raise BatchError(
                f"{path} has the columns {', '.join(sorted(self.columns)) or '(none)'}; name one of them 'image'"
            )

    def items(self, shard: tuple[int, int] = (1, 1)) -> Iterator[Item]:
        """The items in order; shard (i, n), from 1: every n-th of them, so that n runs share them."""
        part, parts = shard
        for row, (values, fault) in enumerate(self.read(), 1):
            if (row - part) % parts:
                continue
            name = _name(values, row)
            if row in self._repeated:
                fault = f"row {self._repeated[row]} has the id {short(name)} already; give each row an id of its own"
            elif not fault and not str(values.get("image") or "").strip():
                fault = "it has no image"
            yield Item(row, safe_id(name, always=row in self._clashing), name, values, fault, self.folder)

    def _images(self) -> Iterator[Row]:
        """Images by name; NAME.txt beside one is its instruction, NAME.plan.json its plan."""
        names = sorted(file.name for file in self.path.iterdir() if file.suffix.lower() in IMAGES and file.is_file())
        stems: dict[str, int] = {}
        for name in names:
            stem = Path(name).stem.casefold()
            stems[stem] = stems.get(stem, 0) + 1
        for name in names:
            file = self.path / name
            values = {"image": name, "id": name if stems[file.stem.casefold()] > 1 else file.stem}
            if file.with_suffix(".txt").is_file():
                values["instruction"] = _text(file.with_suffix(".txt")).strip()
            if file.with_suffix(".plan.json").is_file():
                values["plan"] = _text(file.with_suffix(".plan.json"))
            yield Row(values, _unreadable(values))

    def _table(self) -> Iterator[Row]:
        for values, fault in table_cells(self.path, column_name):
            filled = {name: cell for name, cell in values.items() if cell.strip()}
            yield Row(filled, fault or _unreadable(filled))

    def _lines(self) -> Iterator[Row]:
        with open_table(self.path) as file:
            for line in file:
                if not line.strip():
                    continue
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield Row({}, f"the line is no JSON: {error}")
                    continue
                if isinstance(found, dict):
                    values = {column_name(key): value for key, value in found.items() if value not in (None, "")}
                    yield Row(values, _unreadable(values))
                else:
                    yield Row({}, f"the line is no JSON object: {short(line.strip())}")


def open_table(file: Path) -> TextIO:
    """A table's text. Raises BatchError for UTF-16, which Excel calls Unicode text, and for what is no text."""
    with file.open("rb") as opened:
        head = opened.read(4)
    if b"\0" in head or head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BatchError(f"{file} is no UTF-8 text; save it as UTF-8 (in Excel: 'CSV UTF-8')")
    return file.open(encoding="utf-8-sig", errors="replace", newline="")


def table_cells(file: Path, named: Callable[[str], str]) -> Iterator[Row]:
    """The rows of a CSV or TSV table with all their cells, by the columns' names as `named` gives them.

    Raises BatchError for a head that cannot be read, or has a column twice.
    """
    csv.field_size_limit(2**31 - 1)  # a plan with masks is longer than the usual limit
    with open_table(file) as opened:
        # Strict: a quote that is never closed would silently take all rows behind it into its cell.
        reader = csv.reader(opened, "excel-tab" if file.suffix.lower() == ".tsv" else "excel", strict=True)
        head: list[str] | None = None
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if head is None:
                    raise BatchError(
                        f"{file}: its first row, the names of the columns, cannot be read: {error}"
                    ) from None
                yield Row(
                    {}, f'the row cannot be read: {error}; quote a cell whole, and write a quote in it twice ("")'
                )
                continue
            if not cells:
                continue
            if head is None:
                head = [named(cell) for cell in cells]
                twice = sorted({name for name in head if name and head.count(name) > 1})
                if twice:
                    raise BatchError(f"{file} has the column {', '.join(twice)} more than once; rename or delete one")
                continue
            extra = any(cell.strip() for cell in cells[len(head) :])
            fault = f"it has {len(cells)} cells, the head {len(head)}; quote text with commas" if extra else ""
            yield Row(dict(zip(head, cells, strict=False)), fault)


def safe_id(name: str, always: bool = False) -> str:
    """An id as the name of one folder, on any system; the same for the same id.

    What is safe stays as it is. Else signs become "_", and part of a hash keeps different ids apart; always: add it
    anyway, for ids that differ by their case alone.
    """
    plain = unicodedata.normalize("NFC", name)
    kept = "".join(sign if sign.isalnum() or sign in "-_. +=@,()" else "_" for sign in plain)
    kept = kept.strip(" ").rstrip(".").lstrip(".").strip(" ")
    if _RESERVED.match(kept):
        kept = f"_{kept}"
    if kept == plain and kept and len(kept.encode()) <= LONGEST_ID and not always:
        return kept
    cut = kept.encode()[: LONGEST_ID - 9].decode(errors="ignore").rstrip(". ")
    digits = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{cut}-{digits}" if cut else f"item-{digits}"


def file_of(item: Item, value: Any) -> Path:
    """The file that a value of an item names, from the table's folder. Raises ItemError unless it is there."""
    try:
        file = item.folder / str(value)
        if file.is_file() and file.stat().st_size:
            file.open("rb").close()  # a file that may not be read is the item's fault, not the server's
            return file
        found = "is empty" if file.is_file() else "is a folder" if file.is_dir() else "is not there"
    except (OSError, ValueError) as error:
        raise ItemError(f"{short(str(value))} is no file name: {error}") from None
    raise ItemError(f"the file {short(str(value))} {found} (looked in {item.folder.resolve()})")


def plan_text(item: Item) -> str:
    """The plan of an item as text: what the cell says, or the file that it names. Raises ItemError."""
    plan = item.values.get("plan")
    if isinstance(plan, (dict, list)):
        return json.dumps(plan, ensure_ascii=False)
    text = str(plan)
    if not text.lstrip().startswith(("{", "[", "<", "`")) and text.strip().lower().endswith((".json", ".txt")):
        return _text(file_of(item, text.strip()))
    return text


def short(text: str, most: int = 60) -> str:
    """A text to show, cut and with what cannot be printed written out."""
    shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    return repr(shown if len(shown) <= most else f"{shown[: most - 3]}...")


def _name(values: Mapping[str, Any], row: int) -> str:
    """A row's id as given, else its image's name with part of a hash: an image may be edited in several ways."""
    given = values.get("id")
    if given is not None and str(given).strip():
        return str(given).strip(" ")
    if not values.get("image"):
        return f"row {row}"
    told = json.dumps(values, sort_keys=True, default=str)
    stem = Path(re.split(r"[/\\]", str(values["image"]))[-1]).stem
    return f"{stem}-{hashlib.sha256(told.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8-sig", errors="replace")


def _unreadable(values: Mapping[str, Any]) -> str:
    broken = [name for name, value in values.items() if "\ufffd" in str(value)]
    return f"its {broken[0]} is not UTF-8 text; save it as UTF-8" if broken else ""


def column_name(name: Any) -> str:
    """A column's name; the known ones in any case."""
    text = str(name).strip()
    return text.lower() if text.lower() in _FOLDED else text

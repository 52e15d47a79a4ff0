"""Records to evaluate edits on, of any form in `forms.py`: `python tools/iv_edit/records.py SOURCE --out FOLDER`.

SOURCE is a parquet file or a folder of them, a table (JSON, JSON lines, CSV, TSV) with image files, a folder of images
with a text beside each, or ReasonEdit's folders. What can be used is written to FOLDER/records/records.jsonl, what
cannot to refused.jsonl beside it, with the reason. `generate.py` does the same before it edits.

Examples:  python tools/iv_edit/records.py iv_edit/data --split test --out runs/iv
           python tools/iv_edit/records.py magicbrush/dev.parquet --out runs/magic --limit 50
           python tools/iv_edit/records.py mine.csv --field instruction=what --field id=number --out runs/mine
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

TOOLS = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path.insert(0, str(TOOLS))
    from bench import import_pack

    import_pack()

from replan.tools.batches.config import print_anything, whole  # noqa: E402
from replan.tools.batches.items import BatchError, open_table, safe_id, short, table_cells  # noqa: E402
from replan.tools.batches.results import write_whole  # noqa: E402
from replan.tools.iv_edit.forms import (  # noqa: E402
    FAULT,
    FIELDS,
    FORMS,
    form_of,
    is_reasonedit,
    photo_rows,
    reasonedit_rows,
    value_at,
)
from replan.tools.iv_edit.parquet import ParquetError, unpack  # noqa: E402

if TYPE_CHECKING:
    from replan.tools.iv_edit.forms import Form

# The fault of a record that its own set leaves out.
MARKED_FILTERED = "its status is 'filtered': upstream leaves it out too"
FOLDER, FILE, REFUSED = "records", "records.jsonl", "refused.jsonl"
_IMAGE_SIGNS = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Record:
    """One edit to judge. id: safe as a folder's name. name: the id as given. row: its place in the source, from 1.

    image, mask, target: paths of files, "" for none; the mask is white where the edit is. boxes: [x1, y1, x2, y2] each,
    in pixels of the image. referring: words for what is meant. answer: the set's own, for IV-Edit a plan as text.
    caption_after: what the result should show. fault: why it cannot be used, or "". notes: what was left out.
    """

    id: str
    name: str
    row: int
    image: str = ""
    instruction: str = ""
    referring: str = ""
    answer: str = ""
    referring_type: str = ""
    task_type: str = ""
    mask: str = ""
    boxes: tuple[tuple[float, ...], ...] = ()
    target: str = ""
    caption_after: str = ""
    fault: str = ""
    notes: tuple[str, ...] = ()


class Source:
    """Records of a file or folder, read anew each time. form: its name in FORMS, "" to tell it by the columns.

    columns: places that a field is taken from instead of the form's. images: the folder that image paths start from
    and must stay in (default: that of the table). split: of a folder of parquet files, those that begin so. unpacked:
    where a parquet file's images go. Raises BatchError for what is no source.
    """

    def __init__(
        self, path: Path, form: str = "", columns: Mapping[str, str] | None = None, images: Path | None = None,
        split: str = "", unpacked: Path | None = None,
    ) -> None:  # fmt: skip
        self.path = Path(path)
        self.is_run = (self.path / FOLDER / FILE).is_file()
        self.table, self.folder = self._found(split, unpacked)
        self.folder = Path(images) if images else self.folder
        first = next((row for row in self._rows() if FAULT not in row), None)
        if first is None:
            why = next((f": {row[FAULT]}" for row in self._rows()), "")
            raise BatchError(f"{path} holds no record that can be read{why}")
        name = form or form_of(first)
        if name not in FORMS and not columns:
            raise BatchError(
                f"{path} has the columns {', '.join(map(str, first))}, which no known form has; name one by --form "
                f"({', '.join(FORMS)}), or say --field image=COLUMN --field instruction=COLUMN"
            )
        self.form: Form = FORMS.get(name, FORMS["records"])
        self.name = name or "by --field"
        self.places = {**self.form.fields, **{field: (place,) for field, place in (columns or {}).items()}}
        unknown = sorted(set(columns or {}) - set(FIELDS))
        if unknown:
            raise BatchError(f"--field {', '.join(unknown)}: a record has no such field, only {', '.join(FIELDS)}")

    def __iter__(self) -> Iterator[Record]:
        """All records, those that cannot be used too; an id that was there before is a fault of the second."""
        if self.is_run:
            yield from read_records(self.path)
            return
        seen: dict[str, str] = {}
        rows: dict[str, int] = {}
        for number, row in enumerate(self._rows(), 1):
            record = self._record(number, row)
            if not record.fault and record.name in rows:
                fault = f"row {rows[record.name]} has the id {short(record.name)} already"
                record = replace(record, fault=fault)
            elif not record.fault and record.id.casefold() in seen:
                record = replace(record, id=safe_id(record.name, always=True))
            if not record.fault:
                rows[record.name] = number
                seen[record.id.casefold()] = record.name
            yield record

    def _found(self, split: str, unpacked: Path | None) -> tuple[Path | None, Path]:
        """The table, None for folders without one, and the folder that its image paths start from."""
        path = self.path
        if self.is_run:
            return path / FOLDER / FILE, path / FOLDER
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path] * (path.suffix.lower() == ".parquet")
        files = [file for file in files if file.name.startswith(split)]
        if files and files[0].is_file():
            if unpacked is None:
                raise BatchError(f"{path}: the images of a parquet file need a folder to be written to")
            try:
                return unpack(files, unpacked), unpacked
            except ParquetError as error:
                raise BatchError(str(error)) from None
        if path.is_dir():
            if is_reasonedit(path):
                return None, path
            tables = sorted(one for one in path.iterdir() if one.suffix.lower() in (".jsonl", ".csv", ".json"))
            if len(tables) == 1:
                return tables[0], path
            if not tables and next(photo_rows(path), None):
                return None, path
            what = f"{len(tables)} tables, name one" if tables else f"no parquet file{' of that split' * bool(split)}"
            raise BatchError(f"{path} holds {what}; no images, and no folder of ReasonEdit's")
        if not path.is_file():
            raise BatchError(f"{path}: there is no such file or folder")
        return path, path.parent

    def _rows(self) -> Iterator[dict[str, Any]]:
        if self.table is None:
            yield from (reasonedit_rows if is_reasonedit(self.path) else photo_rows)(self.path)
            return
        yield from table_rows(self.table)

    def _record(self, number: int, row: Mapping[str, Any]) -> Record:
        found = {field: value_at(row, places) for field, places in self.places.items()}
        texts = {field: _text(found.get(field)) for field in FIELDS if field not in ("id", "boxes")}
        image = Path(texts["image"])
        name = _text(found.get("id")) or str(image.with_suffix("") if image.name else "") or f"row {number}"
        notes: list[str] = []
        boxes = _boxes(found.get("boxes"))
        if found.get("boxes") and boxes is None:
            notes.append("its boxes are not [x1, y1, x2, y2] each and were left out")
        record = Record(safe_id(name), name, number, **texts, boxes=boxes or (), notes=tuple(notes))
        if record.id != name:
            record = replace(record, notes=(*record.notes, f"the id is no folder's name; it is written as {record.id}"))
        if not isinstance(found.get("instruction"), (str, type(None))):
            return replace(record, fault=f"its instruction is no text but {short(record.instruction)}")
        return self._checked(record, row, _text(found.get("status")))

    def _checked(self, record: Record, row: Mapping[str, Any], status: str) -> Record:
        """The record with whole paths of its files, or with its fault."""
        if FAULT in row:
            return replace(record, fault=str(row[FAULT]))
        if status == "filtered":
            return replace(record, fault=MARKED_FILTERED)
        if not record.instruction:
            return replace(record, fault="it has no instruction")
        if "\ufffd" in record.instruction + record.name:
            return replace(record, fault="it is not UTF-8 text; save the table as UTF-8")
        if not record.image:
            return replace(record, fault="it has no image")
        file, fault = self._file(record.image)
        if fault:
            return replace(record, fault=f"its image {fault}")
        record = replace(record, image=file)
        for field in ("mask", "target"):
            if value := getattr(record, field):
                file, fault = self._file(value)
                notes = (*record.notes, f"its {field} {fault} and was left out") if fault else record.notes
                record = replace(record, **{field: file, "notes": notes})
        return record

    def _file(self, name: str) -> tuple[str, str]:
        """The whole path of an image, and "" or why it cannot be used.

        What a table names is uploaded and may be shown to a judge elsewhere: it has to be an image in the own folder.
        """
        root = self.folder.resolve()
        try:
            file = (root / name).resolve()
            if not file.is_relative_to(root):
                return "", f"{short(name)} lies outside of {root}; say --images FOLDER if that is right"
            if not file.is_file():
                beside = root / Path(name).name
                if not beside.is_file():  # EditWorld's paths start from where its tools ran
                    return "", f"{short(name)} is not there (looked in {root})"
                file = beside.resolve()
                if not file.is_relative_to(root):
                    return "", f"{short(name)} lies outside of {root}; say --images FOLDER if that is right"
            with file.open("rb") as opened:
                head = opened.read(12)
        except (OSError, ValueError) as error:
            return "", f"{short(name)} cannot be read: {getattr(error, 'strerror', None) or error}"
        if not head.startswith(_IMAGE_SIGNS) and head[8:12] != b"WEBP":
            return "", f"{short(name)} {'is no image' if head else 'is empty'}"
        return str(file), ""


def table_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table; one that cannot be read holds FAULT. Raises BatchError for another kind of file."""
    kind = file.suffix.lower()
    if kind not in (".json", ".jsonl", ".ndjson", ".csv", ".tsv"):
        raise BatchError(f"{file} is no table (.jsonl, .json, .csv, .tsv) and no parquet file")
    if kind in (".csv", ".tsv"):
        for values, fault in table_cells(file, str.strip):
            yield {FAULT: fault} if fault else dict(values)
        return
    with open_table(file) as opened:
        if kind == ".json":
            yield from _objects(file, opened.read())
        else:
            yield from (_line(line) for line in opened if line.strip())


def read_records(out: Path) -> list[Record]:
    """The records that `write_records` wrote to a run's folder. Raises BatchError when there are none."""
    file = Path(out) / FOLDER / FILE
    try:
        lines = file.read_text(encoding="utf-8").split("\n")  # a text may hold other line breaks, such as U+2028
    except FileNotFoundError:
        raise BatchError(f"{out} holds no records ({FOLDER}/{FILE}); run records.py or generate.py first") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BatchError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is no UTF-8'}") from None
    names = {field.name for field in fields(Record)}
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = {name: value for name, value in json.loads(line).items() if name in names}
            values["boxes"] = tuple(tuple(box) for box in values.get("boxes", ()))
            values["notes"] = tuple(values.get("notes", ()))
            found.append(Record(**values))
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise BatchError(f"{file}, line {number}, is no record; write it anew by records.py") from None
    return found


def write_records(source: Source, out: Path, limit: int | None = None, say=print) -> list[Record]:
    """Write a source's records to a run's folder, and say what was left out; those that can be used.

    A run's own records stay as they are.
    """
    if source.is_run and source.path.resolve() == Path(out).resolve():
        return list(source)[:limit]
    used: list[Record] = []
    refused: list[Record] = []
    for record in source:
        if limit is not None and len(used) >= limit:
            break
        (refused if record.fault else used).append(record)
    folder = Path(out) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / FILE, _lines(used))
    write_whole(folder / REFUSED, _lines(refused))
    say(f"{len(used)} records of {source.path} (form: {source.name})")
    if source.form.unverified:
        say(f"  not verified for this form: {source.form.unverified}")
    for record in refused[:10]:
        say(f"  row {record.row}, {short(record.name)}, is left out: {record.fault}")
    if len(refused) > 10:
        say(f"  and {len(refused) - 10} more: {folder / REFUSED}")
    noted = [(record, note) for record in used for note in record.notes]
    for record, note in noted[:10]:
        say(f"  row {record.row}, {short(record.name)}: {note}")
    if len(noted) > 10:
        say(f"  and {len(noted) - 10} more notes in {folder / FILE}")
    if not used:
        raise BatchError(f"no record of {source.path} can be used; {folder / REFUSED} says why")
    return used


def _lines(records: list[Record]) -> bytes:
    kept = [{name: value for name, value in vars(record).items() if value not in ("", ())} for record in records]
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in kept)
    return text.encode("utf-8", "backslashreplace")


def _objects(file: Path, text: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, or of an object by name."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BatchError(f"{file} is no JSON: {error}") from None
    if isinstance(found, dict):
        found = [{"key": name, **one} if isinstance(one, dict) else one for name, one in found.items()]
    for one in found if isinstance(found, list) else [found]:
        yield one if isinstance(one, dict) else {FAULT: "it is no JSON object"}


def _line(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {FAULT: f"the line is no JSON: {error}"}
    return found if isinstance(found, dict) else {FAULT: "the line is no JSON object"}


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode().strip()


def _boxes(value: Any) -> tuple[tuple[float, ...], ...] | None:
    """Boxes as [x1, y1, x2, y2] lists or objects with "bbox_2d" or "bbox"; None for anything else."""
    try:
        value = json.loads(value) if isinstance(value, str) else value
        value = [value] if isinstance(value, list) and value and isinstance(value[0], (int, float)) else value
        listed = [one.get("bbox_2d", one.get("bbox")) if isinstance(one, dict) else one for one in value or ()]
        boxes = tuple(tuple(float(edge) for edge in box) for box in listed)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    fine = all(len(box) == 4 and box[0] < box[2] and box[1] < box[3] and max(map(abs, box)) < 1e9 for box in boxes)
    return boxes if fine else None


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """The options by which the tools read records."""
    parser.add_argument(
        "--form", default="", choices=["", *FORMS], help="the records' form (default: by their columns)"
    )
    parser.add_argument("--field", action="append", default=[], metavar="FIELD=COLUMN", help="take a field from there")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="where image paths start, and must stay in")
    parser.add_argument("--split", default="", metavar="NAME", help="of a folder of parquet files, those named so")


def source_of(args: argparse.Namespace, out: Path) -> Source:
    columns = {}
    for text in args.field:
        field, equals, place = text.partition("=")
        if not equals or not place:
            raise BatchError(f"--field {text}: FIELD=COLUMN was expected, such as instruction=prompt")
        columns[field.strip()] = place.strip()
    return Source(args.source, args.form, columns, args.images, args.split, Path(out) / FOLDER / "unpacked")


def main(arguments: list[str] | None = None) -> int:
    print_anything()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="parquet, a table, or a folder")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--limit", type=whole, metavar="N", help="no more than so many records")
    add_source_options(parser)
    args = parser.parse_args(arguments)
    try:
        write_records(source_of(args, args.out), args.out, args.limit)
    except (BatchError, OSError) as error:
        print(f"records.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

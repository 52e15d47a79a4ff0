"""Parquet files as rows of JSON with their images beside them, by pyarrow in an environment of its own.

`unpack` is for the other tools; the file itself is what runs in that environment: `parquet.py OUT FILE...`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PACKAGES = ("pyarrow>=18,<27",)
ROWS = "rows.jsonl"
_KINDS = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"))


class ParquetError(RuntimeError):
    """A parquet file that cannot be read, and why."""


def unpack(files: list[Path], out: Path) -> Path:
    """Rows and images of parquet files in the folder `out`, unless they are there already; the file with the rows.

    An image column's cell becomes the name of a file in `out`. Raises ParquetError.
    """
    stamp = json.dumps([[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files])
    finished = out / "unpacked.json"
    if finished.is_file() and finished.read_text(encoding="utf-8") == stamp:
        return out / ROWS
    out.mkdir(parents=True, exist_ok=True)
    command = [str(python_with_pyarrow()), str(Path(__file__).resolve()), str(out), *map(str, files)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        raise ParquetError(f"{files[0]} cannot be read as parquet: {done.stdout.strip()[-500:]}")
    finished.write_text(stamp, encoding="utf-8")
    return out / ROWS


def python_with_pyarrow() -> Path:
    """A Python that has pyarrow: this one, or that of an environment below `.host/`, made on first use."""
    import importlib.util

    if importlib.util.find_spec("pyarrow"):
        return Path(sys.executable)
    from replan.tools.own_environment import ensure_environment

    python = ensure_environment("parquet", PACKAGES)
    if isinstance(python, str):
        raise ParquetError(f"parquet needs pyarrow, and {python}. Without it, give JSON lines or CSV with image files")
    return python


def write(out: Path, files: list[Path]) -> None:
    """Write rows and images; the rows appear when all are there."""
    import pyarrow.parquet

    part = out / f".{ROWS}.{os.getpid()}"
    number = 0
    with part.open("w", encoding="utf-8") as rows:
        for file in files:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=8):
                for row in batch.to_pylist():
                    number += 1
                    kept = {name: _kept(value, out, f"{number:06d}_{name}") for name, value in row.items()}
                    rows.write(json.dumps(kept, ensure_ascii=False, default=str) + "\n")
    os.replace(part, out / ROWS)


def _kept(value, out: Path, name: str):
    """A cell as JSON; images, as `datasets` writes them ({"bytes", "path"}) or bytes alone, as a file's name."""
    contents = value.get("bytes") if isinstance(value, dict) and "bytes" in value else value
    if isinstance(value, dict) and "bytes" in value and contents is None:
        return value.get("path")
    if not isinstance(contents, bytes):
        return value
    kinds = [suffix for sign, suffix in _KINDS if contents.startswith(sign)]
    kinds += [".webp"] * (contents[8:12] == b"WEBP") + [".tif"] * (contents[:4] in (b"II*\0", b"MM\0*"))
    safe = "".join(sign if sign.isalnum() else "_" for sign in name)
    file = out / f"{safe}{kinds[0] if kinds else '.bin'}"
    file.write_bytes(contents)
    return file.name


if __name__ == "__main__":
    try:
        write(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")

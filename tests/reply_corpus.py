"""The corpus of broken replies in `replies/`, one file for each class of fault.

A case is `=== its name`, the reply, a line `---`, and the plan that a person would read from it:

    global: the global prompt          (without it: the placeholder that keeps the image)
    [x1, y1, x2, y2] the hint          one line for each region, in pixels of the image
    think: ..., answer: ..., kind: ..., outcome: ..., scene: ...   only looked at where written
    says: a piece of a warning         so that nothing is repaired or dropped in silence
    refused: a piece of the error      no plan can be read
    coordinates: a choice              default auto

The image is 644 x 476, which is just what Qwen2.5-VL sees of it, so numbers that count what it sees are its pixels.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

IMAGE = (644, 476)
FOLDER = Path(__file__).parent / "replies"
_REGION = re.compile(r"\[([-\d., ]+)\] ?(.*)")


class Case(NamedTuple):
    """A reply and what a person reads from it."""

    kind: str
    name: str
    reply: str
    prompt: str | None
    regions: tuple[tuple[tuple[float, ...], str], ...]
    said: dict[str, str]
    says: tuple[str, ...]
    refused: str | None
    coordinates: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def load_corpus() -> list[Case]:
    """Every case, in the order of the files."""
    return [case for file in sorted(FOLDER.glob("*.txt")) for case in _read(file)]


def _read(file: Path) -> list[Case]:
    cases = []
    for part in re.split(r"^=== ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name, _, rest = part.partition("\n")
        reply, _, expected = rest.partition("\n---\n")
        prompt, refused, coordinates = None, None, "auto"
        regions, says, said = [], [], {}
        for line in filter(None, expected.split("\n")):
            region = _REGION.fullmatch(line)
            key, _, value = line.partition(":")
            value = value.strip().replace("\\n", "\n")
            if region:
                regions.append((tuple(float(number) for number in region[1].split(",")), region[2]))
            elif key == "global":
                prompt = value
            elif key == "refused":
                refused = value
            elif key == "coordinates":
                coordinates = value
            elif key == "says":
                says.append(value)
            elif key in ("think", "answer", "kind", "outcome", "scene", "ambiguous"):
                said[key] = value
            else:
                raise ValueError(f"{file.name}, {name}: {line!r} is no expectation")
        cases.append(Case(file.stem, name, reply, prompt, tuple(regions), said, tuple(says), refused, coordinates))
    return cases

"""Read the tests' corpus of broken replies with the pack's own reader of loose JSON and with the package json-repair.

    python tools/compare_json_repair.py      (needs `pip install json-repair`)

Both stand behind the same finding of tags and the same reading of items, so what differs is the repair of JSON alone.
The last column leaves what is told aside, for json-repair tells nothing in a person's words. Figures: docs/replies.md.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

import conftest  # noqa: E402, F401  (makes the checkout importable as `replan`)
import json_repair  # noqa: E402
from replan.planner.replies import segments  # noqa: E402
from replan.planner.replies.json_repair import Loose  # noqa: E402
from reply_corpus import Case, load_corpus  # noqa: E402
from test_reply_corpus import differences  # noqa: E402


class Repaired:
    """Reads a text with json-repair, as this pack's reader of JSON does."""

    def __init__(self, text: str, whole: bool = True):
        self.text = text

    def read(self, start: int) -> Loose:
        value = json_repair.loads(self.text[start:])
        return Loose([value] if isinstance(value, (dict, list)) else [], (), len(self.text), ())


def wrong(cases: list[Case]) -> tuple[list[str], float]:
    """The cases read otherwise than a person would, what is told aside, and the seconds it took."""
    began = time.perf_counter()
    found = [str(case) for case in cases if any(not one.startswith("no warning") for one in differences(case))]
    return found, time.perf_counter() - began


def main() -> None:
    cases = load_corpus()
    own, own_time = wrong(cases)
    segments.Reader = Repaired
    other, other_time = wrong(cases)
    print(
        f"{len(cases)} replies; wrong: own reader {len(own)} ({own_time:.2f} s), json-repair {len(other)} "
        f"({other_time:.2f} s)"
    )
    for kind, number in sorted(Counter(name.split(":")[0] for name in other).items()):
        print(f"  {kind}: {number} of {sum(case.kind == kind for case in cases)}")
    if "-v" in sys.argv:
        print("\n".join(other))


if __name__ == "__main__":
    main()

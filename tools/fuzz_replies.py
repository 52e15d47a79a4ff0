"""Look for replies that break the reader: mutations from a seed, or guided by coverage with the package atheris.

    python tools/fuzz_replies.py --mutations 200000 [--seed 1]     figures of a run; the tests run 2,000 of them
    python tools/fuzz_replies.py --atheris 200000                  needs `pip install atheris`
    python tools/fuzz_replies.py --time                            how long ordinary replies take

An error that is not the pack's own, or a reply that takes more than 50 ms of CPU time, stops the run and is shown.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]

import conftest  # noqa: E402, F401  (makes the checkout importable as `replan`)


def by_mutation(number: int, seed: int) -> None:
    """Read `number` mutated replies and tell how long they took."""
    from reply_mutations import mutated
    from test_reply_fuzz import CHOICES, SLOWEST, read_and_check, seconds

    chance = random.Random(seed)
    began, slowest, plans = time.process_time(), 0.0, 0
    for count in range(number):
        reply, coordinates = mutated(chance), CHOICES[count % len(CHOICES)]
        took = seconds(reply, coordinates)
        slowest = max(slowest, took)
        if took > SLOWEST:
            sys.exit(f"{took:.3f} s of CPU time for {reply!r}")
        plans += count % 100 == 0 and read_and_check(reply, coordinates) is not None
    print(f"{number} replies (seed {seed}): no foreign error, slowest {slowest * 1000:.1f} ms of CPU time, "
          f"{plans / max(1, number / 100):.0%} gave a plan, {time.process_time() - began:.0f} s in all")  # fmt: skip


def by_coverage(number: int) -> None:
    """Let atheris change the corpus so that it reaches more of the reader."""
    import atheris

    with atheris.instrument_imports(include=["replan.planner"]):
        from test_reply_fuzz import CHOICES, SLOWEST, read_and_check, seconds
    from reply_mutations import LONGEST, seeds

    def one(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        coordinates = CHOICES[provider.ConsumeIntInRange(0, len(CHOICES) - 1)]
        reply = provider.ConsumeUnicode(LONGEST)
        began = time.thread_time()
        read_and_check(reply, coordinates)
        # Instrumented code is several times slower: only what is slow by far is measured again.
        if time.thread_time() - began > 10 * SLOWEST and seconds(reply, coordinates) > 10 * SLOWEST:
            raise AssertionError("slow")

    folder = ROOT / "out" / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    for place, reply in enumerate(seeds()):
        # atheris reads a text by its first byte (1: ASCII, 2: two bytes a character) and numbers from the end.
        stored = b"\x01" + reply.encode() if reply.isascii() else b"\x02" + reply.encode("utf-16-le")
        (folder / f"seed_{place}").write_bytes(stored + b"\x00")
    atheris.Setup(
        [sys.argv[0], f"-runs={number}", "-max_len=4096", "-len_control=0", "-rss_limit_mb=4096", str(folder)], one
    )
    atheris.Fuzz()


def ordinary() -> None:
    """Tell the CPU time of reading and checking replies of a usual length, the median of 300 times each."""
    from statistics import median

    from replan.planner.plans.lint import lint
    from test_reply_fuzz import read_and_check

    thought = (
        "The user speaks of the things on the table. The spoon lies on the right, the cups stand on the left. " * 6
    )
    for count in (1, 3, 6, 12):
        items = [f'{{"bbox_2d": [{20 * n}, {30 * n}, {20 * n + 90}, {30 * n + 110}], '
                 f'"point_2d": [{20 * n + 45}, {30 * n + 55}], '
                 f'"hint": "the cup number {n} is painted blue with a white rim"}}' for n in range(count)]  # fmt: skip
        good = f"<think>{thought}</think><gen_image>warm light</gen_image><region>[{', '.join(items)}]</region>"
        for kind, reply in (
            ("well-formed", good),
            ("to be repaired", good.replace('"hint": "', "'hint': '").replace('rim"', "rim'")),
        ):
            assert len(read_and_check(reply).regions) == count and lint(read_and_check(reply)) is not None
            times = []
            for _ in range(300):
                began = time.thread_time()
                read_and_check(reply)
                times.append(time.thread_time() - began)
            print(f"{kind}, {count} regions, {len(reply)} characters: {median(times) * 1000:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", type=int, default=0)
    parser.add_argument("--time", action="store_true")
    given = parser.parse_args()
    if given.time:
        ordinary()
    elif given.atheris:
        by_coverage(given.atheris)
    else:
        by_mutation(given.mutations or 2000, given.seed)


if __name__ == "__main__":
    main()

"""Pages on which people say which of two edits they prefer, and their votes read back.

The page is one folder of static files that opens from the disk: the original, the instruction, and both edits side by
side without names, in an order drawn from the seed. What is what stands in a key file beside the folder, not in it.

    python tools/iv_edit/preference.py make runs/iv plain replan --out votes/page
    python tools/iv_edit/preference.py read votes/page.key.json anna.json ben.json
"""

from __future__ import annotations

import argparse
import html
import json
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path.insert(0, str(TOOLS))
    from bench import import_pack

    import_pack()

from replan.planner.plan import PlanError  # noqa: E402
from replan.tools.batches.config import print_anything, whole  # noqa: E402
from replan.tools.batches.items import BatchError  # noqa: E402
from replan.tools.batches.results import write_whole  # noqa: E402
from replan.tools.iv_edit.figures import mean_of  # noqa: E402
from replan.tools.iv_edit.image_files import read_rgb  # noqa: E402
from replan.tools.iv_edit.records import Record, read_records  # noqa: E402
from replan.tools.iv_edit.report import IMAGE, methods_of  # noqa: E402

CHOICES = ("left", "right", "same")
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Which edit is better?</title>
<style>
body {{ font: 16px sans-serif; margin: 2em auto; max-width: 90em; padding: 0 1em }}
section {{ border-top: 1px solid #888; padding: 1em 0 }}
.row {{ display: flex; gap: 1em }} figure {{ flex: 1; margin: 0 }} img {{ width: 100% }}
label {{ margin-right: 1.5em }} .done {{ background: #8882 }}
</style>
<h1>Which edit is better?</h1>
<p>Each instruction was carried out twice. Choose the result that does what was asked and leaves the rest alone. Your
votes stay in this browser until you save them.</p>
{items}
<p><button id="save">Save my votes</button> <span id="count"></span></p>
<script>
const name = "votes {page}", votes = JSON.parse(localStorage.getItem(name) || "{{}}");
const show = () => {{
  document.getElementById("count").textContent = Object.keys(votes).length + " of {total}";
  for (const one of document.querySelectorAll("section")) one.classList.toggle("done", one.id in votes);
}};
for (const input of document.querySelectorAll("input")) {{
  input.checked = votes[input.name] === input.value;
  input.onchange = () => {{
    votes[input.name] = input.value; localStorage.setItem(name, JSON.stringify(votes)); show();
  }};
}}
document.getElementById("save").onclick = () => {{
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify({{page: "{page}", votes}})], {{type: "application/json"}}));
  link.download = "votes.json"; link.click();
}};
show();
</script></html>
"""
_ITEM = """<section id="{key}"><p>{number}. {instruction}</p><div class="row">
<figure><img src="{key}_original.png" alt=""><figcaption>Original</figcaption></figure>
<figure><img src="{key}_left.png" alt=""><figcaption>Left</figcaption></figure>
<figure><img src="{key}_right.png" alt=""><figcaption>Right</figcaption></figure></div>
<p><label><input type="radio" name="{key}" value="left"> left is better</label>
<label><input type="radio" name="{key}" value="same"> no difference</label>
<label><input type="radio" name="{key}" value="right"> right is better</label></p></section>
"""


def make(
    records: Sequence[Record], folders: Mapping[str, Path], out: Path, seed: int = 0, limit: int | None = None
) -> int:
    """Write a page and its key; how many pairs it shows. folders: of the two methods, by name.

    Which is left, and the order of the pairs, follow from the seed. Raises BatchError when no record has both edits.
    """
    first, second = folders
    drawn = random.Random(seed)
    both = [one for one in records if all((folder / one.id / IMAGE).is_file() for folder in folders.values())]
    if not both:
        raise BatchError(f"no record has an image of both {first} and {second}")
    drawn.shuffle(both)
    both = both[:limit]
    # Of all that it shows: votes on one page must not count on another, in a browser neither.
    shown = [
        [one.id, *(sha256((folder / one.id / IMAGE).read_bytes()).hexdigest() for folder in folders.values())]
        for one in both
    ]
    page = sha256(json.dumps([first, second, seed, shown]).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    out.mkdir(parents=True, exist_ok=True)
    key: dict = {"page": page, "methods": [first, second], "seed": seed, "pairs": {}}
    items = []
    for number, record in enumerate(both, 1):
        left, right = drawn.sample((first, second), 2)
        name = f"p{number:04d}"
        try:
            read_rgb(record.image).save(out / f"{name}_original.png")  # upright, and of a kind that browsers show
        except PlanError as error:
            raise BatchError(f"row {record.row}, {record.name}: {error}, or take its record out of the run") from None
        for side, method in (("left", left), ("right", right)):
            shutil.copyfile(folders[method] / record.id / IMAGE, out / f"{name}_{side}.png")
        key["pairs"][name] = {"id": record.id, "left": left, "right": right}
        shown = html.escape(record.instruction)
        items.append(_ITEM.format(key=name, number=number, instruction=shown))
    text = _PAGE.format(items="".join(items), page=page, total=len(both))
    write_whole(out / "index.html", text.encode("utf-8", "replace"))
    write_whole(key_of(out), json.dumps(key, indent=1).encode())
    return len(both)


def key_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.key.json")


def read(key: Mapping, votes: Sequence[Mapping]) -> dict:
    """Votes by method: wins, how often there was no difference, and the second one's share of wins.

    "No difference" is half a win for both. share: the mean over pairs of the mean of their votes; error: its standard
    error over pairs, for votes on one pair depend on each other. Raises BatchError for votes of another page or that
    are none.
    """
    if not isinstance(key, Mapping) or not {"page", "methods", "pairs"} <= set(key):
        raise BatchError("the first file is no key of a page; give NAME.key.json, then the files of votes")
    first, second = key["methods"]
    counts = {first: 0, second: 0, "same": 0}
    by_pair: dict[str, list[float]] = {}
    for one in votes:
        if not isinstance(one, Mapping) or one.get("page") != key["page"] or not isinstance(one.get("votes"), Mapping):
            raise BatchError(f"these are no votes of page {key['page']}; give the files that its button saved")
        for name, choice in one["votes"].items():
            if name not in key["pairs"] or choice not in CHOICES:
                raise BatchError(f"a vote of page {key['page']} says {choice!r} of {name!r}, which it does not offer")
            winner = "same" if choice == "same" else key["pairs"][name][choice]
            counts[winner] += 1
            by_pair.setdefault(name, []).append(0.5 if winner == "same" else float(winner == second))
    share = mean_of(sum(votes) / len(votes) for votes in by_pair.values())
    total = sum(map(len, by_pair.values()))
    return {
        "methods": [first, second], "votes": total, "pairs": share.count, "counts": counts, "share": share.value,
        "error": share.error,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    print_anything()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="what", required=True)
    making = parts.add_parser("make", help="write a page")
    making.add_argument("run", type=Path)
    making.add_argument("first")
    making.add_argument("second")
    making.add_argument("--out", type=Path, required=True, help="the page's folder; the key goes beside it")
    making.add_argument("--results", action="append", default=[], metavar="NAME=FOLDER")
    making.add_argument("--seed", type=int, default=0)
    making.add_argument("--limit", type=whole, metavar="N", help="no more than so many pairs")
    reading = parts.add_parser("read", help="count votes")
    reading.add_argument("key", type=Path)
    reading.add_argument("votes", type=Path, nargs="+")
    args = parser.parse_args(arguments)
    try:
        if args.what == "make":
            folders = methods_of(args.run, args.results)
            for name in (args.first, args.second):
                if name not in folders:
                    raise BatchError(f"there is no method {name}, only {', '.join(folders)}")
            if args.first == args.second:
                raise BatchError("two different methods are compared")
            chosen = {name: folders[name] for name in (args.first, args.second)}
            count = make(read_records(args.run), chosen, args.out, args.seed, args.limit)
            print(f"{count} pairs: {args.out / 'index.html'}; what is what: {key_of(args.out)}, for you alone")
        else:
            key, *votes = (json.loads(file.read_text(encoding="utf-8")) for file in (args.key, *args.votes))
            found = read(key, votes)
            first, second = found["methods"]
            print(", ".join(f"{name}: {count}" for name, count in found["counts"].items()))
            if found["votes"]:
                bound = "" if found["error"] is None else f" ± {found['error']:.2f}"
                print(
                    f"{second} was preferred in {found['share']:.2f}{bound} of {found['pairs']} pairs, by "
                    f"{found['votes']} votes (0.5: no matter)"
                )
    except (BatchError, OSError, ValueError) as error:
        print(f"preference.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

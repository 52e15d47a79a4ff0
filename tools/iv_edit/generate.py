"""Edit records by a workflow: `python tools/iv_edit/generate.py WORKFLOW RECORDS --method replan --out RUN`.

WORKFLOW is a file in ComfyUI's API format, so any graph of any model can be evaluated. RECORDS is what records.py
reads, or a run's folder. Results are RUN/<method>/<id>/final_result.png, as upstream's; the work is tools/batch.py's,
whose options (--servers, --shard, --ray, --config, ...) hold here too. The same command goes on where it was stopped.

Examples:  python tools/iv_edit/generate.py plain_api.json iv_edit/data --split test --method plain --out runs/iv
           python tools/iv_edit/generate.py planner_api.json runs/iv --method replan --out runs/iv
           python tools/iv_edit/generate.py plan_api.json runs/iv --method perturbed_20 --plans replan --out runs/iv
           python tools/iv_edit/generate.py plan_api.json runs/iv --method sequential --plans replan --out runs/iv
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path.insert(0, str(TOOLS))
    from bench import import_pack

    import_pack(needs="PIL")

from replan.planner.plan import RegionPlan  # noqa: E402
from replan.planner.plans.plan_json import plan_to_json  # noqa: E402
from replan.planner.replies.notices import COORDINATES  # noqa: E402
from replan.tools.batches.cluster import PACKAGES  # noqa: E402
from replan.tools.batches.config import Keys, parse, print_anything  # noqa: E402
from replan.tools.batches.items import BatchError  # noqa: E402
from replan.tools.batches.results import IMAGE, RECORD, write_whole  # noqa: E402
from replan.tools.batches.workflow import Workflow  # noqa: E402
from replan.tools.iv_edit.methods import METHODS, method_of, one_by_one, plan_of_result, plans, recorded_plan  # noqa: E402
from replan.tools.iv_edit.records import FOLDER, Record, add_source_options, source_of, table_rows, write_records  # noqa: E402
from replan.tools.own_environment import run_there  # noqa: E402

ROUNDS = ".sequential"  # in the run's folder: the results after one region, two regions, ...


def options(batch) -> argparse.ArgumentParser:
    """The batch tool's options and those of records and methods."""
    parser = batch.options()
    parser.description = __doc__
    parser.add_argument("--method", metavar="NAME", help=f"{', '.join(METHODS)}")
    parser.add_argument("--plans", metavar="METHOD", help="plans of that method's results (default: the records' own)")
    parser.add_argument(
        "--coordinates", choices=COORDINATES, default="auto", help="what boxes of the records' answers count (auto)"
    )
    parser.add_argument("--texts", type=Path, metavar="FILE", help="rephrased: a table with id and instruction")
    parser.add_argument("--perturb-seed", type=int, default=0, metavar="N", help="other moves of box corners (0)")
    add_source_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    print_anything()
    import batch

    keys = Keys()

    def say(text: str) -> None:
        print(keys.hide(text), flush=True)

    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        args, only = parse(options(batch), arguments, batch.ONLY_IN_FILE)
        if not args.method or not args.out:
            raise BatchError("--method NAME and --out RUN say how to edit and where the results go")
        batch.check(args)
        if args.ray and not args.dry_run and importlib.util.find_spec("ray") is None:
            return run_there(__file__, arguments, "ray", PACKAGES)
        return generate(args, lambda changed: batch.batch(changed, only, keys, say), say)
    except (BatchError, OSError) as error:
        print(keys.hide(f"generate.py: {error}"), file=sys.stderr)
        return 2


def generate(args: argparse.Namespace, edit: Callable[[argparse.Namespace], int], say: Callable[[str], None]) -> int:
    """Write the method's table and edit it. edit: runs a batch with the batch tool's options."""
    method = method_of(args.method)
    workflow = Workflow(args.workflow)
    _check(args, workflow)
    records = write_records(source_of(args, args.out), args.out, args.limit, say)
    say(f"method {args.method}: {method.what}")
    if args.method == "rephrased" and args.texts:
        records = rephrased(records, args.texts, say)
    if "plan" not in method.columns:
        return edit(_batch(args, args.method, (_row(record) for record in records)))
    planned = _planner(args)
    found = list(plans(args.method, records, planned, args.perturb_seed, say))
    if not found:
        raise BatchError(f"no record has a plan for the method {args.method}")
    if args.method == "sequential":
        return _sequential(args, found, edit, say)
    return edit(_batch(args, args.method, (_row(record, plan) for record, plan in found)))


def _check(args: argparse.Namespace, workflow: Workflow) -> None:
    """Refuse a workflow that would not do what the method says."""
    nodes = [node for node in workflow.graph.values() if node["class_type"] == "RePlanPlanner"]
    if args.method == "replan" and not nodes:
        raise BatchError(f"--method replan: {workflow.file} has no RePlan Planner; for given boxes take replan_boxes")
    rephrases = [node for node in nodes if node["inputs"].get("template") == "rephrase"]
    if args.method == "rephrased" and not rephrases and not args.texts:
        raise BatchError(
            f"--method rephrased: {workflow.file} has no RePlan Planner with the template 'rephrase'; add one, or give "
            "--texts FILE with the columns id and instruction"
        )
    if args.method == "sequential" and args.shard != (1, 1):
        raise BatchError("--method sequential does not go with --shard: its rounds hold fewer and fewer records")


def _planner(args: argparse.Namespace) -> Callable[[Record], RegionPlan]:
    if not args.plans:
        return lambda record: recorded_plan(record, args.coordinates)
    folder = args.out / args.plans
    if not folder.is_dir():
        raise BatchError(f"--plans {args.plans}: {folder} is not there; edit with that method first")
    return lambda record: plan_of_result(folder / record.id)


def rephrased(records: Iterable[Record], file: Path, say: Callable[[str], None]) -> list[Record]:
    """Records with the instructions of a table; one without any there is told and left out."""
    try:
        texts = {str(row.get("id", "")): str(row.get("instruction") or "").strip() for row in table_rows(file)}
    except OSError as error:
        raise BatchError(f"--texts {file} cannot be read: {error.strerror}") from None
    found = []
    for record in records:
        text = texts.get(record.name) or texts.get(record.id)
        if text:
            found.append(replace(record, instruction=text))
        else:
            say(f"row {record.row}, {record.name}, is left out: {file} has no instruction for it")
    if not found:
        raise BatchError(f"--texts {file} has no instruction for any record; its columns are id and instruction")
    return found


def _row(record: Record, plan: RegionPlan | None = None, image: Path | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {"id": record.id, "image": str(image or record.image), "instruction": record.instruction}
    if plan is not None:
        row["plan"] = json.loads(plan_to_json(plan, None))
    return row


def _batch(args: argparse.Namespace, name: str, rows: Iterable[dict], out: Path | None = None) -> argparse.Namespace:
    """The batch tool's options for a method's table."""
    part, parts = args.shard
    table = args.out / FOLDER / f"{name}{'' if parts == 1 else f'.{part}-of-{parts}'}.items.jsonl"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(table, text.encode("utf-8", "backslashreplace"))
    changed = copy.copy(args)
    changed.source, changed.out, changed.limit = table, out or args.out / name, None
    return changed


def _sequential(args: argparse.Namespace, found, edit, say: Callable[[str], None]) -> int:
    """One batch for each round; a record's last round is its result."""
    parts = {record.id: one_by_one(plan) for record, plan in found}
    rounds = max(map(len, parts.values()))
    status = 0
    for number in range(1, rounds + 1):
        rows = []
        for record, _ in found:
            before = args.out / ROUNDS / str(number - 1) / record.id / IMAGE
            if number > len(parts[record.id]) or (number > 1 and not before.is_file() and not args.dry_run):
                continue
            rows.append(_row(record, parts[record.id][number - 1], before if number > 1 else None))
        if not rows:
            break
        say(f"region {number} of {rounds}: {len(rows)} records")
        if args.dry_run and number > 1:
            continue
        status = max(status, edit(_batch(args, f"sequential.{number}", rows, args.out / ROUNDS / str(number))))
        if status not in (0, 1):
            return status
    for record, plan in () if args.dry_run else found:
        folders = [args.out / ROUNDS / str(number) / record.id for number in range(1, len(parts[record.id]) + 1)]
        target = args.out / "sequential" / record.id
        if (folders[-1] / IMAGE).is_file():
            target.mkdir(parents=True, exist_ok=True)
            write_whole(target / RECORD, _told_of_rounds(record, plan, folders))
            write_whole(target / IMAGE, (folders[-1] / IMAGE).read_bytes())
    return status


def _told_of_rounds(record: Record, plan: RegionPlan, folders: Sequence[Path]) -> bytes:
    """The last round's result.json with the original and the whole plan; `rounds`: what each round did."""
    rounds = [json.loads((folder / RECORD).read_text(encoding="utf-8")) for folder in folders]
    whole = {**_row(record, plan), "rounds": rounds, "seconds": round(sum(one["seconds"] for one in rounds), 3)}
    return json.dumps({**rounds[-1], **whole}, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")


if __name__ == "__main__":
    sys.exit(main())

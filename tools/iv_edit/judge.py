"""Judge edits by a model: `python tools/iv_edit/judge.py RUN --provider openai --model NAME`.

RUN is what generate.py wrote. Each RUN/<method>/<id>/final_result.png gets a judge.json beside it; the same command
goes on where it was stopped. Keys come from the environment (OPENAI_API_KEY, GEMINI_API_KEY) or a configuration file
(RePlan's api_config.yaml works), never from the command line. Needs ComfyUI's Python.

Examples:  python tools/iv_edit/judge.py runs/iv --provider openai --model gpt-4o
           python tools/iv_edit/judge.py runs/iv --provider openai --base-url http://gpu1:8000/v1 --model Qwen2.5-VL-72B
           python tools/iv_edit/judge.py runs/iv --provider google-genai --model gemini-2.5-pro --config api_config.yaml
           python tools/iv_edit/judge.py runs/iv --provider local --model models/LLM/Qwen3-VL-8B --comfyui ComfyUI
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

TOOLS = Path(__file__).resolve().parents[1]
if not __package__:
    sys.path.insert(0, str(TOOLS))
    from bench import import_pack

    import_pack(needs="torch")

from replan.planner.plan import PlanError, RegionPlan  # noqa: E402
from replan.tools.batches.config import (  # noqa: E402
    Keys,
    above_zero,
    at_least_one,
    parse,
    print_anything,
    shard,
    whole,
    zero_or_more,
)
from replan.tools.batches.items import BatchError  # noqa: E402
from replan.tools.batches.results import FolderLock, hidden, write_whole  # noqa: E402
from replan.tools.batches.run import duration  # noqa: E402
from replan.tools.iv_edit import asking, providers  # noqa: E402
from replan.tools.iv_edit.methods import plan_of_result  # noqa: E402
from replan.tools.iv_edit.records import Record, read_records  # noqa: E402
from replan.tools.iv_edit.report import IMAGE, JUDGED, methods_of  # noqa: E402
from replan.tools.own_environment import run_there  # noqa: E402

OWN = ".judge"  # in the run's folder: kept replies, what could not be judged, the lock
PATIENCE = 3  # edits after another without any reply: then the judge is gone
# What only a configuration file has; the names are those of upstream's api_config.yaml.
ONLY_IN_FILE = (
    "openai_api_key", "gemini_api_key", "credential_file", "gemini_project_id", "gemini_location", "model_name",
)  # fmt: skip
UPSTREAM_NAMES = {"vertexai": "google-genai", "genai": "google-genai"}


class Job(NamedTuple):
    """One edit to judge. fingerprint: of all that its scores follow from."""

    method: str
    record: Record
    folder: Path
    plan: RegionPlan | None
    image_sha256: str
    fingerprint: str


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--provider", choices=["openai", "google-genai", "local"], help="who is asked")
    parser.add_argument(
        "--model", metavar="NAME", help="the model, as the provider names it; local: its file or folder"
    )
    parser.add_argument("--base-url", metavar="URL", help="another address that speaks the provider's interface")
    parser.add_argument("--vertex", action="store_true", help="google-genai: by Vertex, with project and credentials")
    parser.add_argument("--comfyui", type=Path, metavar="DIR", help="local: ComfyUI's folder")
    parser.add_argument("--cpu", action="store_true", help="local: on the CPU")
    parser.add_argument("--dtype", default="default", help="local: as RePlan Load Planner's")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML or JSON with these options and the keys")
    parser.add_argument("--methods", metavar="NAME,..", help="some methods only")
    parser.add_argument("--results", action="append", default=[], metavar="NAME=FOLDER", help="results from elsewhere")
    parser.add_argument("--regions", action="store_true", help="ask about each region of the plan beside a result too")
    parser.add_argument("--limit", type=whole, metavar="N", help="the first N records only")
    parser.add_argument("--shard", type=shard, default=(1, 1), metavar="I/N", help="every N-th edit, from the I-th")
    parser.add_argument(
        "--workers", type=at_least_one, default=4, metavar="N", help="edits judged at once (4; local: 1)"
    )
    parser.add_argument("--retries", type=whole, default=asking.RETRIES, metavar="N", help="tries more for a reply (3)")
    parser.add_argument(
        "--delay", type=zero_or_more, default=asking.DELAY, metavar="S", help="first wait, then doubled (2)"
    )
    parser.add_argument("--timeout", type=above_zero, default=180, metavar="S", help="seconds for one reply (180)")
    parser.add_argument(
        "--max-tokens", type=at_least_one, default=providers.MOST_TOKENS, metavar="N", help="of a reply (4096)"
    )
    parser.add_argument(
        "--max-megapixels", type=above_zero, default=1.0, metavar="M", help="at which images are seen (1.0)"
    )
    parser.add_argument("--ask-again", action="store_true", help="ask questions anew that got no clear answer")
    return parser


def read(arguments: Sequence[str], keys: Keys) -> tuple[argparse.Namespace, dict]:
    """The options, those of a configuration file below those of the command line."""

    def adapt(config: dict) -> dict:
        for name in ("openai_api_key", "gemini_api_key"):
            keys.add(str(config.get(name) or ""))
        provider = config.get("provider")
        named = {"vertex": provider == "vertexai", **config, "provider": UPSTREAM_NAMES.get(provider, provider)}
        return {name: value for name, value in named.items() if value is not None}

    args, only = parse(options(), arguments, ONLY_IN_FILE, adapt)
    args.model = args.model or only.get("model_name")
    if not args.provider or not args.model:
        raise BatchError("--provider (openai, google-genai, local) and --model say who judges")
    return args, only


def main(arguments: list[str] | None = None) -> int:
    print_anything()
    keys = Keys()

    def say(text: str) -> None:
        print(keys.hide(text), flush=True)

    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        args, only = read(arguments, keys)
        module = providers.MODULES.get(args.provider)
        if module and not _is_there(module):
            # torch and the rest are borrowed from this Python.
            return run_there(__file__, arguments, "judge", providers.PACKAGES, beside=True)
        return run(args, only, keys, say)
    except (BatchError, providers.JudgeError) as error:
        print(keys.hide(f"judge.py: {error}"), file=sys.stderr)
        return 2


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def provider_of(args: argparse.Namespace, only: dict, keys: Keys) -> providers.Provider:
    """Who judges. Raises JudgeError for one that cannot be."""
    if args.provider == "local":
        comfyui = args.comfyui or _set_up()
        return providers.LocalJudge(Path(args.model), comfyui, args.cpu, args.dtype, args.max_tokens)
    if args.provider == "openai":
        key = str(only.get("openai_api_key") or os.environ.get("OPENAI_API_KEY", ""))
        base_url = args.base_url or os.environ.get("OPENAI_BASE_URL") or None
        if not key and not base_url:
            raise providers.JudgeError("OpenAI wants a key: set OPENAI_API_KEY, or openai_api_key in --config FILE")
        keys.add(key)
        return providers.OpenAIJudge(args.model, base_url, key, args.timeout, args.max_tokens)
    key = str(only.get("gemini_api_key") or os.environ.get("GEMINI_API_KEY", ""))
    keys.add(key)
    vertex = None
    if args.vertex:
        project = only.get("gemini_project_id") or os.environ.get("GOOGLE_CLOUD_PROJECT")
        vertex = {"project": project, "location": only.get("gemini_location"), **_file(only)}
        if not project:
            raise providers.JudgeError("Vertex wants a project: gemini_project_id in --config FILE")
    elif not key:
        raise providers.JudgeError("Gemini wants a key: set GEMINI_API_KEY, or gemini_api_key in --config FILE")
    return providers.GoogleJudge(args.model, args.base_url, key, args.timeout, args.max_tokens, vertex)


def _file(only: dict) -> dict[str, str]:
    file = only.get("credential_file")
    if file and not Path(file).is_file():
        raise providers.JudgeError(f"credential_file {file} is not there")
    return {"credential_file": str(file)} if file else {}


def _set_up() -> Path:
    from replan.tools.host_setup import SetupError, present_host

    try:
        return present_host().comfyui
    except SetupError as error:
        raise providers.JudgeError(f"--comfyui DIR says where ComfyUI is; {error}") from None


def jobs_of(args: argparse.Namespace, provider: providers.Provider, most_pixels: int) -> Iterator[Job]:
    """The edits of this shard that have an image, method by method."""
    folders = methods_of(args.run, args.results)
    chosen = [name.strip() for name in args.methods.split(",")] if args.methods else list(folders)
    unknown = [name for name in chosen if name not in folders]
    if unknown:
        raise BatchError(f"--methods: there is no {', '.join(unknown)}, only {', '.join(folders)}")
    number = 0
    part, parts = args.shard
    records = read_records(args.run)[: args.limit]
    for method in chosen:
        for record in records:
            folder = folders[method] / record.id
            if not (folder / IMAGE).is_file():
                continue
            number += 1
            if (number - part) % parts:
                continue
            plan = _plan(folder) if args.regions else None
            image = hashlib.sha256((folder / IMAGE).read_bytes()).hexdigest()
            told = [
                provider.label, provider.model, image, _digest(Path(record.image)), record.instruction,
                record.referring, None if plan is None else repr(plan), most_pixels,
            ]  # fmt: skip
            fingerprint = hashlib.sha256(json.dumps(told).encode("utf-8", "surrogatepass")).hexdigest()
            yield Job(method, record, folder, plan, image, fingerprint)


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""  # told when it is judged


def _plan(folder: Path) -> RegionPlan | None:
    """The plan that a result was edited by, where it is known."""
    try:
        return plan_of_result(folder)
    except PlanError:
        return None


def judged(job: Job) -> dict:
    """What judge.json says of this very edit, {} for none."""
    try:
        data = json.loads((job.folder / JUDGED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) and data.get("fingerprint") == job.fingerprint else {}


class Counts:
    def __init__(self) -> None:
        self.done = self.kept = self.unanswered = self.failed = self.unreached = 0
        self.begun, self.shown, self.in_a_row = time.monotonic(), 0.0, 0


def run(args: argparse.Namespace, only: dict, keys: Keys, say) -> int:
    own = args.run / OWN
    if not args.run.is_dir():
        raise BatchError(f"{args.run}: there is no such folder; run generate.py first")
    stop = threading.Event()
    provider = provider_of(args, only, keys)
    most_pixels = round(args.max_megapixels * asking.MOST_PIXELS)
    replies = asking.Replies(own / "replies", keys.hide)
    judge = asking.Judge(provider, replies, args.retries, args.delay, most_pixels, stop, say)
    counts = Counts()
    with FolderLock(own, args.shard):
        before = signal.signal(signal.SIGINT, lambda *_: (say("finishing what was asked"), stop.set()))
        try:
            jobs = list(jobs_of(args, provider, most_pixels))
            say(f"{len(jobs)} edits, judged by {provider.model} ({provider.label})")
            if args.regions and (unplanned := sum(job.plan is None for job in jobs)):
                say(f"--regions: {unplanned} of them have no plan in result.json, so no region is asked about")
            workers = 1 if args.provider == "local" else max(1, args.workers)
            why = _all(jobs, judge, counts, workers, args, keys, say)
        finally:
            signal.signal(signal.SIGINT, before)
    say(
        f"{counts.done} judged, {counts.kept} judged before, {counts.unanswered} of them with a question without an "
        f"answer, {counts.failed} that cannot be judged, {len(jobs) - counts.done - counts.kept - counts.failed} left, "
        f"in {duration(time.monotonic() - counts.begun)} ({judge.asked} replies asked, {judge.kept} kept before)"
    )
    if why:
        raise providers.JudgeError(f"{why}; the same command goes on from here")
    if stop.is_set():
        say("stopped by Ctrl-C; the same command goes on from here")
        return 130
    return int(counts.failed + counts.unreached > 0)


def _all(jobs, judge: asking.Judge, counts: Counts, workers: int, args, keys: Keys, say) -> str:
    """Judge every edit; why it ended early, or ""."""
    waiting, flying, why = iter(jobs), {}, ""
    with ThreadPoolExecutor(workers) as pool:
        while True:
            while not why and not judge.stop.is_set() and len(flying) < workers:
                job = next(waiting, None)
                if job is None:
                    break
                found = judged(job)
                missing = (found.get("scores") or {}).get("missing") or []
                if found and not (missing and args.ask_again):
                    counts.kept += 1
                    counts.unanswered += bool(missing)
                    continue
                flying[pool.submit(_one, job, judge, missing, keys)] = job
            if not flying:
                return why
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                why = _landed(future, flying.pop(future), counts, say) or why
                if why:
                    judge.stop.set()
            _progress(counts, len(jobs), say)


def _one(job: Job, judge: asking.Judge, fresh: Sequence[str], keys: Keys) -> int:
    """Judge an edit and write it down; how many questions got no answer."""
    before, after = Path(job.record.image), job.folder / IMAGE
    scores, told = judge.judge(before, after, job.record.instruction, job.record.referring, job.plan, fresh)
    data = {
        "id": job.record.name, "method": job.method, "scores": json.loads(scores.to_json()), "questions": told,
        "provider": judge.provider.label, "model": judge.provider.model, "image_sha256": job.image_sha256,
        "fingerprint": job.fingerprint, "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }  # fmt: skip
    text = json.dumps(hidden(data, keys.hide), indent=1, ensure_ascii=False)
    write_whole(job.folder / JUDGED, text.encode("utf-8", "backslashreplace"))
    return len(scores.missing)


def _landed(future, job: Job, counts: Counts, say) -> str:
    """Count what became of an edit; why all others would fail too, or ""."""
    name = f"{job.method}/{job.record.id}"
    try:
        counts.unanswered += bool(future.result())
        counts.done += 1
        counts.in_a_row = 0
    except providers.JudgeError as error:
        return str(error)
    except providers.Busy as error:
        counts.unreached += 1
        counts.in_a_row += 1
        say(f"{name}: {error}")
        if counts.in_a_row >= PATIENCE:
            return f"{counts.in_a_row} edits after another got no reply"
    except OSError as error:
        return f"{error.filename or job.folder / JUDGED} cannot be written: {error.strerror or error}"
    except PlanError as error:
        counts.failed += 1
        say(f"{name}: {error}")
    return ""


def _progress(counts: Counts, total: int, say) -> None:
    now = time.monotonic()
    left = total - counts.done - counts.kept - counts.failed
    if now - counts.shown > 30 and counts.done and left:
        counts.shown = now
        pace = (now - counts.begun) / counts.done
        say(f"{counts.done + counts.kept} of {total} judged, about {duration(pace * left)} left")


if __name__ == "__main__":
    sys.exit(main())

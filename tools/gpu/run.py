"""Runs the check's parts in processes of their own and keeps one JSON up to date.

A part that raises, hangs, or takes its process along loses nothing but its own rest: its rows so far stay, with the
traceback or the end of the log, and the next part runs in a fresh process.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from gpu import report
from gpu.parts import HEADING, MINUTES, NAMES, PARTS, Part

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / "tools" / "gpu_check.py"
START_SECONDS = 90.0  # to load torch and ComfyUI on a cold machine
GRACE = 8.0  # a part notices itself that its time is over; after this it is ended


def unpack(folder: Path, work: Path) -> tuple[Path, Path]:
    """ComfyUI's folder and the folder of the carried packages, unpacked from the folder below `work`."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    here = ".".join(map(str, sys.version_info[:2]))
    if manifest["python"] != here:
        sys.exit(
            f"gpu_check: this folder was made for Python {manifest['python']}, and this is {here}; make it again with "
            f"`--python-version {here}`, or set PYTHON to a Python {manifest['python']} that has torch"
        )
    comfyui, site = work / "ComfyUI", work / "site"
    for archive, target in ((folder / "comfyui.zip", comfyui), *((w, site) for w in (folder / "wheels").glob("*.whl"))):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(target)
    return comfyui, site


class Results:
    """results.json, written anew after every event."""

    def __init__(self, file: Path, settings: dict):
        self.file = file
        self.data: dict = {
            "format": 1,
            "begun": datetime.datetime.now().isoformat(timespec="seconds"),
            "settings": settings,
            "machine": {},
            "finished": False,
            "seconds": 0.0,
            "parts": [],
        }
        self._begun = time.monotonic()
        self.write()

    def write(self) -> None:
        self.data["seconds"] = round(time.monotonic() - self._begun, 1)
        unfinished = self.file.with_suffix(".part")
        unfinished.write_text(json.dumps(self.data, indent=1) + "\n", encoding="utf-8")
        os.replace(unfinished, self.file)

    def part(self, name: str) -> dict:
        for part in self.data["parts"]:
            if part["name"] == name:
                return part
        part = {"name": name, "status": "running", "seconds": 0.0, "rows": [], "error": None}
        self.data["parts"].append(part)
        return part

    def close(self, name: str, error: str | None, status: str | None = None) -> None:
        """End a part: `status`, or what its rows say."""
        part = self.part(name)
        part["error"] = error
        part["status"] = status or ("error" if error else status_of(part["rows"]))
        print(f"{part['status']:>9}  {name} ({part['seconds']:.0f} s, {len(part['rows'])} rows)", flush=True)
        self.write()


def status_of(rows: list[dict]) -> str:
    if any(row.get("ok") is False or "error" in row for row in rows):
        return "failed"
    if all("left_out" in row for row in rows):
        return "left out"
    return "passed"


class Runner:
    """One run: the processes, their time, and the results."""

    def __init__(self, args: argparse.Namespace, python: str, comfyui: Path, site: Path | None, work: Path):
        self.args, self.python, self.comfyui, self.work = args, python, comfyui, work
        self.deadline = time.time() + 60 * args.minutes
        self.environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "KINETO_LOG_LEVEL": "99"}
        # Graphs compiled here are of no use to anybody later, and an earlier run's would hide what compiling takes.
        self.environment["TORCHINDUCTOR_CACHE_DIR"] = str(work / "inductor")
        if site is not None:
            paths = [str(site), os.environ.get("PYTHONPATH", "")]
            self.environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        settings = {"minutes": args.minutes, "small": args.small, "parts": args.parts, "carried": carried()}
        self.results = Results(args.out / "results.json", settings)
        self.log = args.out / "run.log"
        self.log.write_bytes(b"")

    def run(self) -> dict:
        waiting = [part for part in PARTS if part.name in self.args.parts]
        while waiting:
            if time.time() > self.deadline:
                for part in waiting:
                    self.results.close(part.name, None, "left out: the run's time was over")
                break
            batch = [waiting[0]]
            for part in waiting[1:]:
                if (part.host, part.dynamic) != (batch[0].host, batch[0].dynamic):
                    break
                batch.append(part)
            done = self._process(batch)
            waiting = [part for part in waiting if part.name not in done]
        self.results.data["finished"] = True
        self.results.write()
        return self.results.data

    def _process(self, batch: list[Part]) -> set[str]:
        """One process for parts that may share it, and the names of those it settled."""
        events = self.work / f"events{time.time_ns()}"
        events.touch()
        options = {
            "--events": events, "--comfyui": self.comfyui, "--work": self.work, "--deadline": self.deadline,
            "--stretch": self.args.minutes / MINUTES,
        }  # fmt: skip
        command = [self.python, str(COMMAND), "child", *(str(part) for pair in options.items() for part in pair)]
        command += [*(["--small"] if self.args.small else []), "--parts", *(part.name for part in batch)]
        logged = self.log.stat().st_size
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=self.environment, cwd=self.work
            )
        follower = _Follower(self.results, events)
        why = None
        limit = time.time() + START_SECONDS
        try:
            while process.poll() is None:
                if follower.read():
                    limit = follower.limit or time.time() + START_SECONDS
                if time.time() > min(limit, self.deadline) + GRACE:
                    why = "timed out"
                    break
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        follower.read()
        running = follower.running
        if running is None and follower.ended == {part.name for part in batch}:
            return follower.ended
        if running is None and follower.ended and why is None:
            return follower.ended  # the device broke: that part's own end says so
        tail = self._tail(logged)
        if running is not None:
            self.results.close(running, tail, why or f"crashed with status {process.returncode}")
            return {*follower.ended, running}
        for part in batch:  # it never began: the others of its kind would not begin either
            self.results.close(part.name, tail, why or f"crashed at start with status {process.returncode}")
        return {part.name for part in batch}

    def _tail(self, start: int) -> str:
        with self.log.open("rb") as log:
            log.seek(start)
            text = log.read().decode("utf-8", "replace")
        # From where the last part began.
        return "\n".join(text.rpartition(HEADING)[2].splitlines()[-40:])


class _Follower:
    """Reads the events of one process into the results."""

    def __init__(self, results: Results, file: Path):
        self.results, self.file, self.at = results, file, 0
        self.running: str | None = None
        self.limit: float | None = None  # when the running part's time is over
        self.ended: set[str] = set()
        self._begun = 0.0

    def read(self) -> bool:
        """Take in what came since; whether anything did."""
        with self.file.open("rb") as file:
            file.seek(self.at)
            lines = file.read().split(b"\n")
        self.at += sum(len(line) + 1 for line in lines[:-1])
        for line in lines[:-1]:
            self._take(json.loads(line))
        if self.running is not None:
            self.results.part(self.running)["seconds"] = round(time.monotonic() - self._begun, 1)
        if len(lines) > 1:
            self.results.write()
        return len(lines) > 1

    def _take(self, event: dict) -> None:
        kind = event["event"]
        if kind == "machine":
            self.results.data["machine"] |= event["facts"]
            return
        part = self.results.part(event["part"])
        if kind == "begin":
            self.running, self._begun = event["part"], time.monotonic()
            self.limit = time.time() + event["seconds"]
        elif kind == "row":
            part["rows"].append(event["row"])
        else:
            part["seconds"] = round(time.monotonic() - self._begun, 1)
            self.results.close(event["part"], event["error"])
            self.ended.add(event["part"])
            self.running = self.limit = None


def carried() -> dict | None:
    """What the folder says of itself, when this runs from one."""
    file = ROOT.parent / "manifest.json"
    if not file.is_file():
        return None
    manifest = json.loads(file.read_text(encoding="utf-8"))
    return {key: manifest[key] for key in ("commit", "made", "python", "comfyui", "wheels")}


def command(args: argparse.Namespace) -> int:
    args.parts = args.parts or list(NAMES)
    args.out.mkdir(parents=True, exist_ok=True)
    args.out = args.out.resolve()
    with tempfile.TemporaryDirectory(prefix="gpu_check_", ignore_cleanup_errors=True) as holder:
        work = Path(holder)
        if (ROOT.parent / "comfyui.zip").is_file() and not args.comfyui:
            comfyui, site = unpack(ROOT.parent, work)
            python = args.python or sys.executable
        else:
            from host_setup import host_from

            host = host_from(args)
            comfyui, site, python = host.comfyui, None, str(host.python)
        results = Runner(args, str(python), comfyui, site, work).run()
    text = report.markdown(results)
    (args.out / "report.md").write_text(text, encoding="utf-8")
    print("\n" + text)
    print(f"{args.out / 'results.json'} and report.md")
    return 0 if all(part["status"] in ("passed", "left out") for part in results["parts"]) else 1

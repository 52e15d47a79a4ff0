"""Edits on a Ray cluster: one actor for each GPU, which owns its ComfyUI and starts it again when it dies.

Images and results travel through Ray; what is written is written by the process that runs the batch, so that no shared
disk is needed. The checkout, ComfyUI and its models lie at the same paths on every machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..host_server import HostServer, PromptError, PromptTimeout, ServerError
from ..host_setup import ROOT, SetupError, present_host
from .items import BatchError
from .places import DEPTH, Edited, ServerPlace, Starting
from .workflow import Job

PACKAGES = ("ray==2.60.0", "numpy", "pillow")  # plans and scores for --redo, the records of iv_edit
STORE = 400 * 2**20  # bytes for objects on their way, where this process starts Ray itself


class Settings(NamedTuple):
    """How an actor starts its ComfyUI: paths on its machine, as text. patience: seconds until it must answer."""

    comfyui: str
    python: str
    models: str
    flags: tuple[str, ...]
    patience: float


class OwnComfyUI:
    """What runs inside an actor: a ComfyUI of its own, started when first needed and again whenever it has ended.

    Faults come back as values: (kind, message, more). Exceptions of Ray then mean that the actor is lost.
    """

    def __init__(self, settings: Settings) -> None:
        comfyui = Path(settings.comfyui)
        self.folder = Path(tempfile.mkdtemp(prefix="replan_batch_"))
        others = [path for path in sorted((comfyui / "custom_nodes").glob("*")) if not path.name.startswith((".", "_"))]
        nodes = {
            path.name: path for path in others if path.resolve() != ROOT and (path.is_dir() or path.suffix == ".py")
        }
        self.server = HostServer(
            comfyui, self.folder, ROOT, Path(settings.models), settings.python, extra_nodes=nodes, flags=settings.flags,
            timeout=settings.patience,
        )  # fmt: skip
        self.place = ServerPlace(self.server)
        self._starting = threading.Lock()

    def about(self) -> tuple[str, str]:
        """("up", which process on which machine), once ComfyUI answers, or ("fault", why it does not)."""
        try:
            self._up()
        except ServerError as error:
            return "fault", str(error)
        return "up", f"ComfyUI process {self.server.pid} on {socket.gethostname()}"

    def describe(self, node_class: str) -> Mapping[str, Any]:
        self._up()
        return self.place.describe(node_class)

    def run(self, job: Job, timeout: float) -> tuple[str, Any]:
        try:
            self._up()
            return "edited", self.place.run(job, timeout)
        except PromptError as error:
            return "prompt", (str(error), error.node_type, error.traceback)
        except PromptTimeout as error:
            return "timeout", str(error)
        except (OSError, ServerError) as error:
            return "lost", str(error)

    def cancel(self) -> None:
        self.place.cancel()

    def stop(self) -> None:
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _up(self) -> None:
        with self._starting:
            if not self.server.running():
                self.server.stop()
                self.server.start()


def _actor_class() -> type:
    """Made in a function, so that Ray sends it by value: a worker cannot import this pack before the actor does."""

    class ComfyUIActor:
        def __init__(self, root: str, settings: tuple) -> None:
            sys.path.insert(0, os.path.join(root, "tools"))
            from bench import import_pack

            import_pack()
            from replan.tools.batches.cluster import OwnComfyUI, Settings

            self.own = OwnComfyUI(Settings(*settings))

        def call(self, name: str, *arguments):
            return getattr(self.own, name)(*arguments)

    return ComfyUIActor


class RayPlace:
    """An actor as a place to edit. It is lost while its machine, its process or its ComfyUI starts again."""

    def __init__(self, ray, actor, number: int) -> None:
        self.ray, self.actor, self.number, self.depth = ray, actor, number, DEPTH
        self.name = self.about = f"actor {number}"
        self._asked, self._up, self._ours = self.actor.call.remote("about"), False, 0
        self._lock = threading.Lock()

    def busy(self) -> int:
        if self._up:
            return self._ours
        if not self.ray.wait([self._asked], timeout=0)[0]:
            raise Starting("its ComfyUI is starting")
        try:
            kind, about = self.ray.get(self._asked)
        except self.ray.exceptions.RayError as error:
            self._ask()
            raise ServerError(_ended(error)) from None
        if kind == "fault":
            self._ask()
            raise ServerError(about)
        self.about, self._up = f"{self.name}, {about}", True
        return self._ours

    def describe(self, node_class: str) -> Mapping[str, Any]:
        return self.ray.get(self.actor.call.remote("describe", node_class))

    def run(self, job: Job, timeout: float) -> Edited:
        with self._lock:
            self._ours += 1
        try:
            kind, answer = self.ray.get(self.actor.call.remote("run", job, timeout))
        except self.ray.exceptions.RayError as error:
            self._ask()
            raise ServerError(_ended(error)) from None
        finally:
            with self._lock:
                self._ours -= 1
        if kind == "edited":
            return answer
        if kind == "prompt":
            raise PromptError(*answer)
        if kind == "timeout":
            raise PromptTimeout(answer)
        self._ask()
        raise ServerError(answer)

    def cancel(self) -> None:
        self.actor.call.remote("cancel")

    def stop(self):
        return self.actor.call.remote("stop")

    def _ask(self) -> None:
        self._up, self._asked = False, self.actor.call.remote("about")


def start(args: argparse.Namespace, say: Callable[[str], None]) -> tuple[list[RayPlace], Callable[[], None]]:
    """Join or start Ray and its actors; waits until one has its ComfyUI up. Raises BatchError when none can."""
    settings = settings_of(args)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here = args.ray == "local"
    if here:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nobody else reaches a Ray that lives for one command
    import ray

    try:
        if here:
            count = args.actors or 1
            ray.init(
                address="local", include_dashboard=False, log_to_driver=False, object_store_memory=STORE,
                logging_level="ERROR", num_cpus=max(count, os.cpu_count() or 1),
            )  # fmt: skip
        else:
            ray.init(address=args.ray, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BatchError(f"--ray {args.ray}: {_first_line(error)}") from None
    gpus = int(ray.cluster_resources().get("GPU", 0))
    count = args.actors or gpus or 1
    if not settings.flags and not gpus:
        settings = settings._replace(flags=("--cpu",))
    # A restarted actor gets no old task: what was lost is given out again here, and counted.
    made = ray.remote(_actor_class()).options(
        num_gpus=1 if gpus else 0, num_cpus=1, max_restarts=-1, max_task_retries=0, max_concurrency=DEPTH + 2
    )
    say(f"Ray: {count} ComfyUI" + "s" * (count != 1) + f", {gpus} GPUs in the cluster; starting ...")
    places = [RayPlace(ray, made.remote(str(ROOT), tuple(settings)), number) for number in range(1, count + 1)]

    def close() -> None:
        ray.wait([place.stop() for place in places], num_returns=len(places), timeout=30)
        ray.shutdown()

    try:
        _wait_for_one(ray, places, args.patience)
    except BaseException:
        close()
        raise
    return places, close


def _wait_for_one(ray, places: list[RayPlace], patience: float) -> None:
    asked = {place._asked: place for place in places}
    faults = []
    while asked:
        ready, _ = ray.wait(list(asked), timeout=patience)
        if not ready:
            raise BatchError(f"no actor has its ComfyUI up after {patience:.0f} s; has the cluster room for one?")
        place = asked.pop(ready[0])
        try:
            place.busy()
            places.sort(key=lambda one: one is not place)
            return
        except ServerError as error:
            faults.append(f"{place.name}: {error}")
    raise BatchError("no ComfyUI starts in the cluster\n" + faults[0])


def settings_of(args: argparse.Namespace) -> Settings:
    """Where ComfyUI is: as the options say, else the one that `tools/host_setup.py` set up. Raises BatchError."""
    how = (tuple(args.flags.split()), args.patience)
    if not args.comfyui:
        try:
            host = present_host()
        except SetupError as error:
            raise BatchError(
                f"--ray needs --comfyui DIR and --python PY, or ComfyUI in this checkout: {error}"
            ) from None
        return Settings(str(host.comfyui), args.python or str(host.python), args.models or str(host.models), *how)
    comfyui = Path(args.comfyui)
    name = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    near = [folder / name for folder in (comfyui / ".venv", comfyui / "venv") if (folder / name).is_file()]
    if not args.python and not near:
        raise BatchError(f"--ray: say by --python which Python runs ComfyUI; there is no {comfyui / '.venv' / name}")
    return Settings(str(comfyui), args.python or str(near[0]), args.models or str(comfyui / "models"), *how)


def _ended(error: BaseException) -> str:
    """What a lost actor means, in place of Ray's own paragraph."""
    return f"its process or machine is gone ({type(error).__name__}); Ray starts it again"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}".rstrip(": ")

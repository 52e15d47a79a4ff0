"""Queue prompts on a ComfyUI server over its HTTP API; start the real one with this pack, and stop it again.

Standard library only, so that the system's Python can drive a server that runs in the private environment.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

NOT_THE_PACK = (".*", "tests", "tools", "out", "__pycache__")
CHILD = Path(__file__).resolve().with_name("comfyui_child.py")
# On Windows Ctrl-C goes to every process of a group: the server gets one of its own and is stopped by `stop`.
_NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
# A proxy set for the registry must not stand between us and our own machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerError(RuntimeError):
    """The server did not start, or went away; the message ends with the last lines of its log."""


class PromptTimeout(ServerError):
    """A prompt took longer than it was given; the server is there."""


class PromptError(RuntimeError):
    """A prompt was refused or failed: which node, and what it said. `node_type` is None for the whole prompt."""

    def __init__(self, message: str, node_type: str | None = None, traceback: str = ""):
        super().__init__(message)
        self.node_type = node_type
        self.traceback = traceback


class Node(NamedTuple):
    """A node of a graph; `node[1]` is its second output, and the node itself stands for its first."""

    id: str

    def __getitem__(self, output: int) -> list:
        return [self.id, output]


class Graph:
    """Builds a prompt in ComfyUI's API format: `{id: {"class_type": ..., "inputs": {...}}}`.

    >>> graph = Graph()
    >>> image = graph.add("LoadImage", image="cat.png")
    >>> saved = graph.add("SaveImage", images=image, filename_prefix="copy")
    """

    def __init__(self) -> None:
        self.prompt: dict[str, dict] = {}

    def add(self, class_type: str, **inputs) -> Node:
        """Add a node; an input is a value, a `Node` (its first output) or `node[i]`."""
        node = Node(str(len(self.prompt) + 1))
        links = {key: value[0] if isinstance(value, Node) else value for key, value in inputs.items()}
        self.prompt[node.id] = {"class_type": class_type, "inputs": links}
        return node


class Result(NamedTuple):
    """What a finished prompt left: each node's output for the page, and the nodes that did not need to run again.

    seconds: from queueing to its end. ran: the seconds of them in which the server worked on it.
    """

    prompt_id: str
    outputs: dict[str, dict]
    seconds: float
    cached: tuple[str, ...]
    ran: float = 0.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def taken(port: int) -> bool:
    """Whether something on this machine answers on a port: it would be taken for the server."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Client:
    """Speaks to a ComfyUI server by its HTTP API. `url` has no path but where a proxy serves it below one.

    headers: sent with every request, for a server behind a login.
    """

    def __init__(self, url: str, headers: Mapping[str, str] = {}) -> None:
        self.url, self.headers = url.rstrip("/"), dict(headers)

    def running(self) -> bool:
        """Whether to ask at all; a server of one's own knows when it has ended."""
        return True

    def log_end(self, lines: int = 40) -> str:
        return ""

    def _open(
        self, path: str, data: bytes | None = None, headers: Mapping[str, str] = {}, timeout: float = 60
    ) -> bytes:
        if not self.running():
            raise ServerError(f"ComfyUI is not running.\n{self.log_end()}")
        request = urllib.request.Request(self.url + path, data=data, headers={**self.headers, **headers})
        with _OPENER.open(request, timeout=timeout) as answer:
            return answer.read()

    def get(self, path: str, timeout: float = 60):
        """GET a path of the server and parse the JSON."""
        answer = self._open(path, timeout=timeout)
        try:
            return json.loads(answer)
        except ValueError:
            raise ServerError(f"{self.url}{path} answered no JSON: this is not ComfyUI, or a login before it") from None

    def post(self, path: str, body: dict):
        """POST JSON to a path of the server; parse the JSON answer, if there is one."""
        answer = self._open(path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return json.loads(answer) if answer.strip() else None

    def upload_image(self, file: Path | str | bytes, name: str | None = None) -> str:
        """Put an image (a file, or its bytes and a name) into the server's input folder; the name LoadImage wants."""
        if isinstance(file, bytes):
            contents, name = file, name or "image.png"
        else:
            contents, name = Path(file).read_bytes(), name or Path(file).name
        boundary = uuid.uuid4().hex
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + contents + f"\r\n--{boundary}--\r\n".encode()
        try:
            answer = self._open("/upload/image", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                raise
            raise PromptError(f"the server refuses the image: {error.code} {error.reason}") from None
        return json.loads(answer)["name"]

    def queue(self, prompt: Graph | dict) -> str:
        """Queue a prompt; its id. PromptError when the server refuses it, naming the inputs it complains about."""
        prompt = prompt.prompt if isinstance(prompt, Graph) else prompt
        try:
            return self.post("/prompt", {"prompt": prompt})["prompt_id"]
        except urllib.error.HTTPError as error:
            try:
                answer = json.loads(error.read())
            except ValueError:  # not ComfyUI but a proxy before it
                raise ServerError(f"{self.url} answered {error.code} {error.reason}") from None
            raise _refusal(answer) from None

    def wait(self, prompt_id: str, timeout: float = 300) -> Result:
        """Follow a queued prompt to its end; PromptError when a node fails or the run is interrupted.

        ServerError after `timeout` seconds, or when the server no longer knows the prompt (it was started anew).
        """
        begun = asked = time.monotonic()
        while True:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                break
            now = time.monotonic()
            if now - begun > timeout:
                raise PromptTimeout(f"prompt {prompt_id} did not end in {timeout:.0f} s.\n{self.log_end()}".rstrip())
            if now - asked > 2:
                asked = now
                if not self.knows(prompt_id):
                    raise ServerError(f"{self.url} no longer knows prompt {prompt_id}: it was started anew")
            time.sleep(min(0.5, 0.03 + (now - begun) / 50))
        seconds = time.monotonic() - begun
        cached: tuple[str, ...] = ()
        for event, data in entry["status"]["messages"]:
            if event == "execution_cached":
                cached = tuple(data["nodes"])
            if event == "execution_error":
                where = f"{data['node_type']} (node {data['node_id']})"
                raise PromptError(
                    f"{where}: {data['exception_message'].strip()}", data["node_type"], "".join(data["traceback"])
                )
            if event == "execution_interrupted":
                raise PromptError(f"interrupted at {data['node_type']} (node {data['node_id']})", data["node_type"])
        times = [data["timestamp"] for _, data in entry["status"]["messages"] if "timestamp" in data]
        ran = (max(times) - min(times)) / 1000 if times else seconds
        return Result(prompt_id, entry["outputs"], seconds, cached, ran)

    def jobs(self) -> list[str]:
        """Ids of the prompts that the server runs and of those that wait, anybody's."""
        queue = self.get("/queue", timeout=30)  # one that computes on all its cores answers late
        return [entry[1] for part in ("queue_running", "queue_pending") for entry in queue[part]]

    def knows(self, prompt_id: str) -> bool:
        # In this order: between the two answers a prompt may end, but not begin.
        return prompt_id in self.jobs() or prompt_id in self.get(f"/history/{prompt_id}")

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, or interrupt it where it runs; others' prompts go on."""
        self.post("/queue", {"delete": [prompt_id]})
        self.post("/interrupt", {"prompt_id": prompt_id})

    def forget(self, prompt_id: str) -> None:
        """Let the server forget a finished prompt; its files stay."""
        self.post("/history", {"delete": [prompt_id]})

    def run(self, prompt: Graph | dict, timeout: float = 300) -> Result:
        """Queue a prompt and follow it to its end."""
        return self.wait(self.queue(prompt), timeout)

    def images(self, result: Result, node: Node | str) -> list[bytes]:
        """The files of the images that one node of a finished prompt saved or previewed, as they are."""
        key = node.id if isinstance(node, Node) else node
        pictures = result.outputs.get(key, {}).get("images", [])
        if not pictures:
            raise PromptError(f"node {key} left no picture; nodes with output: {sorted(result.outputs)}")
        return [self._open("/view?" + urllib.parse.urlencode(picture)) for picture in pictures]


class HostServer(Client):
    """A ComfyUI server on a free port of this machine, as a context manager.

    `comfyui` is ComfyUI's folder, `python` the interpreter that has what it needs (default: this one),
    `base` an empty or earlier base folder for input, output and custom nodes, `models` a models folder,
    `pack` the checkout to link as a custom node, `extra_nodes` more custom nodes (name: folder or file).
    The log is `base/server.log`.
    """

    def __init__(
        self,
        comfyui: Path,
        base: Path,
        pack: Path | None = None,
        models: Path | None = None,
        python: Path | str = sys.executable,
        port: int | None = None,
        extra_nodes: Mapping[str, Path] | None = None,
        flags: Sequence[str] = ("--cpu",),
        timeout: float = 180,
    ) -> None:
        self.comfyui, self.base, self.python = Path(comfyui), Path(base).resolve(), str(python)
        self.models = Path(models).resolve() if models else self.base / "models"
        self.nodes = dict(extra_nodes or {})
        if pack:
            self.nodes["replan"] = Path(pack)
        self.port = port or free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.flags, self.timeout = tuple(flags), timeout
        self.log = self.base / "server.log"
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> HostServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and wait until it answers; ServerError with the log's end otherwise."""
        if taken(self.port):
            raise ServerError(f"another program answers on port {self.port} already; stop it, or choose another port")
        for folder in ("input", "output", "temp", "user", "custom_nodes"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        self.models.mkdir(parents=True, exist_ok=True)
        for name, source in self.nodes.items():
            link(Path(source), self.base / "custom_nodes" / name)
        command = [
            self.python, str(CHILD), str(os.getpid()), "--port", str(self.port), "--base-directory", str(self.base),
            "--models-directory", str(self.models), "--disable-api-nodes",
            "--database-url", "sqlite:///:memory:", *self.flags,
        ]  # fmt: skip
        # Threads that wait should sleep: on a busy machine spinning ones make a small model ten times slower.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.comfyui, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=environment, creationflags=_NEW_GROUP,
            )  # fmt: skip
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                self.get("/system_stats", timeout=5)
                return
            except ServerError:
                raise
            except OSError as error:
                if time.monotonic() > deadline:
                    raise ServerError(f"ComfyUI did not answer in {self.timeout:.0f} s.\n{self.log_end()}") from error
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop the process, kindly first. Safe to call twice."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The server's process; None before it was started and after it was stopped."""
        return self._process.pid if self._process else None

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def log_end(self, lines: int = 40) -> str:
        return f"The end of {self.log}:\n" + "\n".join(self.log_text().splitlines()[-lines:])


def _refusal(answer: dict) -> PromptError:
    """Put the server's answer to a prompt that it will not run into words."""
    lines, first = [], None
    for node_id, about in answer.get("node_errors", {}).items():
        first = first or about["class_type"]
        for error in about["errors"]:
            lines.append(f"{about['class_type']} (node {node_id}): {error['message']}: {error['details']}")
    error = answer.get("error") or {}
    if not lines:
        text = error.get("message", "") if isinstance(error, dict) else error
        details = error.get("details", "") if isinstance(error, dict) else ""
        lines.append(f"{text} {details}".strip())
    return PromptError("\n".join(lines), first)


def link(source: Path, target: Path) -> None:
    """Make `target` the same folder or file as `source`.

    A symbolic link; on Windows, which grants those to few users, a folder becomes a junction and a file a copy. Where
    neither can be made (another network drive), a folder is copied without what the server does not need.
    """
    remove(target)
    source = source.resolve()
    try:
        target.symlink_to(source, target_is_directory=source.is_dir())
        return
    except OSError:
        pass
    try:
        import _winapi

        _winapi.CreateJunction(str(source), str(target))
    except (ImportError, OSError):  # no Windows, a file, or another drive
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*NOT_THE_PACK))
        else:
            shutil.copy2(source, target)


def remove(path: Path) -> None:
    """Delete a file, a folder, or a link or junction without what it points to. Nothing there is fine."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    junction = getattr(found, "st_reparse_tag", 0) == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    if stat.S_ISDIR(found.st_mode) and not junction:
        shutil.rmtree(path)
    else:
        os.unlink(path)

"""Where edits run: a ComfyUI server at an address. (`cluster` has the one that is an actor of Ray.)"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from ..host_server import Client, PromptError, PromptTimeout, ServerError
from .workflow import Job

# One prompt runs, one waits: the GPU does not idle while a result is fetched and the next image sent.
DEPTH = 2


class Starting(ServerError):
    """A place that is not up yet, and is asked again soon."""


class Edited(NamedTuple):
    """What a prompt gave. images: PNG files. texts: what each text preview shows, by node. seconds: it worked."""

    images: list[bytes]
    texts: Mapping[str, list[str]]
    seconds: float


class EditPlace(Protocol):
    """Something that edits. `run` raises PromptError for a prompt that fails, OSError or ServerError if it is lost."""

    name: str
    depth: int
    about: str  # where its results were made, for their records

    def busy(self) -> int:
        """How many prompts it has; OSError or ServerError when it does not answer."""

    def describe(self, node_class: str) -> Mapping[str, Any]:
        """A node class's entry of /object_info, {} for none."""

    def run(self, job: Job, timeout: float) -> Edited: ...

    def cancel(self) -> None:
        """End what runs of ours; the calls of `run` then raise."""


class ServerPlace:
    """A ComfyUI server. name: its address as it may be shown."""

    def __init__(self, client: Client, name: str = "", depth: int = DEPTH) -> None:
        self.client, self.name, self.depth = client, name or client.url, depth
        self.about = self.name
        self._run = uuid.uuid4().hex[:8]
        self._free = list(range(depth))  # uploads have a name for each prompt in flight, so they do not pile up
        self._lock, self._prompts = threading.Lock(), set()

    def busy(self) -> int:
        return len(self.client.jobs())

    def describe(self, node_class: str) -> Mapping[str, Any]:
        return self.client.get(f"/object_info/{node_class}").get(node_class, {})

    def run(self, job: Job, timeout: float) -> Edited:
        with self._lock:
            slot = self._free.pop()
        prompt_id = None
        try:
            prompt = dict(job.prompt)
            for number, (place, contents, suffix) in enumerate(job.uploads):
                name = self.client.upload_image(contents, f"replan_batch_{self._run}_{slot}_{number}{suffix}")
                node = prompt[place.node]
                prompt[place.node] = {**node, "inputs": {**node["inputs"], place.input: name}}
            prompt_id = self.client.queue(prompt)
            with self._lock:
                self._prompts.add(prompt_id)
            try:
                result = self.client.wait(prompt_id, timeout)
            except ServerError:
                self._quietly(self.client.cancel, prompt_id)
                raise
            images = self.client.images(result, job.output)
            texts = {key: list(shown["text"]) for key, shown in result.outputs.items() if "text" in shown}
            return Edited(images, texts, result.ran)
        finally:
            if prompt_id:
                self._quietly(self.client.forget, prompt_id)
            with self._lock:
                self._free.append(slot)
                self._prompts.discard(prompt_id)

    def cancel(self) -> None:
        with self._lock:
            prompts = list(self._prompts)
        for prompt_id in prompts:
            self._quietly(self.client.cancel, prompt_id)

    def _quietly(self, call, prompt_id: str) -> None:
        """What only tidies up may fail: the server may be gone."""
        with contextlib.suppress(OSError, ServerError):
            call(prompt_id)


class NoPlace:
    """For a dry run: the whole way but the edit. depth: as two servers would have."""

    name, depth, about = "nowhere", 2 * DEPTH, "nowhere"

    def busy(self) -> int:
        return 0

    def describe(self, node_class: str) -> Mapping[str, Any]:
        raise ServerError("a dry run asks no server")

    def run(self, job: Job, timeout: float) -> Edited:
        return Edited([], {}, 0.0)

    def cancel(self) -> None:
        pass


__all__ = [
    "DEPTH",
    "Edited",
    "EditPlace",
    "NoPlace",
    "PromptError",
    "PromptTimeout",
    "ServerError",
    "ServerPlace",
    "Starting",
]

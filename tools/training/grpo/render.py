"""Images of plans, made by ComfyUI servers: the least busy first, a lost one's images again on another.

What edits is a workflow in API format with the pack's nodes, as tools/batch.py takes it: any backbone is an editor.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from replan.tools.batches.items import BatchError, Item, ItemError
from replan.tools.batches.places import Edited, EditPlace, PromptError, PromptTimeout, ServerError, ServerPlace
from replan.tools.batches.workflow import Filling, Workflow
from replan.tools.host_server import Client

from .options import StageError

TRIES = 3  # of an image
ASK_AGAIN, ASK_AT_MOST = 2.0, 60.0  # seconds until a server that did not answer is asked again: longer each time


class Render:
    """A pool of places to edit. Counts images: `made`, `again` (further tries) and `excluded` (nobody could make it).

    workflow: edits by the plan that is put into it. timeout: seconds for one image. patience: seconds without any place
    before `StageError`.
    """

    def __init__(
        self, places: Sequence[EditPlace], workflow: Path, timeout: float = 300.0, patience: float = 600.0,
        seed: int = 0, say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.places, self.timeout, self.patience, self.seed, self.say = list(places), timeout, patience, seed, say
        self._columns = {"image", "plan", "seed", "instruction"}
        self._file = workflow
        self._ours = {place.name: 0 for place in places}
        self._down: dict[str, tuple[float, float]] = {}  # until when, and how long
        self._said: set[str] = set()
        self.made = self.excluded = self.again = 0
        try:
            self.filling = Filling(Workflow(workflow), self._columns)
        except BatchError as error:
            raise StageError(f"--workflow: {error}") from None

    @classmethod
    def of(cls, addresses: str, *arguments, **options) -> Render:
        """A pool of the servers at addresses with commas between them."""
        urls = [one.strip() for one in addresses.split(",") if one.strip()]
        if not urls:
            raise StageError(f"--comfyui {addresses!r} names no server; give addresses such as http://127.0.0.1:8188")
        return cls([ServerPlace(Client(url)) for url in urls], *arguments, **options)

    def check(self) -> None:
        """Raises StageError when no server answers, or one lacks a node that the workflow uses."""
        faults = []
        for place in self.places:
            try:
                place.busy()
                Filling(Workflow(self._file), self._columns).record_texts(place.describe)
            except BatchError as error:
                raise StageError(f"{place.name}: {error}") from None
            except (OSError, ServerError) as error:
                faults.append(f"{place.name} does not answer: {_words(error)}")
                self._lost(place, error)
        if len(faults) == len(self.places):
            raise StageError("; ".join(faults) + "; start ComfyUI there, or give other addresses by --comfyui")

    async def render(self, image: bytes, plan: str, instruction: str, number: int) -> bytes | None:
        """The edited image as a PNG file; None when it cannot be made.

        image: a PNG file. plan: as text. number: of the prompt; all its plans are sampled with one seed, so that they
        differ by the plan alone.
        """
        seed = int.from_bytes(hashlib.sha256(f"{self.seed} {number}".encode()).digest()[:6], "big")
        values = {"image": "image.png", "plan": plan, "instruction": instruction, "seed": seed}
        try:
            job = self.filling.job(Item(number, str(number), str(number), values, "", Path()), {"image": image})
        except ItemError as error:
            self._exclude(number, str(error))
            return None
        tried: list[str] = []
        why = ""
        while len(tried) < TRIES:
            place = await self._free(tried)
            self.again += bool(tried)
            tried.append(place.name)
            try:
                edited: Edited = await asyncio.to_thread(place.run, job, self.timeout)
                self.made += 1
                return edited.images[0]
            except PromptError as error:
                why = str(error)
                if not error.traceback:  # refused before it ran: refused again
                    break
            except PromptTimeout as error:
                why = str(error).splitlines()[0]
            except (OSError, ServerError) as error:
                why = f"{place.name} was lost: {_words(error)}"
                self._lost(place, error)
            finally:
                self._ours[place.name] -= 1
        self._exclude(number, why)
        return None

    def free(self) -> None:
        """Ask the servers to give their memory back, for a judge on the same GPU."""
        for place in self.places:
            try:
                place.client.post("/free", {"unload_models": True, "free_memory": True})
            except (OSError, ServerError) as error:
                self._lost(place, error)

    async def _free(self, tried: Sequence[str]) -> EditPlace:
        """The place with the fewest prompts, anybody's, that has room; one that was not tried where there is any."""
        alone_since = time.monotonic()
        while True:
            found = []
            for place in self.places:
                ours = self._ours[place.name]
                if ours >= place.depth or self._down.get(place.name, (0.0, 0.0))[0] > time.monotonic():
                    continue
                self._ours[place.name] += 1  # taken while it is asked
                try:
                    busy = await asyncio.to_thread(place.busy)
                    if self._down.pop(place.name, None):
                        self.say(f"{place.name} answers again")
                    found.append((place.name in tried, max(busy, ours), len(found), place))
                except (OSError, ServerError) as error:
                    self._lost(place, error)
                    self._ours[place.name] -= 1
            if found:
                best = min(found)[-1]
                for *_, place in found:
                    if place is not best:
                        self._ours[place.name] -= 1
                return best
            if any(place.name not in self._down for place in self.places):
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > self.patience:
                raise StageError(
                    f"no ComfyUI has answered for {self.patience:.0f} s ({', '.join(self._down)}); start one there, "
                    "and the same command goes on from the last checkpoint"
                )
            await asyncio.sleep(0.05)

    def _lost(self, place: EditPlace, error: Exception) -> None:
        if place.name not in self._down:
            self.say(f"{place.name} does not answer ({_words(error)}); it is asked again, others go on")
        pause = min(2 * self._down.get(place.name, (0.0, ASK_AGAIN / 2))[1], ASK_AT_MOST)
        self._down[place.name] = (time.monotonic() + pause, pause)

    def _exclude(self, number: int, why: str) -> None:
        self.excluded += 1
        first = (why.splitlines() or ["no reason"])[0]
        if first not in self._said:
            self._said.add(first)
            self.say(f"prompt {number}: no image ({first}); the reply is left out of its group")


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).splitlines()[0] if str(reason) else type(error).__name__

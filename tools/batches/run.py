"""Items to places: the least busy first, a failed item again, progress, and an end that loses nothing."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from .editing import Editor
from .items import Item, ItemError
from .places import EditPlace, PromptError, PromptTimeout, ServerError, Starting
from .results import DiskFull

ASK_AGAIN, ASK_AT_MOST = 5.0, 60.0  # seconds until a server that did not answer is asked again: longer each time
LOST = (OSError, ServerError)


class Counts:
    """What became of the items so far."""

    def __init__(self, total: int) -> None:
        self.total, self.begun = total, time.monotonic()
        self.done = self.failed = self.kept = self.again = self.other = 0

    @property
    def left(self) -> int:
        return self.total - self.done - self.failed - self.kept

    def line(self, places: int) -> str:
        """Progress in one line, with the time left at the pace so far."""
        seconds = time.monotonic() - self.begun
        parts = [f"{self.done + self.kept} of {self.total} done"]
        parts += [f"{self.kept} of them before"] * bool(self.kept) + [f"{self.failed} failed"] * bool(self.failed)
        tried = self.done + self.failed
        if tried and self.left:
            parts += [f"{seconds / tried:.2g} s an item on {places} ComfyUI" + "s" * (places != 1)]
            parts += [f"about {duration(seconds / tried * self.left)} left"]
        return ", ".join(parts)


class Try(NamedTuple):
    """An item on its way, for the `number`-th time."""

    item: Item
    number: int


class Run:
    """One pass over the items. retries: how often an item is tried again. say: takes a line for the user.

    patience: seconds to wait while no place answers. `counts` says what became of them; `stopped` why it ended early.
    """

    def __init__(
        self, items: Iterator[Item], total: int, places: list[EditPlace], editor: Editor, retries: int = 2,
        patience: float = 600, say: Callable[[str], None] = print, again: bool = False,
    ) -> None:  # fmt: skip
        self.items, self.places, self.editor, self.say = items, places, editor, say
        self.retries, self.patience, self.redo_all = retries, patience, again
        self.counts, self.stopped = Counts(total), ""
        self._said = ""  # why an item failed, as it was last told
        self._waiting: deque[Try] = deque()
        self._down: dict[str, tuple[float, float]] = {}  # places that did not answer: until when, and how long
        self._shown = 0.0

    def run(self) -> Counts:
        """Go through all items; Ctrl-C lets those on their way come home, a second one ends them."""
        before = self._listen()
        try:
            with ThreadPoolExecutor(sum(place.depth for place in self.places)) as pool:
                self._loop(pool)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return self.counts

    def _loop(self, pool: ThreadPoolExecutor) -> None:
        flying: dict[Future, tuple[EditPlace, Try]] = {}
        alone_since, none_left = None, False
        while True:
            while not self.stopped:
                place = self._free(flying)
                if place is None:
                    break
                one = self._next()
                none_left = one is None
                if none_left:
                    break
                flying[pool.submit(self.editor.edit, one.item, place, one.number)] = (place, one)
            if flying:
                alone_since = None
                for future in wait(flying, timeout=1.0, return_when=FIRST_COMPLETED).done:
                    self._landed(future, *flying.pop(future))
                self._progress()
            elif self.stopped or (none_left and not self._waiting):
                return
            else:
                alone_since = alone_since or time.monotonic()
                if time.monotonic() - alone_since > self.patience:
                    self.stopped = f"no ComfyUI has answered for {duration(self.patience)}"
                time.sleep(1.0)

    def _listen(self) -> dict[int, object]:
        """Take Ctrl-C and a request to end as `_interrupted`; what they did before."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._interrupted) for number in (signal.SIGINT, signal.SIGTERM)}

    def _free(self, flying) -> EditPlace | None:
        """The place with the fewest prompts, anybody's, among those that have room for one of ours."""
        ours = [place for place, _ in flying.values()]
        room = [place for place in self.places if ours.count(place) < place.depth and not self._is_down(place)]
        found: list[tuple[int, EditPlace]] = []
        for place in room:
            if len(self.places) == 1 and not self._down and ours:
                return place
            try:
                found.append((max(place.busy(), ours.count(place)), place))
                if self._down.pop(place.name, None):
                    self.say(f"{place.name} answers again")
            except LOST as error:
                self._lost(place, error)
        return min(found, key=lambda one: one[0])[1] if found else None

    def _next(self) -> Try | None:
        """The next item that has no result yet; what cannot be edited is written down on the way."""
        if self._waiting:
            return self._waiting.popleft()
        for item in self.items:
            try:
                if item.fault:
                    raise ItemError(item.fault)
                results = self.editor.results
                record = results.done(item) if results and not self.redo_all else None
                if record is None:
                    return Try(item, 1)
                self.counts.kept += 1
                about = record.get("workflow")
                digest = about.get("sha256") if isinstance(about, dict) else None
                self.counts.other += digest is not None and digest != self.editor.filling.workflow.digest
            except ItemError as error:
                self._failed(Try(item, 0), str(error))
        return None

    def _landed(self, future: Future, place: EditPlace, one: Try) -> None:
        try:
            future.result()
            self.counts.done += 1
        except DiskFull as error:
            self._failed(one, str(error), place)
            self.stopped = str(error)
        except ItemError as error:
            self._failed(one, str(error), place)
        except PromptError as error:
            # A prompt that was refused before it ran (no traceback) is refused again.
            self._again(one, str(error), place, final=not error.traceback)
        except PromptTimeout as error:
            self._again(one, str(error), place)
        except LOST as error:
            if not self.stopped:
                self._lost(place, error)
            self._again(one, f"{place.name} was lost: {_words(error)}", place)
        except Exception as error:  # a fault of this tool: it must not end a night's work
            self._failed(one, f"{type(error).__name__}: {error}", place)

    def _again(self, one: Try, reason: str, place: EditPlace, final: bool = False) -> None:
        if self.stopped:
            return  # neither done nor failed: the next run takes it
        if final or one.number > self.retries:
            self._failed(one, reason + (f" (tried {one.number} times)" if one.number > 1 else ""), place)
            return
        self.counts.again += 1
        self.say(f"{one.item.name}: {reason.splitlines()[0]}; trying again ({one.number + 1} of {self.retries + 1})")
        self._waiting.append(Try(one.item, one.number + 1))

    def _failed(self, one: Try, reason: str, place: EditPlace | None = None) -> None:
        self.counts.failed += 1
        shown = "as the row that failed before it" if reason == self._said else reason  # a model that is missing
        self._said = reason
        self.say(f"row {one.item.row}, {one.item.name}: {shown}")
        if self.editor.results:
            record = self.editor.record(one.item, place, one.number)
            self.editor.results.fail(one.item, {**record, "error": reason})

    def _is_down(self, place: EditPlace) -> bool:
        return self._down.get(place.name, (0.0, 0.0))[0] > time.monotonic()

    def _lost(self, place: EditPlace, error: Exception) -> None:
        if place.name not in self._down:
            self.say(f"{place.name} does not answer ({_words(error)}); it is asked again")
        pause = min(2 * self._down.get(place.name, (0.0, ASK_AGAIN / 2))[1], ASK_AT_MOST)
        pause = 1.0 if isinstance(error, Starting) else pause
        self._down[place.name] = (time.monotonic() + pause, pause)

    def _interrupted(self, *_) -> None:
        if self.stopped:
            for place in self.places:
                place.cancel()
            return
        self.stopped = "stopped by Ctrl-C"
        self.say("finishing what is on its way; Ctrl-C again ends it at once")

    def _progress(self) -> None:
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if now - self._shown >= (1 if terminal else 30) and self.counts.left:
            self._shown = now
            up = sum(place.name not in self._down for place in self.places)
            line = self.counts.line(up)
            print(f"\r{line:<100}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(4000)
    '1 h 7 min'
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(reason).splitlines()[0] if str(reason) else type(error).__name__

"""How fast this machine is now, so that limits in seconds mean the same work everywhere."""

import re
import time

_WORDS = re.compile(r"(?:(\w+)|(\d+)|([^\w\s]))\s*")
_REFERENCE = 0.0026  # CPU seconds of `_work` on the machine that the limits were set on (2 cores, Python 3.11)


def pace() -> float:
    """CPU time of a fixed piece of work over that of the reference machine, at least 1; 2 is half as fast."""
    return max(1.0, min(_measured() for _ in range(5)) / _REFERENCE)


def _measured() -> float:
    began = time.thread_time()
    _work()
    return time.thread_time() - began


def _work() -> int:
    """What reading a reply is made of: patterns, dictionaries and small strings."""
    text = '{"bbox_2d": [12, 34, 560, 780], "hint": "turn the cup red"}, ' * 150
    found: dict[str, int] = {}
    for match in _WORDS.finditer(text):
        word = match.group().strip().lower()
        found[word] = found.get(word, 0) + match.end() % 7
    return sum(found.values())

"""The configuration file of a batch, and the keys in it that no log and no result may show."""

from __future__ import annotations

import argparse
import base64
import json
import math
import re
import sys
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .items import BatchError


def read_config(file: Path) -> dict[str, Any]:
    """A YAML or JSON file of options. Raises BatchError, whose words show nothing of what the file holds."""
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BatchError(f"--config {file} cannot be read: {getattr(error, 'strerror', 'no UTF-8 text')}") from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as problem:
        if Path(file).suffix.lower() not in (".yaml", ".yml"):
            where = f" (line {problem.lineno})" if isinstance(problem, json.JSONDecodeError) else ""
            raise BatchError(f"--config {file} is no JSON{where}; a YAML file is named .yaml") from None
        found = _yaml(file, text)
    if not isinstance(found, dict):
        raise BatchError(f"--config {file}: options with their values were expected, such as 'out: results'")
    return {str(name).replace("-", "_"): value for name, value in found.items()}


def _yaml(file: Path, text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise BatchError(
            f"--config {file}: this Python has no PyYAML; use ComfyUI's Python, or write the file as JSON"
        ) from None
    try:
        return yaml.safe_load(text)
    except (ValueError, RecursionError):  # a date that is none, a number of thousands of digits
        raise BatchError(f"--config {file} is no YAML: one of its values cannot be read") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise BatchError(f"--config {file} is no YAML" + (f" (line {mark.line + 1})" if mark else "")) from None


def parse(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
    more: tuple[str, ...] = (),
    adapt: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> tuple[argparse.Namespace, dict]:
    """The options of a command line over those of its --config FILE, and what only a file has (`more`).

    adapt: what is made of the file's options before they are read. Raises BatchError.
    """
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--config", type=Path)
    file = first.parse_known_args(arguments)[0].config
    only = put_into(parser, adapt(read_config(file)), file, more) if file else {}
    return parser.parse_args(arguments), only


def shard(text: str) -> tuple[int, int]:
    """The part I of N parts that an option I/N names."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"a shard is I/N with I from 1 to N, such as 2/4; found {text!r}")
    return int(part), int(parts)


def put_into(parser: argparse.ArgumentParser, config: Mapping[str, Any], file: Path, more: tuple[str, ...]) -> dict:
    """Make a configuration the parser's defaults: the command line wins. Gives the options that only a file has.

    Raises BatchError for an option that there is none, or a value of another kind.
    """
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    unknown = sorted(set(config) - set(actions) - set(more))
    if unknown:
        raise BatchError(
            f"--config {file}: there is no option {', '.join(unknown)}; there are {', '.join([*actions, *more])}"
        )
    defaults: dict[str, Any] = {}
    for name, value in config.items():
        if name in more:
            continue
        action = actions[name]
        if isinstance(action, argparse._StoreTrueAction):
            fine, defaults[name] = isinstance(value, bool), value
        elif isinstance(action, argparse._AppendAction):
            listed = [f"{key}={column}" for key, column in value.items()] if isinstance(value, dict) else value
            listed = [listed] if isinstance(listed, str) else listed
            fine, defaults[name] = isinstance(listed, list) and all(isinstance(one, str) for one in listed), listed
        else:
            # Never a list of lists: a few aliases of YAML make one that is endless as text.
            if isinstance(value, list) and all(isinstance(one, (str, int, float)) for one in value):
                value = ",".join(map(str, value))
            fine = isinstance(value, (str, int, float)) and not isinstance(value, bool)
            try:
                defaults[name] = action.type(str(value)) if action.type and fine else value
            except (argparse.ArgumentTypeError, ValueError):
                fine = False  # its own words would show the value, which may be a key in the wrong line
            if action.choices:  # argparse looks at those of the command line only
                fine = fine and defaults[name] in action.choices
        if not fine:
            raise BatchError(f"--config {file}: {name} cannot have that value; it is: {action.help}")
    for action in actions.values():
        if not action.option_strings and action.dest in defaults:
            action.nargs = "?"  # a positional argument may then be left out
    parser.set_defaults(**defaults)
    return {name: config[name] for name in more if name in config}


def whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number from 0 was expected, found {text!r}")
    return int(text)


def at_least_one(text: str) -> int:
    if whole(text) < 1:
        raise argparse.ArgumentTypeError("a whole number from 1 was expected, found 0")
    return whole(text)


def _number(text: str) -> float:
    """NaN for a text that is no number, which no range holds."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def above_zero(text: str) -> float:
    if not 0 < _number(text) < math.inf:
        raise argparse.ArgumentTypeError(f"a number above 0 was expected, found {text!r}")
    return _number(text)


def zero_or_more(text: str) -> float:
    if not 0 <= _number(text) < math.inf:
        raise argparse.ArgumentTypeError(f"a number from 0 was expected, found {text!r}")
    return _number(text)


def share(text: str) -> float:
    if not 0 <= _number(text) <= 1:
        raise argparse.ArgumentTypeError(f"a number from 0 to 1 was expected, found {text!r}")
    return _number(text)


def print_anything() -> None:
    """Let a console that lacks a sign (an ASCII one, most of Windows) show its number instead of ending the tool."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")


class Keys:
    """Texts that are never shown: `hide` replaces them, also where JSON or a URL has written them in its own way."""

    def __init__(self) -> None:
        self._texts: set[str] = set()

    def add(self, *texts: str) -> None:
        for text in texts:
            for part in {text, *(word for word in text.split() if len(word) > 7)}:
                if len(part) > 3:  # shorter ones would tear up the words they are hidden from
                    self._texts |= {part, json.dumps(part)[1:-1], urllib.parse.quote(part, safe="")}

    def hide(self, text: str) -> str:
        for key in sorted(self._texts, key=len, reverse=True):
            text = text.replace(key, "***")
        return text


def server_of(address: str, headers: Mapping[str, str], keys: Keys) -> tuple[str, dict[str, str]]:
    """An address without name and password, and the headers to send with it. Raises BatchError."""
    text = address if "://" in address else f"http://{address}"
    try:
        parts = urllib.parse.urlsplit(text)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise BatchError("--servers: an address has a port that is no number") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BatchError("--servers: an address is http://HOST:PORT, more of them with commas between")
    if parts.query or parts.fragment:
        raise BatchError(f"--servers: {parts.hostname}: an address ends with its path; put keys into 'headers'")
    sent = dict(headers)
    if parts.username or parts.password:
        name, password = urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.password or "")
        keys.add(password)
        sent["Authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
    for value in sent.values():
        keys.add(value)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}", sent


def headers_in(config: Mapping[str, Any]) -> dict[str, str]:
    """The configuration's `headers`, sent to every server. Raises BatchError."""
    headers = config.get("headers") or {}
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise BatchError("--config: headers are names with texts, such as 'Authorization: Bearer ...'")
    for number, (name, value) in enumerate(headers.items(), 1):
        # http.client refuses these too, and shows the value.
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", str(name)):
            raise BatchError(f"--config: header {number} has a name that is none, such as Authorization is one")
        if not re.fullmatch(r"[\t\x20-\x7e\xa0-\xff]*", value):
            raise BatchError(f"--config: the header {name} holds a sign that no header may; copy its value again")
    return {str(name): value for name, value in headers.items()}

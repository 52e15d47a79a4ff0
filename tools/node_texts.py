"""Write what users read of the nodes' schemas: locales/en/nodeDefs.json and the lists in web/docs/<NodeId>.md.

    python tools/node_texts.py

It runs in the ComfyUI that tools/host_setup.py set up, or with REPLAN_COMFYUI in that folder's, by this Python.
A text lives once, as `description` or `tooltip` in nodes/; run this after you changed one. The locale file is where
translators start. On a help page only what lies between the markers is written. A test says when something is stale.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "locales" / "en" / "nodeDefs.json"
PAGES = ROOT / "web" / "docs"
BEGIN, END = "<!-- from the schema: tools/node_texts.py -->", "<!-- end -->"

# The page reads a translation as a message with placeholders ({name}) and plural forms (a | b) in one renderer and
# as plain text in the other. A text with such a character is left out: the page then shows the schema's own.
_MESSAGE_SYNTAX = re.compile(r"[{}@|$]")


def load_schemas() -> dict[str, dict]:
    """The pack's nodes as /object_info describes them, by id. ComfyUI and the pack (`replan`) must be importable."""
    from replan.nodes import RePlanExtension

    nodes = [node.GET_NODE_INFO_V1() for node in asyncio.run(RePlanExtension().get_node_list())]
    return {info["name"]: info for info in sorted(nodes, key=lambda info: info["name"])}


def write_texts(nodes: dict[str, dict]) -> dict[Path, str]:
    """Each file that holds texts of these nodes, and what it should say. ValueError for a page without markers."""
    locale = json.dumps({name: _locale(info) for name, info in nodes.items()}, indent=2) + "\n"
    pages = {PAGES / f"{name}.md": info for name, info in nodes.items()}
    return {LOCALE: locale, **{file: _page(file, info) for file, info in pages.items()}}


def _inputs(info: dict) -> list[tuple[str, str, dict, bool]]:
    """Name, type, options of each input, and whether it is optional, in the order of the node."""
    parts = [(part, key) for part in ("required", "optional") for key in info["input"].get(part, {})]
    found = [(part, key, *info["input"][part][key]) for part, key in parts]
    return [(key, kind, options, part == "optional") for part, key, kind, options in found]


def _outputs(info: dict) -> list[tuple[str, str, str | None, bool]]:
    """Name, type and tooltip of each output, and whether it is a list."""
    tooltips = info.get("output_tooltips") or [None] * len(info["output"])
    return list(zip(info["output_name"], info["output"], tooltips, info["output_is_list"], strict=True))


def _locale(info: dict) -> dict:
    inputs = {key: _plain({"name": key, "tooltip": options.get("tooltip")}) for key, _, options, _ in _inputs(info)}
    outputs = {str(i): _plain({"name": name, "tooltip": tip}) for i, (name, _, tip, _) in enumerate(_outputs(info))}
    texts = _plain({"display_name": info["display_name"], "description": info["description"]})
    return {**texts, "inputs": inputs, "outputs": outputs}


def _plain(texts: dict) -> dict:
    return {key: text for key, text in texts.items() if text and not _MESSAGE_SYNTAX.search(text)}


def _page(file: Path, info: dict) -> str:
    text = file.read_text(encoding="utf-8")
    inputs = [
        _line(key, _kind(kind, options, optional), options["tooltip"], options.get("options", ()))
        for key, kind, options, optional in _inputs(info)
    ]
    outputs = [_line(name, f"{kind}, a list" if many else kind, tip or "") for name, kind, tip, many in _outputs(info)]
    for heading, lines in (("Inputs", inputs), ("Outputs", outputs)):
        section = re.compile(rf"(^## {heading}\n\n){re.escape(BEGIN)}\n.*?{re.escape(END)}\n", re.MULTILINE | re.DOTALL)
        body = "".join((BEGIN, "\n\n", *lines, "\n", END, "\n"))
        text, count = section.subn(lambda found, body=body: found[1] + body, text)
        if count != 1:
            raise ValueError(f"{file}: below '## {heading}' and an empty line, expected '{BEGIN}' and later '{END}'")
    return text


def _line(name: str, kind: str, text: str, choices: Iterable[str] = ()) -> str:
    """One item.

    A tooltip is plain text, so what Markdown would take for a sign is escaped; a choice it explains is code.
    """
    choices = "|".join(map(re.escape, choices)) or "$^"
    parts = re.split(rf"(?<![\w'])({choices})(?=:)", text.replace("\n", " "))
    parts[1::2] = [f"`{choice}`" for choice in parts[1::2]]
    parts[::2] = [re.sub(r"[\\`*<]|(?<!\w)_|_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    return f"- **`{name}`** ({kind}): {''.join(parts)}\n"


def _kind(kind: str, options: dict, optional: bool) -> str:
    """A type in words: a widget of choices is a choice, of several types each will do, only a socket can stay free."""
    if kind == "COMFY_AUTOGROW_V3":
        ((inner, *_),) = options["template"]["input"]["required"].values()
        return f"{inner}, several"
    if kind == "COMBO":
        return "choice"
    *others, last = kind.split(",")
    words = f"{', '.join(others)} or {last}" if others else last
    return f"{words}, optional" if optional and "default" not in options else words


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if "REPLAN_COMFYUI" not in os.environ:  # start again in ComfyUI's environment
        from host_setup import SetupError, call, present_host

        try:
            host = present_host()
        except SetupError as error:
            sys.exit(f"{error}, or name a ComfyUI folder in REPLAN_COMFYUI and use its Python")
        return call([str(host.python), __file__], host)
    sys.path[:0] = [os.environ["REPLAN_COMFYUI"], str(ROOT / "tests")]
    import comfy.cli_args
    import conftest  # noqa: F401 - makes the checkout importable

    comfy.cli_args.args.cpu = True
    stale = {file: text for file, text in write_texts(load_schemas()).items() if _read(file) != text}
    for file, text in stale.items():
        file.write_text(text, encoding="utf-8", newline="\n")
        print(f"wrote {file.relative_to(ROOT)}")
    if not stale:
        print("nothing to write: every text is as the schemas say")
    return 0


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


if __name__ == "__main__":
    sys.exit(main())

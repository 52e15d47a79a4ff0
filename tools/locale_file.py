"""Write locales/en/nodeDefs.json, the texts of the nodes, from a running ComfyUI: the file translators start from.

    python tools/locale_file.py [http://127.0.0.1:8188]

The nodes' own schemas stay the source of every text; a test compares this file with them.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "locales" / "en" / "nodeDefs.json"

# The page reads a translation as a message with placeholders ({name}) and plural forms (a | b) in one renderer and
# as plain text in the other. A text with such a character is left out: the page then shows the schema's own.
_MESSAGE_SYNTAX = re.compile(r"[{}@|$]")


def locale_of(nodes: dict) -> dict:
    """The locale file for the pack's nodes, from the answer of /object_info."""
    return {name: _node(info) for name, info in sorted(nodes.items()) if name.startswith("RePlan")}


def _node(info: dict) -> dict:
    inputs = {}
    for part in ("required", "optional"):
        for key, (_, options, *_) in info["input"].get(part, {}).items():
            inputs[key] = _plain({"name": key, "tooltip": options.get("tooltip")})
    tooltips = info.get("output_tooltips") or [None] * len(info["output"])
    outputs = {
        str(i): _plain({"name": name, "tooltip": tooltip})
        for i, (name, tooltip) in enumerate(zip(info["output_name"], tooltips, strict=True))
    }
    texts = _plain({"display_name": info["display_name"], "description": info["description"]})
    return {**texts, "inputs": inputs, "outputs": outputs}


def _plain(texts: dict) -> dict:
    return {key: text for key, text in texts.items() if text and not _MESSAGE_SYNTAX.search(text)}


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8188"
    with urllib.request.urlopen(f"{url}/object_info", timeout=60) as answer:
        texts = locale_of(json.load(answer))
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(texts, indent=2) + "\n", encoding="utf-8")
    print(f"Wrote {FILE}: {len(texts)} nodes")


if __name__ == "__main__":
    main()

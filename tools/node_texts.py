"""Write what users read of the nodes, in every language: locales/<language>/nodeDefs.json and the lists in web/docs.

    python tools/node_texts.py

It runs in the ComfyUI that tools/host_setup.py set up, or with REPLAN_COMFYUI in that folder's, by this Python.

English lives once, as `description` or `tooltip` in nodes/. Another language is a table from the English text to its
own, tools/translations/<language>.json. So a text that changes has no translation any more, and its old one serves
nothing: this tool names both, and tests/unit/test_translations.py fails. Run this after you changed a text of nodes/ or
of a table. On a help page only what lies between the markers is written; the rest is written by hand, in English in
web/docs/<NodeId>.md, else in web/docs/<NodeId>/<language>.md, whose last line holds a mark of the English it follows.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LOCALES, TABLES, PAGES = ROOT / "locales", ROOT / "tools" / "translations", ROOT / "web" / "docs"
BEGIN, END = "<!-- from the schema: tools/node_texts.py -->", "<!-- end -->"


class Words(NamedTuple):
    """What the lists of a help page say besides the nodes' own texts."""

    inputs: str
    outputs: str
    choice: str
    optional: str
    several: str
    many: str
    alternative: str
    item: str
    """How the kind and the text follow a name."""


ENGLISH = Words("Inputs", "Outputs", "choice", ", optional", ", several", ", a list", " or ", " ({}): ")
# Languages whose every text and help page is translated. Those in NAMES have the nodes' and sockets' names.
WHOLE = {
    "zh": Words("输入", "输出", "选项", "，可选", "，可多个", "，列表", " 或 ", "（{}）："),
    "zh-TW": Words("輸入", "輸出", "選項", "，選用", "，可多個", "，清單", " 或 ", "（{}）："),
}
NAMES = ("ja", "ko")

# The page reads a text as a message with placeholders ({name}), links (@:name) and plural forms (a | b) in one
# renderer, and as plain text in the other. So no text may hold these characters.
MESSAGE_SYNTAX = re.compile(r"[{}@|$]")
# Inputs whose widget the page draws (web/js/common/host_widget.js, takeOver).
DRAWN = (("RePlanRegionEditor", "regions"), ("RePlanRules", "matrix"))


def load_schemas() -> dict[str, dict]:
    """The pack's nodes as /object_info describes them, by id. ComfyUI and the pack (`replan`) must be importable."""
    from replan.nodes import RePlanExtension

    nodes = [node.GET_NODE_INFO_V1() for node in asyncio.run(RePlanExtension().get_node_list())]
    return {info["name"]: info for info in sorted(nodes, key=lambda info: info["name"])}


def load_table(language: str) -> dict[str, str]:
    """The English texts and names that a language translates, and how."""
    return json.loads((TABLES / f"{language}.json").read_text(encoding="utf-8"))


def write_texts(nodes: dict[str, dict]) -> dict[Path, str]:
    """Each file that holds texts of these nodes, and what it should say.

    ValueError for a page without markers, and for a text that the page would read as a message with placeholders.
    """
    english = {name: _locale(info) for name, info in nodes.items()}
    for text in texts_of(english):
        if MESSAGE_SYNTAX.search(text):
            raise ValueError(f"ComfyUI's page would not show {{}}@|$ of this text as they are: {text}")
    pages = {PAGES / f"{name}.md": _page(PAGES / f"{name}.md", info, ENGLISH, {}) for name, info in nodes.items()}
    shown = _without_drawn(english)
    files = {locale_file("en"): shown}
    for language in (*WHOLE, *NAMES):
        table = load_table(language)
        files[locale_file(language)] = translate(shown, table)
        for name, info in nodes.items() if language in WHOLE else ():
            file = PAGES / name / f"{language}.md"
            pages[file] = _page(file, info, WHOLE[language], table)
    return {file: json.dumps(texts, indent=2, ensure_ascii=False) + "\n" for file, texts in files.items()} | pages


def locale_file(language: str) -> Path:
    return LOCALES / language / "nodeDefs.json"


def texts_of(locale: dict | str) -> set[str]:
    """Every text of a locale file's nodes."""
    return {locale} if isinstance(locale, str) else set().union(*map(texts_of, locale.values()))


def translate(locale: dict, table: dict[str, str]) -> dict:
    """The same nodes in another language; what its table lacks is left out, so the page shows the English."""
    nested = {key: translate(part, table) for key, part in locale.items() if isinstance(part, dict)}
    texts = {key: table[text] for key, text in locale.items() if isinstance(text, str) and text in table}
    return {key: part for key in locale if (part := (texts | nested).get(key))}


def english_mark(node: str) -> str:
    """The last line of a translation of the node's help page as it is now in English, its lists apart."""
    parts = (PAGES / f"{node}.md").read_text(encoding="utf-8").split(BEGIN)
    digest = hashlib.sha256("".join(part.split(END)[-1] for part in parts).encode()).hexdigest()
    return f"<!-- follows the English page {digest[:10]} -->"


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
    inputs = {key: _filled({"name": key, "tooltip": options.get("tooltip")}) for key, _, options, _ in _inputs(info)}
    outputs = {str(i): _filled({"name": name, "tooltip": tip}) for i, (name, _, tip, _) in enumerate(_outputs(info))}
    texts = _filled({"display_name": info["display_name"], "description": info["description"]})
    return {**texts, "inputs": inputs, "outputs": outputs}


def _without_drawn(locale: dict) -> dict:
    """The texts without the tooltips of inputs that the page draws: ComfyUI would show them over all of the widget."""
    locale = json.loads(json.dumps(locale))
    for node, key in DRAWN:
        if node in locale:
            locale[node]["inputs"][key].pop("tooltip", None)
    return locale


def _filled(texts: dict) -> dict:
    return {key: text for key, text in texts.items() if text}


def _page(file: Path, info: dict, words: Words, table: dict[str, str]) -> str:
    text = file.read_text(encoding="utf-8")
    inputs = [
        _item(key, _kind(kind, options, optional, words), options["tooltip"], words, table, options.get("options", ()))
        for key, kind, options, optional in _inputs(info)
    ]
    outputs = [
        _item(name, f"{kind}{words.many}" if many else kind, tip or "", words, table)
        for name, kind, tip, many in _outputs(info)
    ]
    for heading, items in ((words.inputs, inputs), (words.outputs, outputs)):
        section = re.compile(rf"(^## {heading}\n\n){re.escape(BEGIN)}\n.*?{re.escape(END)}\n", re.MULTILINE | re.DOTALL)
        body = "".join((BEGIN, "\n\n", *items, "\n", END, "\n"))
        text, count = section.subn(lambda found, body=body: found[1] + body, text)
        if count != 1:
            raise ValueError(f"{file}: below '## {heading}' and an empty line, expected '{BEGIN}' and later '{END}'")
    return text


def _item(name: str, kind: str, text: str, words: Words, table: dict[str, str], choices: Iterable[str] = ()) -> str:
    """One item of a list; two or more choices that its text explains are items below it.

    A tooltip is plain text, so what Markdown would take for a sign is escaped; a choice it explains is code.
    """
    text = table.get(text, text).replace("\n", " ")
    label = f"**{table[name]}** `{name}`" if table.get(name, name) != name else f"**`{name}`**"
    pattern = "|".join(map(re.escape, sorted(choices, key=len, reverse=True))) or "$^"
    parts = re.split(rf"(?<![\w'])({pattern})(?=[:：])", text)
    parts[::2] = [re.sub(r"[\\`*<]|(?<!\w)_|_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    parts[1::2] = [f"`{choice}`" for choice in parts[1::2]]
    head = label + words.item.format(kind)
    if len(parts) < 5:
        return f"- {head}{''.join(parts)}\n"
    explained = zip(parts[1::2], parts[2::2], strict=True)
    lines = [f"- {head}{parts[0]}".rstrip(" :："), *(f"  - {choice}{why.strip()}" for choice, why in explained)]
    return "\n".join(lines) + "\n"


def _kind(kind: str, options: dict, optional: bool, words: Words) -> str:
    """A type in words: a widget of choices is a choice, of several types each will do, only a socket can stay free."""
    if kind == "COMFY_AUTOGROW_V3":
        ((inner, *_),) = options["template"]["input"]["required"].values()
        return inner + words.several
    if kind == "COMBO":
        return words.choice
    *others, last = kind.split(",")
    kinds = f"{', '.join(others)}{words.alternative}{last}" if others else last
    return kinds + words.optional if optional and "default" not in options else kinds


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
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")
        print(f"wrote {file.relative_to(ROOT)}")
    if not stale:
        print("nothing to write: every text is as the schemas say")
    _print_untranslated()
    return 0


def untranslated(table: dict[str, str]) -> tuple[set[str], set[str]]:
    """The English texts that a table lacks, and those of it that neither the locale file nor a help page says."""
    english = texts_of(json.loads(_read(locale_file("en"))))
    pages = "".join(_read(file) for file in PAGES.glob("*.md"))
    return english - set(table), {text for text in set(table) - english if text not in pages}


def _print_untranslated() -> None:
    for language in WHOLE:
        for what, texts in zip(("not translated", "no text any more"), untranslated(load_table(language)), strict=True):
            print("".join(f"{TABLES.name}/{language}.json: {what}: {text}\n" for text in sorted(texts)), end="")
        for page in sorted(PAGES.glob(f"*/{language}.md")):
            mark = english_mark(page.parent.name)
            if not _read(page).endswith(mark + "\n"):
                print(f"{page.relative_to(ROOT)}: its English changed; when it follows, end it with {mark}")


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


if __name__ == "__main__":
    sys.exit(main())

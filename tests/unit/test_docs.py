"""What a user reads agrees with the code: pages, locale file, rule tables, quoted messages, links."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
from replan.attention import components as c
from replan.attention.families import FAMILIES
from replan.attention.rules import AUTO, PRESETS, Rules, make_rules

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PACKAGES = ("nodes", "planner", "attention", "evaluation")
PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))


def source_trees() -> dict[str, ast.Module]:
    files = [file for folder in PACKAGES for file in sorted((ROOT / folder).rglob("*.py"))]
    return {str(file.relative_to(ROOT)): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def node_ids() -> list[str]:
    """The ids in the schemas of nodes/, read without importing the host."""
    nodes = [node for name, tree in source_trees().items() if name.startswith("nodes") for node in ast.walk(tree)]
    return sorted(node.value.value for node in nodes if isinstance(node, ast.keyword) and node.arg == "node_id")


def messages() -> list[str]:
    """Every string of the pack, with an ellipsis for each value that is put in."""
    found = []
    for tree in source_trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(v.value if isinstance(v, ast.Constant) else "\u2026" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def table_rows(text: str) -> list[list[str]]:
    """The cells of all table rows of a page, without headings' rules; an escaped bar is part of its cell."""
    rows = [line.strip() for line in text.splitlines() if line.startswith("|")]
    split = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row[1:-1])] for row in rows]
    return [cells for cells in split if not set("".join(cells)) <= set("-: ")]


def test_every_node_has_a_help_page_and_texts_to_translate():
    ids = node_ids()
    assert len(ids) >= 14
    assert [page.stem for page in PAGES] == ids
    locale = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert sorted(locale) == ids


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_help_page_has_its_parts(page):
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert headings[0].startswith("RePlan ")
    for part in ("What to do", "Inputs", "Outputs", "Messages"):
        assert part in headings
    assert headings[1] == "What to do", "the steps stand first"
    opening = text.split("\n\n")[1]
    assert len(opening.splitlines()) == 2, "what it does, in two lines"


# ---- rules.md -----------------------------------------------------------------------------------------------

KINDS = {
    "Main": [c.MAIN], "ImgP": [c.IMAGE_PROMPT], "Hint": [c.HINT], "Region": [c.NOISE, c.IMAGE],
    "Background": [c.NOISE_BACKGROUND, c.IMAGE_BACKGROUND], "Reference": [c.REFERENCE],
    "Noise background": [c.NOISE_BACKGROUND], "Noise of any region": [c.NOISE],
    "everything else": list(range(len(c.KINDS))),
}  # fmt: skip


def rules_text() -> str:
    return (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")


def printed_cells(looks: str, seen: str) -> list[tuple[int, int, int]]:
    """The (query kind, key kind, same or another region) that two names of the page mean."""
    other = [1] if seen.endswith(" j") else [0] if seen.endswith(" i") else [0, 1]
    queries, keys = (KINDS[re.sub(r" [ij]$", "", name)] for name in (looks, seen))
    return [(q, k, o) for q in queries for k in keys for o in other]


def printed_tables() -> dict[tuple[str, str], np.ndarray]:
    """The tables of the page by preset and phase, as (query kind, key kind, same or another region)."""
    section = re.search(r"^### replan\n(.*?)^##", rules_text(), re.MULTILINE | re.DOTALL)[1]
    (_, *columns), *rows = table_rows(section)
    assert [row[0] for row in rows] == ["Main", "ImgP", "Hint i", "Region i", "Background", "Reference"]
    shape = (len(c.KINDS), len(c.KINDS), 2)
    sees = np.full(shape, -1)
    for query, *cells in rows:
        for key, cell in zip(columns, cells, strict=True):
            for q, k, other in printed_cells(query, key):
                sees[q, k, other] = cell == "x"
    assert (sees >= 0).all(), "every cell is printed"
    tables = {("replan", phase): sees.astype(bool) for phase in ("before", "after")}
    section = re.search(r"^### The other presets\n(.*?)^##", rules_text(), re.MULTILINE | re.DOTALL)[1]
    for preset, phase, looks, seen in table_rows(section)[1:]:
        for part in ("before", "after") if phase == "all" else (phase,):
            table = tables.setdefault((preset.strip("`"), part), tables["replan", part].copy())
            for key in seen.split(", "):
                for cell in printed_cells(looks, key):
                    table[cell] = False
    return tables


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "off"])
@pytest.mark.parametrize("phase", ["before", "after"])
def test_the_printed_rules_are_the_rules_of_the_code(preset, phase):
    """Compared as they act on three regions, where every component sees itself whatever the table says of it."""
    tables = printed_tables()
    printed = tables.get((preset, phase), tables["replan", phase])
    parts = c.components(("a", "b", "c"), True, True, (2, 3))
    sees = Rules(preset).table(parts, phase)
    for i, query in enumerate(parts):
        for j, key in enumerate(parts):
            allowed = i == j or printed[query.kind, key.kind, int(query.owner != key.owner)]
            assert sees[i, j] == allowed, (query.key, key.key)


def test_every_preset_is_listed_with_its_before_phase():
    section = re.search(r"^## Which preset\n(.*?)^##", rules_text(), re.MULTILINE | re.DOTALL)[1]
    listed = {row[0].strip("`"): row[2] for row in table_rows(section)[1:]}
    phases = {name: "no" if preset.before is None else "yes" for name, preset in PRESETS.items()}
    assert listed == {AUTO: "by family", **phases}


def test_the_cells_printed_for_use_are_cells():
    printed = re.findall(r"^    (\{(?:.|\n)*?\}\})", rules_text(), re.MULTILINE)
    assert len(printed) >= 6
    for cells in printed:
        make_rules("replan", matrix=cells)


# ---- messages and links -------------------------------------------------------------------------------------


def test_every_message_in_troubleshooting_is_one_the_pack_says():
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").split("## No error")[0]
    said = messages()
    quoted = [row[0] for row in table_rows(text) if row[0] != "Message"]
    assert len(quoted) > 40
    unknown = []
    for message in quoted:
        pattern = re.compile(".*?".join(re.escape(piece) for piece in message.split("\u2026")), re.DOTALL)
        if not any(pattern.search(one) for one in said):
            unknown.append(message)
    assert not unknown, "\n".join(unknown)


def anchors(page: Path) -> set[str]:
    """What a link can name behind `#`: the page's headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS, *PAGES], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?![a-z]+:)([^)\s#]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8"))
    for path, anchor in targets:
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_the_page_on_rules_names_the_switch_of_every_family():
    text = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("- `switch` -1: the family's default"))
    told = {}
    for names, value in re.findall(r"((?:[A-Z][\w.]*(?: and |, )?)+) (\d\.\d+)", line):
        told |= {re.sub(r"\W", "", name).lower(): float(value) for name in re.split(" and |, ", names)}
    assert told == {family.name: family.switch for family in FAMILIES.values()}

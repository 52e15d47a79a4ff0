"""Rules as values: presets, matrices, the switch, and what is refused."""

import json

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from replan.attention.components import components
from replan.attention.families import FAMILIES
from replan.attention.payload import RegionError
from replan.attention.rules import AUTO, PRESETS, Rules, describe, foreign_cells, make_rules, unknown_cells, warnings_of

IDS = ("r1", "b", "third one")
PARTS = components(IDS, True, True, (2, 3))
KEYS = [part.key for part in PARTS]


def cell(table, query, key):
    return bool(table[KEYS.index(query), KEYS.index(key)])


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "off"])
@pytest.mark.parametrize("phase", ["before", "after"])
def test_a_preset_is_its_table_in_the_reference(preset, phase):
    """`reference.allowed` says each preset a second time; a new preset needs a branch there."""
    table = Rules(preset).table(PARTS, phase)
    for i, query in enumerate(KEYS):
        for j, key in enumerate(KEYS):
            assert table[i, j] == reference.allowed(preset, phase, query, key), f"{query} -> {key}"


def test_a_matrix_changes_single_cells_by_region_id_and_by_wildcard():
    matrix = {
        "after": {"noise_background|noise:*": False, "noise_background|noise:b": True, "image_prompt|hint:*": False}
    }
    table = make_rules("replan", matrix=json.dumps(matrix))[0].table(PARTS, "after")
    assert not cell(table, "noise_background", "noise:r1")
    assert cell(table, "noise_background", "noise:b")
    assert not any(cell(table, "image_prompt", f"hint:{i}") for i in IDS)


def region_of(key):
    """The region a component belongs to, or ""."""
    kind, _, owner = key.partition(":")
    return owner if kind in ("hint", "noise", "image") else ""


@pytest.mark.parametrize(
    "query, key",
    [(q, k) for q in ("noise:*", "noise:b", "hint:r1") for k in ("hint:other", "noise:other")]
    + [("image:other", k) for k in ("image:*", "noise:b")],
)
@pytest.mark.parametrize("allowed", [True, False])
def test_other_stands_for_every_region_but_the_one_on_the_other_side(query, key, allowed):
    table = make_rules("symmetric", matrix={"after": {f"{query}|{key}": allowed}})[0].table(PARTS, "after")
    plain = Rules("symmetric").table(PARTS, "after")

    def named(one, pattern):
        kind, _, owner = pattern.partition(":")
        return one.partition(":")[0] == kind and owner in ("*", "other", region_of(one))

    for i, q in enumerate(KEYS):
        for j, k in enumerate(KEYS):
            hit = named(q, query) and named(k, key) and region_of(q) != region_of(k)
            assert table[i, j] == (allowed if hit else plain[i, j]), (q, k)


def test_symmetric_rules_with_isolated_regions_are_four_cells():
    pairs = [(q, k) for q in ("noise", "image") for k in ("noise", "image")]
    matrix = {"after": {f"{q}:*|{k}:other": False for q, k in pairs}}
    table = make_rules("symmetric", matrix=matrix)[0].table(PARTS, "after")
    for i, q in enumerate(KEYS):
        for j, k in enumerate(KEYS):
            apart = region_of(q) != region_of(k) and {q.partition(":")[0], k.partition(":")[0]} <= {"noise", "image"}
            assert table[i, j] == (not apart and reference.allowed("symmetric", "after", q, k)), (q, k)


def test_a_cell_of_one_region_is_stronger_than_other_and_other_than_all():
    cells = {"noise:r1|noise:b": True, "noise:*|noise:other": False, "noise:*|noise:*": True}
    table = make_rules("isolated_regions", matrix={"after": cells})[0].table(PARTS, "after")
    assert cell(table, "noise:r1", "noise:b") and not cell(table, "noise:b", "noise:r1")
    assert not cell(table, "noise:r1", "noise:third one")


def test_other_is_no_region_that_could_be_missing():
    rules = make_rules("replan", matrix={"after": {"noise:r1|noise:other": False}})[0]
    assert unknown_cells(rules, PARTS) == [] and foreign_cells(rules, IDS) == []


def test_deleting_a_region_moves_no_other_regions_cells():
    rules = make_rules("replan", matrix={"after": {"hint:third one|noise:third one": False}})[0]
    fewer = components(("r1", "third one"), True, True, ())
    keys = [part.key for part in fewer]
    table = rules.table(fewer, "after")
    differs = np.argwhere(table != Rules().table(fewer, "after")).tolist()
    assert differs == [[keys.index("hint:third one"), keys.index("noise:third one")]]
    gone = components(("r1",), True, True, ())
    assert np.array_equal(rules.table(gone, "after"), Rules().table(gone, "after"))
    assert unknown_cells(rules, gone) == ["hint:third one|noise:third one"]
    assert unknown_cells(rules, fewer) == []


@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS), st.booleans()), max_size=40),
    st.sampled_from(list(PRESETS)),
)
def test_no_matrix_blinds_a_component(cells, preset):
    matrix = {f"{q}|{k}": allowed for q, k, allowed in cells if q != k}
    matrix.update({f"{kind}:*|{kind}:*": False for kind in ("hint", "noise", "image")})
    table = make_rules(preset, matrix={"after": matrix})[0].table(PARTS, "after")
    assert table.diagonal().all()


def test_a_region_that_is_not_active_has_a_hint_that_nobody_sees():
    table = Rules().table(PARTS, "after", frozenset({1}))
    seen_by = table[:, KEYS.index("hint:b")]
    assert seen_by.sum() == 1
    assert seen_by[KEYS.index("hint:b")]


def test_without_a_choice_the_switch_is_the_familys():
    rules = make_rules("local_first")[0]
    assert [rules.for_family(family).switch for family in ("flux", "flux2", "qwen")] == [0.05, 0.05, 0.5]
    assert make_rules("local_first", family="qwen")[0].for_family("flux").switch == 0.5
    assert make_rules("local_first", switch=0.3)[0].for_family("qwen").switch == 0.3


@pytest.mark.parametrize(
    ("family", "preset", "switch"), [("flux", "replan", None), ("flux2", "replan", None), ("qwen", "local_first", 0.5)]
)
def test_auto_is_the_published_default_of_the_models_family(family, preset, switch):
    rules = make_rules(AUTO)[0].for_family(family)
    assert rules.preset == preset
    assert (rules.two_phases, rules.switch) == (switch is not None, switch)
    for phase in ("before", "after"):
        assert np.array_equal(rules.table(PARTS, phase), Rules(preset).table(PARTS, phase))
    chosen = make_rules(AUTO, family=family)[0]
    assert {chosen.for_family(name).preset for name in FAMILIES} == {preset}, "a chosen family comes first"


def test_auto_keeps_what_was_chosen_beside_it_and_warns_only_where_it_matters():
    rules = make_rules(AUTO, switch=0.25, matrix={"after": {"main|hint:r1": True}})[0]
    assert make_rules(AUTO, switch=0.25)[1] == []
    flux, qwen = rules.for_family("flux"), rules.for_family("qwen")
    assert qwen.switch == 0.25 and cell(qwen.table(PARTS, "after"), "main", "hint:r1")
    assert warnings_of(qwen) == [] and "'replan' has the same rules at every step" in warnings_of(flux)[0]
    assert not any(warnings_of(make_rules(AUTO)[0].for_family(name)) for name in FAMILIES)


def test_a_familys_defaults_are_a_preset_and_a_share():
    for family in FAMILIES.values():
        assert family.preset in PRESETS and 0 <= family.switch <= 1 and family.encoders


def test_a_preset_without_a_before_phase_says_that_the_switch_does_nothing():
    rules, warnings = make_rules("replan", switch=0.5)
    assert not rules.two_phases
    assert "the switch does nothing" in warnings[0]
    given_phase, quiet = make_rules("replan", switch=0.5, matrix={"before": {"noise_background|noise:*": False}})
    assert given_phase.two_phases
    assert quiet == []


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(preset="best"), "no rule preset 'best'; the presets are auto, replan"),
        (dict(switch=2.0), "share of the steps between 0 and 1, found 2.0"),
        (dict(switch=float("nan")), "share of the steps"),
        (dict(family="sdxl"), "no model family 'sdxl'"),
        (dict(matrix="{"), "not JSON"),
        (dict(matrix="[]"), "JSON object"),
        (dict(matrix={"version": 2}), "version 2, this pack reads 1"),
        (dict(matrix={"during": {}}), "holds 'before' and 'after' only, .*take it out"),
        (dict(matrix={"after": {"main|main": False}}), "every component sees itself"),
        (dict(matrix={"after": {"main": True}}), "not written 'query|key'"),
        (dict(matrix={"after": {"main|hint": True}}), "names 'hint'; a component is"),
        (dict(matrix={"after": {"main:r1|main": True}}), "names 'main:r1'"),
        (dict(matrix={"after": {"main|noise:other": True}}), "the other side has none"),
        (dict(matrix={"after": {"noise:other|reference:2": True}}), "the other side has none"),
        (dict(matrix={"after": {"noise:other|image:other": True}}), "the other side has none"),
        (dict(matrix={"after": {"reference:other|noise:*": True}}), "names 'reference:other'"),
        (dict(matrix={"after": {"main|hint:r1": 1}}), "must be true or false"),
        (dict(matrix={"after": []}), "an object of 'query|key'"),
    ],
)
def test_what_is_not_a_rule_is_refused_in_words(kwargs, message):
    with pytest.raises(RegionError, match=message.replace("|", r"\|")):
        make_rules(**{"preset": "replan", **kwargs})


def test_rules_are_described_with_every_component_and_both_phases():
    text = describe(make_rules("local_first", switch=0.25)[0], PARTS, "flux")
    assert "first 25% of the noise schedule" in text
    assert all(text.count(key) == 2 for key in KEYS)


def test_a_report_says_which_preset_auto_stands_for():
    assert "preset auto (qwen: local_first)" in describe(make_rules(AUTO)[0], PARTS, "qwen")
    assert "preset auto (flux: replan)" in describe(make_rules(AUTO)[0], PARTS, "flux")

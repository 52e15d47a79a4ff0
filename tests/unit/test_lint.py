"""The linter's findings: each failure seen in the field is found, ordinary plans are left alone."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.planner.asking.follow_up import points
from replan.planner.geometry import iou, share_inside
from replan.planner.plan import KEEP_UNCHANGED, Region, RegionPlan
from replan.planner.plans import lint as linter
from replan.planner.plans import report
from replan.planner.plans.lint import MOST_REGIONS, SERIOUS, lint
from replan.planner.plans.report import describe_plan
from replan.planner.replies.vocabulary import REMARKS

SIZE = (640, 480)
HAT, DOG, CUP = (10, 10, 110, 90), (300, 100, 500, 400), (200, 300, 280, 380)


def plan(*regions, prompt=KEEP_UNCHANGED, size=SIZE):
    """regions: (box, hint) or (box, hint, label)."""
    made = [
        Region(f"r{number}", box, hint, extra={"label": more[0]} if more else {})
        for number, (box, hint, *more) in enumerate(regions, 1)
    ]
    return RegionPlan(size, prompt, tuple(made))


def rules(made, instruction=""):
    return {finding.code for finding in lint(made, instruction)}


ORDINARY = [
    (plan((HAT, "the hat is red")), "make the hat red"),
    (plan((HAT, "the hat is red"), (DOG, "keep this dog unchanged")), "make the hat red"),
    (plan(prompt="the whole scene at dusk"), "make it evening"),
    (plan((HAT, "a gold ring lies here"), prompt="warm evening light"), "add a ring and make it evening"),
    (plan((DOG, "add a red ball in front of the bench")), "add a ball"),
    (
        plan((HAT, "the hat is red"), (DOG, "add a collar to the dog", "dog")),
        "red hat, and a collar for the dog",
    ),
    (plan((DOG, "keep the dog but make its fur black")), "a black dog"),
    (plan((HAT, "replace the hat with a crown")), "replace the hat with a crown"),
    (plan((HAT, "a crown in the place of the hat")), "swap the hat for a crown"),
    (plan((HAT, "keep this hat unchanged")), "keep the hat as it is"),
    (plan(((10, 10, 330, 300), "a large oak"), ((200, 200, 500, 470), "a pond")), "an oak and a pond"),
]


@pytest.mark.parametrize(("made", "instruction"), ORDINARY, ids=lambda value: value if isinstance(value, str) else "")
def test_an_ordinary_plan_has_no_finding(made, instruction):
    assert [str(finding) for finding in lint(made, instruction)] == []
    assert points((*lint(made, instruction), *made.notices), made) == ()


DOUBTFUL = [
    ("template_echo", plan((HAT, "the hint of this region")), "", True),
    ("template_echo", plan((HAT, "...")), "", True),
    ("template_echo", plan((HAT, "red"), prompt="The edit of the whole image"), "", True),
    ("same_box", plan((HAT, "the hat is red"), ((11, 10, 111, 91), "the dog is black")), "", True),
    ("same_box", plan((HAT, "the hat is red"), (HAT, "The hat is red.")), "", True),
    ("contained", plan((DOG, "a black dog"), ((350, 150, 400, 200), "a green collar")), "", False),
    (
        "only_keeps",
        plan((HAT, "keep this hat unchanged"), (DOG, "leave the dog as it is")),
        "remove the hat",
        True,
    ),
    ("only_keeps", plan((HAT, "\u4fdd\u6301\u5e3d\u5b50\u4e0d\u53d8")), "\u53bb\u6389\u5e3d\u5b50", True),
    ("only_keeps", plan((HAT, "keep this hat unchanged")), "", True),
    ("changes_nothing", plan(), "make the hat red", True),
    ("changes_nothing", plan(), "", True),
    ("keeps_as_asked", plan(), "keep everything as it is", False),
    ("hint_in_global", plan((HAT, "the hat is red"), prompt="At dusk. The hat is red."), "", True),
    (
        "hint_like_global",
        plan((HAT, "a shiny golden spoon"), prompt="evening, with a golden and shiny spoon"),
        "",
        False,
    ),
    ("tiny", plan(((10, 10, 14, 300), "a red line")), "", False),
    ("tiny", plan(((10, 10, 20, 20), "a red dot")), "", False),
    ("huge", plan(((0, 0, 640, 470), "snow everywhere")), "", False),
    ("off_image", plan(((-20, 10, 110, 90), "a red hat")), "", False),
    ("no_hint", plan((HAT, " "), (DOG, "a black dog")), "", True),
    ("long_hint", plan((HAT, "a " + "very " * 50 + "red hat")), "", False),
    (
        "too_many",
        plan(*[((20 * n, 10, 20 * n + 90, 200), f"lamp number {n}") for n in range(MOST_REGIONS + 1)]),
        "",
        True,
    ),
    ("add_on_existing", plan((DOG, "a black dog"), ((310, 110, 490, 380), "add a red ball")), "", True),
    ("add_on_existing", plan((DOG, "add a red ball", "the dog")), "", True),
    ("small_to_add", plan(((200, 300, 230, 330), "add a tall tree")), "", False),
    ("replace_as_add", plan((HAT, "add a crown")), "replace the hat with a crown", False),
]


@pytest.mark.parametrize(
    ("rule", "made", "instruction", "serious"),
    DOUBTFUL,
    ids=[f"{number} {row[0]}" for number, row in enumerate(DOUBTFUL)],
)
def test_a_doubtful_plan_is_found_and_said_with_what_to_do(rule, made, instruction, serious):
    found = [finding for finding in lint(made, instruction) if finding.code == rule]
    assert len(found) == 1
    text = str(found[0])
    assert "; " in text and found[0].remedy
    assert all(f"'{identity}'" in text for identity in found[0].regions[:2]) or rule in (
        "only_keeps",
        "too_many",
        "replace_as_add",
    )
    assert set(found[0].regions) <= set(made.ids)
    assert (rule in SERIOUS) == serious
    assert bool(points(found, made)) == serious
    assert f"Check: {text}" in describe_plan(made, findings=lint(made, instruction))


def test_every_rule_of_the_linter_is_tested():
    source = Path(linter.__file__).read_text(encoding="utf-8")
    first_arguments = " ".join(re.findall(r"Notice\(([^,]+),", source))
    assert set(re.findall(r'"(\w+)"', first_arguments)) == {row[0] for row in DOUBTFUL} | {"not_honoured"}


def test_twelve_regions_are_not_too_many():
    lamps = [((20 * n, 10, 20 * n + 90, 200), f"lamp number {n}") for n in range(12)]
    assert "too_many" not in rules(plan(*lamps))
    assert MOST_REGIONS == 12


def test_a_model_in_a_loop_is_told_once_of_the_box_that_it_repeats():
    drifting = plan(*[((10 + n / 10, 20, 300, 400), f"lamp number {n % 3}") for n in range(30)])
    found = [finding for finding in lint(drifting) if finding.code == "same_box"]
    assert len(found) == 1
    assert found[0].regions == drifting.ids
    assert "'r6' and 24 more have the same box for 3 hints" in str(found[0])
    assert len(" ".join(points(found, drifting))) < 300
    assert len(lint(drifting)) < 5


def test_all_that_lies_inside_a_box_is_one_finding():
    inside = [((20 + 60 * n, 20, 60 + 60 * n, 80), f"lamp {n}") for n in range(5)]
    found = [one for one in lint(plan(((10, 10, 400, 300), "a wall"), *inside)) if one.code == "contained"]
    assert [one.regions for one in found] == [("r2", "r3", "r4", "r5", "r6", "r1")]
    assert "lie inside region 'r1'" in str(found[0])


# ---- keys that are not known --------------------------------------------------------------------------------


def with_keys(*extras, **more):
    regions = (
        Region(f"r{n}", (150 * n, 9, 150 * n + 140, 300), f"thing {n}", extra=one) for n, one in enumerate(extras)
    )
    return RegionPlan(SIZE, regions=tuple(regions), extra=more)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("strength", 2.5),
        ("lora", "x.safetensors"),
        ("reference", 2),
        ("colour", "#f00"),
        ("cfg", [1, 2]),
        ("\u5f3a\u5ea6", 0),
    ],
)
def test_an_unknown_key_is_told_once_with_the_regions_that_have_it(key, value):
    made = with_keys({key: value}, {}, {key: value}, {key: value, "label": "cup"})
    (found,) = [one for one in lint(made) if one.code == "not_honoured"]
    assert found.regions == ("r0", "r2", "r3") and found.code in SERIOUS
    assert f"{key!r} of regions 'r0', 'r2' and 'r3' has no effect" in str(found)


def test_an_unknown_key_of_the_plan_is_told():
    (found,) = [one for one in lint(with_keys({}, seed=3)) if one.code == "not_honoured"]
    assert "'seed' of the plan has no effect" in str(found) and found.regions == ()


def test_keys_that_only_describe_or_say_nothing_are_not_told():
    said = {
        "label": "cup",
        "point_2d": [1, 2],
        "Scene-After": "x",
        "answer": "a",
        "confidence": 0.5,
        "object name": "x",
    }
    empty = {"strength": None, "lora": "", "reference": []}
    assert {one.code for one in lint(with_keys(empty, {"label": "thing"}, scene="a street", Reasoning=" x"))} == set()
    assert not [one for one in lint(with_keys(said)) if one.code == "not_honoured" and "object name" not in one.text]


def test_what_the_reader_keeps_of_a_reply_is_no_unknown_key():
    said = dict.fromkeys((*REMARKS, *report.TITLES, *report.TITLES_OF_REGION), "words")
    assert not [one for one in lint(with_keys(said, **said)) if one.code == "not_honoured"]


def test_serious_findings_come_first():
    made = plan(((10, 10, 14, 300), "a red line"), (HAT, ""))
    assert [finding.code in SERIOUS for finding in lint(made)] == [True, False]


BOX = st.tuples(st.floats(0, 600), st.floats(0, 400), st.floats(1, 600), st.floats(1, 400)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(BOX, BOX)
def test_overlap_is_symmetric_within_bounds_and_whole_with_itself(first, second):
    assert iou(first, second) == pytest.approx(iou(second, first))
    assert -1e-9 <= iou(first, second) <= share_inside(first, second) + 1e-9 <= 1 + 2e-9
    assert iou(first, first) == pytest.approx(1) == share_inside(first, first)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(BOX, st.text(max_size=30)), max_size=20), st.text(max_size=40), st.text(max_size=40))
def test_any_plan_can_be_checked(items, prompt, instruction):
    surrogates = any("\ud800" <= char <= "\udfff" for text in (prompt, *(hint for _, hint in items)) for char in text)
    if surrogates:
        return
    made = RegionPlan((1300, 900), prompt, tuple(Region(f"r{n}", box, hint) for n, (box, hint) in enumerate(items)))
    for finding in lint(made, instruction):
        assert str(finding)

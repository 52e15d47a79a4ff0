"""What the model is told when it is asked again: by the code of a notice, never by its words."""

import re
from pathlib import Path

import pytest
from replan.planner.asking.follow_up import SENTENCES, ask_again, points
from replan.planner.asking.templates import Part, load_template, planner_messages
from replan.planner.plan import Notice, Region, RegionPlan
from replan.planner.plans import lint as linter
from replan.planner.plans.lint import lint
from replan.planner.replies import CODES, ERROR_CODES, read_plan

SIZE = (640, 480)
HAT = (10, 10, 110, 90)


@pytest.mark.parametrize("code", SENTENCES)
def test_a_notice_with_a_sentence_is_told_in_that_sentence_alone(code):
    plan = RegionPlan(SIZE, regions=(Region("r1", HAT, "a red hat"),))
    (told,) = points([Notice(code, "the text is cut off and cannot be read", regions=("r1",))], plan)
    assert told == SENTENCES[code].replace("{regions}", 'The region "a red hat"')


def test_words_of_a_notice_ask_for_nothing():
    assert points([Notice("huge", "cut off, cannot be read, it has no hint, lies outside the image")]) == ()


@pytest.mark.parametrize("said", ["branch cut off at the top", "a list that cannot be read", "it has no hint"])
def test_words_of_a_reply_are_never_taken_for_what_is_wrong_with_it(said):
    other = '{"bbox_2d": [300, 100, 500, 400], "hint": "a black dog"}'
    hint = f'<region>[{{"bbox_2d": [10, 10, 110, 90], "hint": "{said}"}}, {other}]</region>'
    label = f'<region>[{{"bbox_2d": [10, 10, 110, 90], "label": "{said}"}}, {other}]</region>'
    for region, told in ((hint, ()), (label, (SENTENCES["dropped_no_hint"],))):
        plan, _ = read_plan(f"<gen_image>dusk</gen_image>{region}", SIZE)
        assert points(plan.notices, plan) == told


def test_every_code_with_a_sentence_is_told_by_the_reader_or_the_linter():
    source = Path(linter.__file__).read_text(encoding="utf-8")
    linted = set(re.findall(r'"(\w+)"', " ".join(re.findall(r"Notice\(([^,]+),", source))))
    assert set(SENTENCES) <= {*CODES, *ERROR_CODES, *linted}


def test_the_model_hears_of_hints_and_not_of_ids():
    plan = RegionPlan(SIZE, regions=(Region("r1", HAT, "the hat is red"), Region("r2", HAT, "the dog is black")))
    (told,) = points(lint(plan), plan)
    assert told.startswith('The regions "the hat is red" and "the dog is black" have the same box')


def test_what_was_lost_in_reading_is_asked_for_once():
    reply = (
        '<gen_image>dusk</gen_image><region>[{"bbox_2d": [1, 2, 3], "hint": "a"}, {"bbox_2d": [1, 2, 3], "hint": "b"}, '
        '{"hint": "c"}, {"bbox_2d": [10, 20, 300, 400], "hint": "a red h'
    )
    plan = read_plan(reply, SIZE)[0]
    told = points((*lint(plan, "make the hat red"), *plan.notices), plan)
    assert len(told) == len(set(told))
    assert {SENTENCES[code] for code in ("cut_off", "dropped_bad_box", "dropped_no_box")} <= set(told)


def test_asking_again_keeps_the_conversation_and_says_what_was_wrong():
    asked = planner_messages(load_template("edit"), "red hat")
    again = ask_again(asked, "<region>[]</region>", ["The plan changes nothing.", "Some boxes have no area."])
    assert again[: len(asked)] == asked
    assert [message.role for message in again[len(asked) :]] == ["assistant", "user"]
    assert "\n- The plan changes nothing.\n- Some boxes have no area.\n" in again[-1].text
    assert Part.IMAGE not in again[-1].parts

"""What a judge is asked, what is shown to it, and what comes of its replies."""

import json

import pytest
import torch
from replan.evaluation.choose import failed_regions
from replan.evaluation.judge import Question, assemble, build_questions, judge, read_answer
from replan.evaluation.judge_questions import ANY_MODEL, SCALES
from replan.evaluation.quoted import is_shown, quoted_texts
from replan.planner.models.interface import SPECS, Answer, Part
from replan.planner.pictures.batches import pair_for_judging
from replan.planner.plan import PlanError, Region, RegionPlan

BEFORE, AFTER = torch.zeros(1, 96, 128, 3), torch.ones(1, 96, 128, 3)
PLAN = RegionPlan(
    (128, 96),
    regions=(
        Region("r1", (8, 8, 40, 40), "a blue cup"),
        Region("r2", (60, 8, 100, 40), 'a sign that reads "OPEN"'),
        Region("r3", (60, 50, 100, 90), "off", enabled=False),
        Region("r4", (8, 50, 40, 90)),
    ),
)


def by_name(*args, **settings) -> dict[str, Question]:
    return {question.name: question for question in build_questions(*args, **settings)}


def said(question: Question, value) -> Answer:
    return Answer(json.dumps({"reasoning": f"about {question.name}", question.key: value}), True, 100, 10)


def good(question: Question) -> Answer:
    return said(question, ["OPEN"] if question.texts else max(question.scale) if question.scale else "yes")


# ---- what is asked ------------------------------------------------------------------------------------------


def test_the_four_published_questions_have_their_scales_keys_and_images():
    asked = by_name(BEFORE, AFTER, "paint it blue")
    assert {name: question.scale for name, question in asked.items()} == SCALES
    assert [question.key for question in asked.values()] == [f"{name}_score" for name in SCALES]
    assert [len(question.images) for question in asked.values()] == [2, 2, 2, 1]
    for question in asked.values():
        (message,) = question.messages
        assert message.parts.count(Part.IMAGE) == len(question.images)
        assert "paint it blue" in message.text and f'"{question.key}"' in message.text and "{{" not in message.text
    assert (asked["quality"].images[0] == 1).all(), "Quality is judged on the edited image alone"
    first, second = asked["target"].images
    assert (first == 0).all() and (second == 1).all()


def test_a_value_is_put_in_as_it_stands_and_the_referring_expression_only_where_there_is_one():
    asked = by_name(BEFORE, AFTER, "make {{both}} and {{referring}} blue", referring="the {{instruction}}")
    text = asked["effect"].messages[0].text
    assert (
        "Instruction: make {{both}} and {{referring}} blue\nWhat the instruction refers to: the {{instruction}}" in text
    )
    assert "refers to" not in by_name(BEFORE, AFTER, "blue", referring=" ")["effect"].messages[0].text


def test_each_enabled_region_with_a_hint_is_asked_about_on_the_same_part_of_both_images():
    before = torch.zeros(1, 480, 640, 3)
    before[:, 40:200, 40:200] = 0.5
    asked = by_name(before, before * 2, "do it", PLAN)
    names = [name for name in asked if name not in SCALES]
    assert names == ["r1 done", "r1 kept", "r2 done", "r2 kept", "r2 text_right"]
    first, second = asked["r1 done"].images
    assert first.shape == second.shape and first.shape[1] * first.shape[2] >= 448 * 448
    assert (first * 2 - second).abs().mean() < 1e-3 and first.max() > 0.49
    assert "a blue cup" in asked["r1 kept"].messages[0].text
    reading = asked["r2 text_right"]
    assert len(reading.images) == 1 and reading.texts == ("OPEN",)
    assert "OPEN" not in reading.messages[0].text, "a model that is told the text reads it"


def test_images_of_another_size_and_the_plan_of_another_size_show_the_same_part():
    large = torch.zeros(1, 960, 1280, 3)
    large[:, 80:400, 80:400] = 1
    small = torch.zeros(1, 96, 128, 3)
    small[:, 8:40, 8:40] = 1
    first, second = by_name(large, small, "do it", PLAN)["r1 done"].images
    assert first.shape == second.shape and (first - second).abs().mean() < 0.02


def test_a_model_of_one_image_is_shown_both_in_one():
    for before, axis, words in ((BEFORE, 1, "at the top"), (torch.zeros(1, 128, 96, 3), 2, "on the left")):
        asked = by_name(before, torch.ones(1, 64, 64, 3), "blue", spec=SPECS["llava"])
        (image,) = asked["target"].images
        assert asked["target"].messages[0].parts.count(Part.IMAGE) == 1 and words in asked["target"].messages[0].text
        ends = image.movedim(axis, 0)
        assert ends[0].max() < 0.05 and ends[-1].min() > 0.95 and ((ends > 0.45) & (ends < 0.55)).any()


def test_alpha_is_not_shown_and_grey_is_shown_in_colours():
    grey = by_name(BEFORE[..., :1], torch.cat([AFTER, BEFORE[..., :1]], -1), "blue")
    plain = by_name(BEFORE, AFTER, "blue")
    assert all(
        torch.equal(one, other)
        for name in SCALES
        for one, other in zip(grey[name].images, plain[name].images, strict=True)
    )


def test_images_are_shown_at_the_size_the_model_sees():
    large = torch.zeros(1, 1000, 2000, 3)
    assert by_name(large, large, "x", spec=SPECS["qwen2_5_vl"])["effect"].images[0].shape[1:3] == (700, 1400)
    assert by_name(BEFORE, AFTER, "x")["effect"].images[0].shape == BEFORE.shape
    assert ANY_MODEL.several_images


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"instruction": "  "}, "the instruction is empty; write what the edit was to change"),
        ({"instruction": "x" * 10_001}, "the instruction has 10001 characters"),
        ({"before": torch.zeros(2, 8, 8, 3)}, "'before' holds 2 images"),
        ({"after": torch.zeros(8, 8, 3)}, "an image has the shape"),
        ({"after": torch.zeros(1, 2, 800, 3)}, "200 times as long as wide"),
        ({"plan": RegionPlan((100, 300), regions=PLAN.regions[:1])}, "another aspect ratio"),
        ({"after": torch.zeros(1, 128, 128, 3), "plan": PLAN}, "the edited image has 128x128, another aspect ratio"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes, told):
    given = {"before": BEFORE, "after": AFTER, "instruction": "blue", "plan": None, **changes}
    with pytest.raises(PlanError, match=told):
        build_questions(**given)


def test_a_schema_names_the_scale():
    asked = by_name(BEFORE, AFTER, "x", PLAN)
    assert asked["target"].schema["properties"]["target_score"] == {"type": "integer", "enum": [1, 5]}
    assert asked["r1 done"].schema["required"] == ["reasoning", "done"]
    assert asked["r2 text_right"].schema["properties"]["texts"]["type"] == "array"
    for question in asked.values():
        assert read_answer(question, good(question).text).value == (max(question.scale) if question.scale else 1.0)


# ---- what comes of the replies ------------------------------------------------------------------------------


def test_the_scores_hold_the_published_totals_and_each_region():
    values = {"target": 5, "effect": 3, "consistency": 5, "quality": 4}
    judged = judge(lambda one: said(one, values[one.name]) if one.scale else good(one), BEFORE, AFTER, "x", PLAN)
    image = judged.scores.image
    assert {name: image[name] for name in values} == values
    assert image["weighted"] == pytest.approx(3.35) and image["overall"] == pytest.approx(4.25)
    assert image["weighted_paper"] == pytest.approx((5 + 3 + 4 + 0.6 * 5) / 4)
    regions = {name: dict(scores) for name, scores in judged.scores.regions.items()}
    assert regions == {"r1": {"done": 1, "kept": 1}, "r2": {"done": 1, "kept": 1, "text_right": 1}, "r4": {}}
    assert (judged.scores.main, judged.scores.region_main, judged.scores.missing) == ("weighted", "done", ())
    assert "Overall 4.25 and Weighted 3.35" in judged.report and "effect: 3 (about effect)" in judged.report
    assert "Note: not asked about r4: no hint" in judged.report
    assert "Cost: 9 replies, 900 tokens read and 90 written" in judged.report


def test_a_question_without_an_answer_is_missing_and_never_zero():
    def ask(question):
        if question.name == "effect":
            return Answer("I'm sorry, I can't.", True, 1, 1)
        if question.name == "r1 done":
            raise PlanError("the server is gone")
        return good(question)

    judged = judge(ask, BEFORE, AFTER, "x", PLAN)
    assert judged.scores.missing == ("effect", "r1 done")
    assert not {"effect", "overall", "weighted", "weighted_paper"} & set(judged.scores.image)
    assert dict(judged.scores.regions["r1"]) == {"kept": 1.0}
    assert judged.report.startswith("No Overall and no Weighted: no answer to effect")
    assert "effect: no answer: it refuses" in judged.report and "done: no answer: the server is gone" in judged.report


def test_a_text_that_is_spelled_otherwise_is_told():
    judged = judge(lambda one: said(one, ["OPNE", "24h"]) if one.texts else good(one), BEFORE, AFTER, "x", PLAN)
    assert judged.scores.regions["r2"] == {"done": 1.0, "kept": 1.0, "text_right": 0.0}
    assert 'text right: no, wanted "OPEN", the model reads "OPNE; 24h"' in judged.report


def test_a_judge_without_any_answer_is_an_error_and_a_reply_that_was_cut_off_says_so():
    with pytest.raises(
        PlanError, match="none of 4 questions got an answer. target: .*cut off after 7 tokens.*It wrote"
    ):
        judge(lambda one: Answer("The cup", False, 1, 7), BEFORE, AFTER, "x")
    with pytest.raises(PlanError, match="none of 4 questions got an answer. target: no network"):
        judge(lambda one: (_ for _ in ()).throw(PlanError("no network")), BEFORE, AFTER, "x")


def test_images_of_another_shape_are_judged_and_told():
    judged = judge(good, BEFORE, torch.ones(1, 128, 128, 3), "x")
    assert "the original has 128x96 pixels and the edited image 128x128, another shape" in judged.report
    assert "another size" in judge(good, BEFORE, torch.ones(1, 192, 256, 3), "x").report


def test_a_region_without_any_answer_is_there_and_empty():
    question = by_name(BEFORE, AFTER, "x", PLAN)["r1 done"]
    scores = assemble([(question, read_answer(question, ""))])
    assert dict(scores.regions) == {"r1": {}} and scores.missing == ("r1 done",)


def test_failed_regions_takes_what_is_known_and_a_plan_without_regions_fails_none():
    judged = judge(lambda one: said(one, "no") if one.name == "r1 done" else good(one), BEFORE, AFTER, "x", PLAN)
    failed = failed_regions(PLAN, judged.scores)
    assert failed.plan.ids == ("r1",) and "? r4: no answer about it" in failed.report
    empty = PLAN.with_regions(())
    judged = judge(good, BEFORE, AFTER, "x", empty)
    assert failed_regions(empty, judged.scores).count == 0
    assert "Note: the plan has no enabled region to ask about" in judged.report


# ---- which belongs to which ---------------------------------------------------------------------------------


def paired(originals, images, plans=(), settings=()):
    return [
        (one.mean().item(), other.mean().item(), plan)
        for one, other, plan in pair_for_judging(originals, images, plans, settings)
    ]


def test_every_image_of_a_batch_or_list_is_judged_beside_its_own_original_and_plan():
    three = torch.arange(3.0).reshape(3, 1, 1, 1).expand(-1, 2, 2, 3)
    one = three[:1]
    assert paired([one], [three]) == [(0, 0, None), (0, 1, None), (0, 2, None)]
    assert paired([three], [three[:2], three[2:]], "abc") == [(0, 0, "a"), (1, 1, "b"), (2, 2, "c")]
    assert paired([one], [one], "a", (["x", "y"],)) == [(0, 0, "a")] * 2
    with pytest.raises(PlanError, match="found 2 original images for 3 edited images"):
        paired([three[:2]], [three])
    with pytest.raises(PlanError, match="found 2 plans for 3 edited images"):
        paired([one], [three], "ab")


# ---- texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "texts"),
    [
        ('the sign reads "GRAND OPENING"', ("GRAND OPENING",)),
        ("\u201cA\u201d and \u2018B\u2019", ("A", "B")),
        ("write \u201eHallo\u201c and \u00abSalut\u00bb", ("Hallo", "Salut")),
        ("the dogs' bowl says 'Rex's bowl'", ("Rex's bowl",)),
        ('change "SALE" to "SOLD"', ("SOLD",)),
        ('the text "SALE" is replaced with the text "SOLD"', ("SOLD",)),
        ('"SOLD" instead of "SALE"', ("SOLD",)),
        ('remove the word "SALE"', ()),
        ("\u628a\u300c\u65e7\u300d\u6539\u6210\u300c\u65b0\u300d", ("\u65b0",)),
        ("\u5c06\u201c\u65b0\u5e74\u201d\u5199\u5728\u724c\u5b50\u4e0a", ("\u65b0\u5e74",)),
        ('a sign "OPEN" next to "BAR"', ("OPEN", "BAR")),
        ('a 24" screen beside a 30" one', ()),
        ("rock'n'roll in the '80s style", ()),
        ('two   spaces: "A  B"', ("A B",)),
        ("a blue cup", ()),
    ],
)
def test_the_texts_that_a_hint_quotes_are_those_to_be_seen(hint, texts):
    assert quoted_texts(hint) == texts


@pytest.mark.parametrize(
    ("seen", "right"),
    [
        (["CAF\u00c9"], True),
        (["CAFE\u0301"], True),
        (["CAFE"], False),
        (["Caf\u00e9"], False),
        (["  CAF\u00c9\n"], True),
        (["CAF\u00c9 BAR"], False),
        ([], False),
    ],
)
def test_texts_are_compared_exactly_but_for_form_and_space(seen, right):
    assert is_shown("CAF\u00c9", seen) is right


def test_a_text_may_be_seen_in_several_lines():
    assert is_shown("GRAND OPENING", ["Main St.", "GRAND", "OPENING", "1990"])
    assert not is_shown("GRANDOPENING", ["GRAND", "OPENING"])
    assert is_shown("\u65b0\u5e74\u5feb\u4e50", ["\u65b0\u5e74", "\u5feb\u4e50"])

"""Scores as a value, the two published formulas, and what is chosen by them."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replan.evaluation.choose import failed_regions, pick_best
from replan.evaluation.scores import QUESTIONS, Scores, overall, weighted
from replan.planner.plan import PlanError, Region, RegionPlan

ANSWERS = {"target": 5, "effect": 3, "quality": 4, "consistency": 5}
PLAN = RegionPlan((100, 100), regions=(Region("r1", (0, 0, 50, 50), "a"), Region("r2", (50, 50, 100, 100), "b")))
NUMBER = st.floats(-1e6, 1e6)


def test_weighted_follows_the_published_code_and_on_request_the_paper():
    assert weighted(ANSWERS) == pytest.approx(3.35)
    assert weighted(ANSWERS, "paper") == pytest.approx((5 + 3 + 4 + 0.6 * 5) / 4)
    assert overall(ANSWERS) == pytest.approx(4.25)


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_answer_that_is_missing_gives_no_total(name):
    answers = {key: value for key, value in ANSWERS.items() if key != name}
    assert overall(answers) is None
    assert weighted(answers) is None


@given(
    st.dictionaries(st.text(max_size=5), NUMBER),
    st.dictionaries(st.text(max_size=5), st.dictionaries(st.text(max_size=5), NUMBER)),
    st.lists(st.text(max_size=5)),
)
def test_scores_survive_json_and_pickle(image, regions, missing):
    scores = Scores("judge", image, regions, "a", "b", ("a",), tuple(missing))
    assert Scores.from_json(scores.to_json()) == scores
    assert str(scores) == scores.to_json(), "ComfyUI's Preview as Text shows it"
    assert pickle.loads(pickle.dumps(scores)) == scores


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"by": "judge", "image": {"a": NaN}}', '{"by": "x", "image": 3}'])
def test_other_json_is_refused(text):
    with pytest.raises(PlanError):
        Scores.from_json(text)


def _of(**image):
    return Scores("judge", image, main="weighted")


def test_the_best_is_taken_and_ties_are_told():
    choice = pick_best([_of(weighted=1), _of(weighted=3), _of(weighted=3)])
    assert (choice.index, choice.tied) == (1, (1, 2))
    assert "tied with 3" in choice.report


def test_lower_is_better_where_the_scores_say_so():
    scores = [Scores("r", {"outside_changed": value}, lower_is_better=("outside_changed",)) for value in (0.5, 0.1)]
    assert pick_best(scores, "outside_changed").index == 1


def test_an_edit_without_an_answer_cannot_win_and_is_told():
    lost = Scores("judge", {}, main="weighted", missing=("effect",))
    choice = pick_best([lost, _of(weighted=0.0)])
    assert choice.index == 1
    assert "no answer: effect" in choice.report
    with pytest.raises(PlanError, match="none of 1 edits has the score 'weighted'.*effect"):
        pick_best([lost])


def test_main_scores_of_several_kinds_are_no_order():
    scores = [_of(weighted=3, outside_psnr=20), Scores("alignment", {"alignment": 0.3}, main="alignment")]
    with pytest.raises(PlanError, match="main scores are alignment, weighted, which do not compare; write one"):
        pick_best(scores)
    assert pick_best(scores, "alignment").index == 1
    assert pick_best([Scores("edit report", {"outside_psnr": 9}), _of(weighted=3)]).index == 1  # has no main score


def test_failed_regions_keep_their_boxes_and_unknown_ones_are_told():
    scores = Scores("judge", {}, {"r1": {"done": 0.0}}, region_main="done")
    failed = failed_regions(PLAN, scores)
    assert failed.plan.ids == ("r1",)
    assert failed.plan.regions[0] == PLAN.regions[0]
    assert failed.count == 1
    assert [notice.code for notice in failed.plan.notices] == ["not_scored"]


def test_scores_without_regions_or_of_another_plan_are_refused():
    with pytest.raises(PlanError, match="per_region"):
        failed_regions(PLAN, Scores("judge", {"overall": 3}, region_main="done"))
    with pytest.raises(PlanError, match="connect the image before the edit to 'before' of RePlan Alignment"):
        failed_regions(PLAN, Scores("alignment", {}, {"r1": {"region": 0.3}}))
    with pytest.raises(PlanError, match="connect the plan that was judged"):
        failed_regions(PLAN, Scores("judge", {}, {"x": {"done": 1}}, region_main="done"))


def test_an_integer_larger_than_any_float_is_no_score():
    with pytest.raises(PlanError, match="a score is a finite number"):
        Scores.from_json('{"by": "judge", "image": {"x": 1' + "0" * 400 + "}}")

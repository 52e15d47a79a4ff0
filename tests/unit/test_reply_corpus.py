"""Broken replies by class: each gives the plan that a person would read from it, or is refused with its reason."""

from collections import Counter

import pytest
from replan.planner.plan import KEEP_UNCHANGED, PlanError, Region, RegionPlan
from replan.planner.plans.plan_json import plan_from_json, plan_to_json
from replan.planner.plans.report import describe_plan
from replan.planner.plans.tags import write_tags
from replan.planner.replies import read_plan
from reply_corpus import IMAGE, Case, load_corpus

CORPUS = load_corpus()
# What is read otherwise than a person would, and why that is borne.
EXCEPTIONS = {
    "commas: commas in the place of colons": "a comma after a text ends a member of a list far more often than a "
    "key; the item is dropped and told",
    "items: YAML": "no reader of YAML for a form that no template asks for; refused and told",
}


def differences(case: Case) -> list[str]:
    """What was read otherwise than expected."""
    try:
        plan, note = read_plan(case.reply, IMAGE, case.coordinates)
    except PlanError as error:
        if case.refused is None:
            return [f"refused: {error}"]
        return [] if case.refused in str(error) else [f"the refusal does not say {case.refused!r}: {error}"]
    if case.refused is not None:
        return [f"not refused: {plan}"]
    wrong = []
    if plan.global_prompt != (case.prompt or KEEP_UNCHANGED):
        wrong.append(f"global prompt {plan.global_prompt!r}")
    found = [(region.box, region.hint) for region in plan.regions]
    same = len(found) == len(case.regions) and all(
        hint == wanted and box == pytest.approx(numbers, abs=0.01)
        for (box, hint), (numbers, wanted) in zip(found, case.regions, strict=False)
    )
    if not same:
        wrong.append(f"regions {found}")
    for key, wanted in case.said.items():
        said = plan.reasoning if key == "think" else plan.extra.get(key)
        if said != wanted:
            wrong.append(f"{key} {said!r}")
    told = "\n".join((*plan.warnings, note))
    wrong += [f"no warning says {piece!r}: {plan.warnings}" for piece in case.says if piece not in told]
    return wrong


@pytest.mark.parametrize("case", CORPUS, ids=str)
def test_a_broken_reply_gives_the_plan_a_person_would_read(case):
    wrong = differences(case)
    if str(case) in EXCEPTIONS:
        assert wrong, "it is read as a person would: take it off the list of exceptions"
        pytest.skip(EXCEPTIONS[str(case)])
    assert not wrong, "\n".join(wrong)


def test_the_corpus_is_large_has_every_class_and_few_exceptions():
    assert len(CORPUS) >= 150
    assert len({str(case) for case in CORPUS}) == len(CORPUS)
    assert min(Counter(case.kind for case in CORPUS).values()) >= 5
    assert set(EXCEPTIONS) <= {str(case) for case in CORPUS}
    assert len(EXCEPTIONS) <= 0.05 * len(CORPUS)


def test_what_a_reply_says_besides_is_kept_in_the_plan_and_told():
    reply = (
        "<kind>causal</kind><outcome>It is wet.</outcome><scene>A "
        "street.</scene><gen_image>rain</gen_image><region>[]</region><answer>Done.</answer>"
    )
    plan, _ = read_plan(reply, IMAGE)
    assert dict(plan.extra) == {
        "kind": "causal",
        "outcome": "It is wet.",
        "scene": "A street.",
        "answer": "Done.",
    }
    assert plan_from_json(plan_to_json(plan)) == plan
    told = describe_plan(plan)
    assert all(line in told for line in ("Kind: causal", "Outcome: It is wet.", "Scene: A street.", "Answer: Done."))


def test_what_a_region_shows_before_and_after_is_told_beside_its_hint():
    region = (
        '{"bbox_2d": [1, 2, 300, 40], "description": "a dull spoon on the saucer", "hint": "a golden spoon", '
        '"description_after": "a golden spoon on the saucer"}'
    )
    plan, _ = read_plan(f"<gen_image>x</gen_image><region>[{region}]</region>", IMAGE)
    shown = "[1, 2, 300, 40] a golden spoon\n   now: a dull spoon on the saucer\n   after: a golden spoon on the saucer"
    assert shown in describe_plan(plan)


def test_the_intended_result_and_other_meanings_are_kept_and_told():
    said = "<scene_after>A gold spoon.</scene_after><ambiguous>the fork\nthe knife</ambiguous>"
    plan, _ = read_plan(f"<gen_image>x</gen_image><region>[]</region>{said}", IMAGE)
    assert plan.extra["scene_after"] == "A gold spoon."
    told = describe_plan(plan)
    assert "Scene after the edit: A gold spoon." in told
    assert "The instruction could also mean: the fork; the knife" in told


def test_equal_regions_that_a_person_wrote_are_not_taken_for_a_loop():
    twice = RegionPlan(IMAGE, "dusk", (Region("r1", (1, 2, 30, 40), "red"), Region("r2", (1, 2, 30, 40), "red")))
    assert len(read_plan(write_tags(twice), IMAGE)[0].regions) == 2
    assert len(read_plan(plan_to_json(twice), IMAGE)[0].regions) == 2


@pytest.mark.parametrize(
    "words",
    ['"in quotes"', "```", "None", "the edit of the whole image", "x <|im_end|>", "a <regi", "**bold**"],
)
def test_words_that_a_person_wrote_are_not_cleaned_as_a_models_are(words):
    plan = RegionPlan(IMAGE, words, (), words)
    back, _ = read_plan(write_tags(plan), IMAGE)
    assert (back.global_prompt, back.reasoning) == (words, words)

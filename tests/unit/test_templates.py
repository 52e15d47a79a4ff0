"""Templates: what each asks for, the three layouts, a user's own file, and that a value is never more than text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replan.planner.asking.templates import (
    LAYOUTS,
    TEMPLATES,
    Message,
    Part,
    Template,
    as_two_texts,
    coordinates_in_words,
    load_template,
    planner_messages,
    second_look_messages,
)
from replan.planner.plan import KEEP_UNCHANGED, PlanError
from replan.planner.plans.lint import ECHOED_HINTS, ECHOED_PROMPTS, lint
from replan.planner.plans.report import describe_plan
from replan.planner.replies import COORDINATES, ReplyError, read_plan, read_words

PLANS = [name for name, kind in TEMPLATES.items() if kind.plans]
TAGS = {
    "edit": ["think", "gen_image", "region"],
    "edit_no_reasoning": ["gen_image", "region"],
    "hypothetical": ["think", "kind", "outcome", "gen_image", "region"],
    "context": ["scene", "think", "gen_image", "region"],
    "result": ["think", "gen_image", "region", "scene_after"],
    "unified": [
        "think",
        "gen_image",
        "answer",
        "think",
        "gen_image",
        "region",
        "answer",
        "think",
        "region",
        "answer",
    ],
    "detection": ["think", "region", "answer"],
}
KEYS = {
    "edit": "hint",
    "edit_no_reasoning": "hint",
    "hypothetical": "hint",
    "context": "hint",
    "result": "hint",
    "unified": "hint",
    "detection": "label",
}
INSTRUCTION = "make the {hat} red {{hint}} %s \\1 <region>"


def text_of(messages):
    return "\n".join(message.text for message in messages)


@pytest.mark.parametrize("name", PLANS)
def test_a_planning_template_shows_its_tags_in_order_and_asks_for_measured_boxes(name):
    template = load_template(name)
    assert re.findall(r"^<(\w+)>", template.text, re.MULTILINE) == TAGS[name]
    assert "{{coordinates}}" in template.text
    shown = re.findall(r"<region>(.*?)</region>", template.text, re.DOTALL)
    assert shown and all(f'"{KEYS[name]}"' in region or '"label"' in region for region in shown)
    # No number that a model could copy for a box.
    assert not re.search(r"\[\s*\d", template.text)


@pytest.mark.parametrize("name", [name for name in PLANS if name != "detection"])
def test_a_planning_template_has_the_published_rules(name):
    text = load_template(name).text
    assert KEEP_UNCHANGED.rstrip(".") in text
    assert "[]" in text
    assert "unchanged" in text


@pytest.mark.parametrize("name", PLANS)
def test_a_template_given_back_as_the_reply_is_seen_through(name):
    with pytest.raises(ReplyError, match="nothing of the reply can be used") as caught:
        read_plan(text_of(planner_messages(load_template(name), "make it red")), (644, 476))
    assert caught.value.code == "all_dropped"
    assert {notice.code for notice in caught.value.notices} & {"template_echo", "dropped_bad_box"}


def test_a_reply_to_the_template_of_the_intended_result_keeps_what_should_be_seen_apart_from_what_is():
    """`scene` and `description` say what is there before the edit (template `context`)."""
    template = load_template("result").text
    assert "description_after" in template and "<scene_after>" in template and "<scene>" not in template
    reply = (
        "<think>The cup.</think><gen_image>keep remaining part of image unchanged.</gen_image>"
        '<region>[{"bbox_2d": [10, 20, 200, 300], "hint": "a blue cup", "description_after": "a blue cup on the '
        'table"}]'
        "</region><scene_after>A table with a blue cup.</scene_after><ambiguous>the cup at the back</ambiguous>"
    )
    plan, _ = read_plan(reply, (644, 476))
    assert plan.extra["scene_after"] == "A table with a blue cup."
    assert plan.regions[0].extra["description_after"] == "a blue cup on the table"
    assert lint(plan, "paint the cup blue") == ()
    told = describe_plan(plan)
    assert "   after: a blue cup on the table" in told and "Scene after the edit: A table" in told
    assert "The instruction could also mean: the cup at the back" in told


@pytest.mark.parametrize("name", ["edit", "edit_no_reasoning", "context", "result"])
def test_a_template_lets_the_model_say_that_an_instruction_is_ambiguous_or_about_the_whole_image(name):
    text = load_template(name).text
    assert "<ambiguous>another meaning</ambiguous>" in text
    for prompt in ("the whole scene at dusk", "a watercolour painting"):
        plan, _ = read_plan(f"<gen_image>{prompt}</gen_image><region>[]</region>", (644, 476))
        assert plan.notices == () and lint(plan, "make it evening") == ()


def test_every_phrase_that_counts_as_copied_stands_in_a_template():
    text = " ".join(load_template(name).text for name in TEMPLATES).casefold()
    published = {"global edit instruction", "detailed prompt for the image generator"}
    for phrase in (*ECHOED_HINTS, *ECHOED_PROMPTS):
        assert phrase in text or phrase in published, phrase


def test_hypothetical_instructions_are_labelled_with_the_four_kinds_of_reasoning():
    text = load_template("hypothetical").text
    assert re.findall(r"^ +(\w+):", text, re.MULTILINE) == ["physical", "temporal", "causal", "story"]


@pytest.mark.parametrize(
    ("text", "words", "reasoning"),
    [
        ('A red cup.\nA <b>dog</b>, [1] "x" [.', 'A red cup.\nA <b>dog</b>, [1] "x" [.', ""),
        ("<think>Look.</think>\nA red cup.", "A red cup.", "Look."),
        ("Look.</think>\n\nA red cup.", "A red cup.", "Look."),
        ("\u25c1think\u25b7Look.\u25c1/think\u25b7A red cup.", "A red cup.", "Look."),
        ("[THINK]Look.[/THINK]A red cup.", "A red cup.", "Look."),
        ("<think>Look", "", "Look"),
    ],
)
def test_reasoning_is_no_part_of_a_text_that_was_asked_for(text, words, reasoning):
    assert read_words(text) == (words, reasoning)


# ---- layouts ------------------------------------------------------------------------------------------------


def test_the_inference_layout_is_one_turn_of_picture_template_and_instruction():
    (message,) = planner_messages(load_template("edit"), f" {INSTRUCTION} ", coordinates_in_words("pixels", (640, 420)))
    picture, text = message.parts
    assert (message.role, picture) == ("user", Part.IMAGE)
    assert text.endswith(f"\n{INSTRUCTION}")
    assert "640 pixels wide and 420 pixels high" in text
    assert "{{coordinates}}" not in text


def test_the_training_layout_has_the_picture_before_the_instruction():
    (message,) = planner_messages(load_template("edit"), INSTRUCTION, layout="training")
    before, picture, after = message.parts
    assert picture is Part.IMAGE
    assert after == f"\n{INSTRUCTION}"
    assert before.endswith("The user's instruction:")


def test_the_system_layout_has_the_template_as_the_system_message():
    system, user = planner_messages(load_template("edit"), INSTRUCTION, layout="system")
    assert (system.role, user) == ("system", Message("user", (Part.IMAGE, INSTRUCTION)))
    assert as_two_texts((system, user)) == (system.text, INSTRUCTION)
    assert as_two_texts(planner_messages(load_template("edit"), INSTRUCTION))[0] == ""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rephrasing_is_asked_without_the_picture(layout):
    messages = planner_messages(load_template("rephrase"), INSTRUCTION, layout=layout)
    assert not any(Part.IMAGE in message.parts for message in messages)
    assert text_of(messages).count(INSTRUCTION) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_says_the_instruction_in_every_layout(name, layout):
    messages = planner_messages(load_template(name), INSTRUCTION, "Count paces.", layout)
    said = text_of(messages)
    assert said.count(INSTRUCTION) == 1 + (name == "scene" and layout == "system")
    assert ("Count paces." in said) == TEMPLATES[name].plans
    assert said.replace(INSTRUCTION, "").count("{{") == 0
    assert sum(part is Part.IMAGE for message in messages for part in message.parts) == TEMPLATES[name].with_image


def test_an_empty_instruction_and_an_unknown_layout_or_template_are_refused():
    with pytest.raises(PlanError, match="instruction is empty"):
        planner_messages(load_template("edit"), " \n")
    with pytest.raises(PlanError, match="the instruction has 10001 characters, more than 10000"):
        planner_messages(load_template("edit"), "x" * 10001)
    with pytest.raises(PlanError, match="inference, training, system"):
        planner_messages(load_template("edit"), "x", layout="chat")
    with pytest.raises(PlanError, match="no template 'edits'.*edit_no_reasoning"):
        load_template("edits")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_a_character_in_an_instruction_is_replaced(layout):
    asked = planner_messages(load_template("edit"), "paint\ud83d it", layout=layout)
    looked = second_look_messages(load_template("second_look"), "blue", "paint\ud83d it")
    for messages in (asked, looked):
        assert any("paint\ufffd it" in message.text for message in messages)
        "".join(message.text for message in messages).encode()


# ---- a user's own -------------------------------------------------------------------------------------------


def test_a_users_template_without_a_mark_is_followed_by_the_instruction_as_published():
    template = load_template("mine.txt", "\ufeffPlan this edit:\r\n")
    assert template == Template("mine.txt", "Plan this edit:", True, True)
    assert planner_messages(template, "red hat")[0].text == "Plan this edit:\nred hat"


@pytest.mark.parametrize("mark", ["{{instruction}}", "{{ instruction }}", "{{ content | trim }}", "{{content}}"])
def test_a_users_template_puts_the_instruction_where_its_mark_is(mark):
    template = load_template("mine.txt", f"Do: {mark}. Now plan.")
    assert planner_messages(template, INSTRUCTION)[0].text == f"Do: {INSTRUCTION}. Now plan."
    assert planner_messages(template, INSTRUCTION, layout="training")[0].parts == (
        "Do:",
        Part.IMAGE,
        f"\n{INSTRUCTION}. Now plan.",
    )
    assert planner_messages(template, INSTRUCTION, layout="system")[0].text == f"Do: {INSTRUCTION}. Now plan."


def test_a_file_named_like_one_of_the_packs_is_that_kind_of_template():
    assert load_template("rephrase", "Say it shorter.") == Template("rephrase", "Say it shorter.", False, False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        (" \n ", "is empty"),
        ("{{instuction}}", "{{instuction}}, a mark that is not known"),
        ("{{question}}", "the marks are {{instruction}}, {{coordinates}}"),
        ("{instruction}", "'{instruction}', which is not a mark"),
        ("Do {prompt} now", "'{prompt}', which is not a mark"),
        ("{{ instruction.__class__ }}", "is not a mark"),
        ("{{ instruction | upper }}", "is not a mark"),
        ("{% for a in b %}", "is not a mark"),
        ("{{", "is not a mark"),
        ("x" * 200_001, "200001 characters"),
        ("a\0b", "not a text file"),
    ],
)
def test_a_users_template_with_a_mistake_is_refused_by_name(text, says):
    with pytest.raises(PlanError, match="the template 'mine.txt'") as caught:
        load_template("mine.txt", text)
    assert says in str(caught.value)


def test_json_and_sets_in_a_users_template_are_no_marks():
    text = 'Write {"bbox_2d": [x1, y1, x2, y2], "hint": "a"} and {1} or { a } or {}.'
    assert load_template("mine.txt", text).text == text


def test_a_template_for_a_second_look_needs_its_mark():
    with pytest.raises(PlanError, match="'second_look' does not hold {{hint}}"):
        load_template("second_look", "Is this it?")


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_value_is_put_in_as_it_is_and_never_searched(instruction, coordinates):
    template = load_template("mine.txt", "A {{coordinates}} B {{instruction}} C")
    if instruction.strip():
        assert (
            planner_messages(template, instruction, coordinates)[0].text == f"A {coordinates} B {instruction.strip()} C"
        )


# ---- what is asked besides ----------------------------------------------------------------------------------


def test_a_second_look_shows_the_hint_the_instruction_and_the_picture():
    (message,) = second_look_messages(
        load_template("second_look"), "a golden spoon", INSTRUCTION, coordinates_in_words("seen_pixels")
    )
    assert message.parts[0] is Part.IMAGE
    assert "a golden spoon" in message.text and INSTRUCTION in message.text and "as you see it" in message.text


def test_every_choice_of_coordinates_has_its_words():
    said = {choice: coordinates_in_words(choice, (640, 420)) for choice in COORDINATES}
    assert "0 to 1000" in said["relative_1000"] and "y1" not in said["relative_1000"]
    assert "[y1, x1, y2, x2]" in said["relative_1000_y_first"]
    assert "0 to 1 " in said["relative_1"] and "0 to 100" in said["relative_100"]
    assert said["auto"] == said["seen_pixels"] == said["pixels"]
    assert "wide" not in coordinates_in_words("pixels")

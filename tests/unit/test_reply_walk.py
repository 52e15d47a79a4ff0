"""The reader of replies goes one way and looks at each value once, and every word it knows works from one line."""

import ast
import contextlib
from collections import Counter
from pathlib import Path

import pytest
from replan.planner.plan import PlanError
from replan.planner.replies import CODES, ERROR_CODES, ReplyError, read_plan, vocabulary
from replan.planner.replies import items as items_file
from reply_corpus import IMAGE, load_corpus

FOLDER = Path(__file__).resolve().parents[2] / "planner" / "replies"
# From what knows nothing of the others to what puts them together.
CHAIN = (
    "vocabulary", "notices", "json_texts", "json_repair", "segments", "boxes", "items", "grounding", "answers", "texts",
    "pixels", "build", "__init__",
)  # fmt: skip


def imported(name: str) -> set[str]:
    """The files beside it that a file imports."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1]
    return {node.module or alias.name for node in nodes for alias in node.names}


def test_each_file_imports_only_those_before_it():
    assert {file.stem for file in FOLDER.glob("*.py")} == set(CHAIN)
    for place, name in enumerate(CHAIN):
        assert imported(name) <= set(CHAIN[:place]), name


def test_no_file_is_long():
    lines = {file.stem: len(file.read_text(encoding="utf-8").splitlines()) for file in FOLDER.glob("*.py")}
    print(f"planner/replies: {sum(lines.values())} lines: {lines}")
    assert max(lines.values()) <= 400, lines


def test_no_value_is_looked_at_twice(monkeypatch):
    seen: list[object] = []  # keeps them, so that no address is used again
    look = items_file._value

    def counting(value, *rest, **more):
        if isinstance(value, dict | list) and value:
            seen.append(value)
        return look(value, *rest, **more)

    monkeypatch.setattr(items_file, "_value", counting)
    total = 0
    for case in load_corpus():
        seen.clear()
        with contextlib.suppress(PlanError):
            read_plan(case.reply, IMAGE, case.coordinates)
        twice = {address: count for address, count in Counter(map(id, seen)).items() if count > 1}
        assert not twice, f"{case}: {[value for value in seen if id(value) in twice][:2]}"
        total += len(seen)
    assert total > 600  # otherwise nothing was counted


@pytest.mark.parametrize("case", load_corpus(), ids=str)
def test_everything_told_has_a_code_of_the_list(case):
    try:
        notices = read_plan(case.reply, IMAGE, case.coordinates)[0].notices
    except ReplyError as error:
        assert error.code in ERROR_CODES
        notices = error.notices
    except PlanError:
        return
    assert all(notice.code in CODES and notice.text for notice in notices)


def test_every_code_of_the_list_is_told_by_some_reply():
    told, errors = set(), set()
    for case in load_corpus():
        try:
            told |= {notice.code for notice in read_plan(case.reply, IMAGE, case.coordinates)[0].notices}
        except ReplyError as error:
            errors.add(error.code)
            told |= {notice.code for notice in error.notices}
        except PlanError:
            pass
    assert set(ERROR_CODES) - errors <= set()
    assert set(CODES) - told <= {
        "nothing_to_edit",
        "dropped_too_many",
        "half_character",
        "id_renamed",
        "value_left_out",
        "coordinates_unused",
    }


# ---- every word of the vocabulary -----------------------------------------------------------------------------------

BOX = [322, 66, 426, 330]


def regions(reply: str, coordinates: str = "pixels"):
    return [(region.box, region.hint) for region in read_plan(reply, IMAGE, coordinates)[0].regions]


@pytest.mark.parametrize("word", vocabulary.BOXES[vocabulary.AS_CHOSEN])
def test_every_key_of_a_box_is_read(word):
    assert regions(f'[{{"{word}": {BOX}, "hint": "a"}}]') == [(tuple(BOX), "a")]
    assert regions(f'{{"{word.title()}": {BOX}, "hint": "a"}}') == [(tuple(BOX), "a")]


@pytest.mark.parametrize("word", vocabulary.GLOBAL_PROMPT)
def test_every_word_for_the_global_prompt_is_a_tag_a_key_and_a_heading(word):
    item = f'[{{"bbox_2d": {BOX}, "hint": "a"}}]'
    replies = [f"<{word}>at dusk</{word}><region>{item}</region>", f'{{"{word}": "at dusk", "regions": {item}}}']
    if word.isascii():
        replies.append(f"**{word.title()}:** at dusk\n\n{item}")
    for reply in replies:
        plan, _ = read_plan(reply, IMAGE)
        assert (plan.global_prompt, [region.hint for region in plan.regions]) == ("at dusk", ["a"]), reply


@pytest.mark.parametrize("word", [*vocabulary.HINTS, *vocabulary.LABELS])
def test_every_key_of_words_is_read(word):
    assert regions(f'[{{"bbox_2d": {BOX}, "{word}": "a plate"}}]') == [(tuple(BOX), "a plate")]


@pytest.mark.parametrize("word", vocabulary.LISTS)
def test_every_key_of_a_list_is_read(word):
    assert regions(f'{{"{word}": [{{"bbox_2d": {BOX}, "hint": "a"}}]}}') == [(tuple(BOX), "a")]


@pytest.mark.parametrize("word", vocabulary.REASONING)
@pytest.mark.parametrize(
    ("opening", "closing"), ["<>", "[]", "\u25c1\u25b7", "\uff1c\uff1e", ("<|", "|>"), ("<x:", ">")]
)
def test_every_word_for_reasoning_is_a_mark_in_any_signs(word, opening, closing):
    draft, final = (f'[{{"bbox_2d": {BOX}, "hint": "{hint}"}}]' for hint in ("draft", "final"))
    end = f"</x:{word}>" if opening == "<x:" else f"{opening}/{word}{closing}"
    for reply in (f"{opening}{word}{closing}maybe {draft}{end}{final}", f"maybe {draft}{end}{final}"):
        plan, _ = read_plan(reply, IMAGE)
        assert [region.hint for region in plan.regions] == ["final"], reply
        assert plan.reasoning.startswith("maybe")


@pytest.mark.parametrize("edge", ["x1", "y1", "x2", "y2"])
def test_every_name_of_an_edge_is_read_beside_the_plain_ones(edge):
    values = dict(zip(("x1", "y1", "x2", "y2"), BOX, strict=True))
    for name, meaning in vocabulary.EDGES.items():
        if meaning == edge and name not in ("x0", "y0"):
            others = {key: value for key, value in values.items() if key != edge}
            reply = str([{**others, name: values[edge], "hint": "a"}])
            assert regions(reply) == [(tuple(BOX), "a")], name

"""What the page asks of the pack on ComfyUI's own server: any question gets an answer in words, in time."""

import http.client
import json
import time
from urllib.parse import urlsplit

import numpy as np
import pytest
from replan.planner.plan import RegionMask
from replan.planner.plans.plan_json import plan_from_json
from replan.planner.replies import read_plan

SIZE = [600, 400]
REPLY = (
    "<think>a cup</think><gen_image>A cup.</gen_image>"
    '<region>[{"bbox_2d": [308, 28, 616, 196], "hint": "gold"},]</region>'
)


def ask(server, question: str, data, chunks: int = 0) -> tuple[int, dict]:
    """Status and answer.

    data: an object, or the body itself; chunks: send it in so many parts, of a length not told.
    """
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    size = len(body) // max(1, chunks) + 1
    sent = iter([body[at : at + size] for at in range(0, len(body), size)]) if chunks else body
    try:
        connection.request("POST", f"/replan/{question}", sent, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("coordinates", ["auto", "relative_1000"])
def test_a_pasted_text_is_read_as_the_node_reads_it(server, coordinates):
    status, answer = ask(server, "read", {"text": REPLY, "image_size": SIZE, "coordinates": coordinates})
    plan, note = read_plan(REPLY, tuple(SIZE), coordinates)
    assert status == 200 and plan_from_json(answer["plan"]).regions == plan.regions
    assert answer["warnings"] == list(plan.warnings) and answer["note"] == note


def test_a_text_without_a_plan_is_refused_with_the_readers_words(server):
    status, answer = ask(server, "read", {"text": "hello", "image_size": SIZE, "coordinates": "auto"})
    assert status == 400 and answer["error"].startswith("the text is neither")
    three = '<region>[{"bbox_2d": [1, 2, 3], "hint": "x"}]</region>'
    status, answer = ask(server, "read", {"text": three, "image_size": SIZE, "coordinates": "auto"})
    assert status == 400 and "a box is four numbers" in answer["error"]


def test_a_stored_value_is_checked_as_the_run_checks_it(server):
    region = {"id": "r1", "bbox_2d": [0, 0, 9, 9], "hint": "", "start": 0.5, "end": 0.2}
    value = {"version": 1, "image_size": SIZE, "regions": [region]}
    assert "never be active" in ask(server, "check", {"value": json.dumps(value)})[1]["problem"]
    assert ask(server, "check", {"value": json.dumps({**value, "regions": []})}) == (200, {"problem": ""})


def test_the_patches_are_those_of_the_plan_with_its_masks_and_without_regions_that_are_off(server):
    mask = {"size": [2, 2], "rle": [0, 1, 3]}
    regions = [
        {"id": "a", "bbox_2d": [20, 20, 580, 380], "hint": "", "mask": mask},
        {"id": "b", "bbox_2d": [0, 0, 10, 10], "hint": "", "enabled": False},
    ]
    data = {"version": 1, "image_size": SIZE, "regions": regions}
    status, answer = ask(server, "patches", {"plan": data, "patch": 16, "expand": 0})
    assert status == 200 and answer["size"] == [25, 38] and list(answer["cells"]) == ["a"]
    plan = plan_from_json(data)
    wanted = plan.regions[0].cells(plan.image_size, 25, 38, 400 / 16, 600 / 16)
    cells = RegionMask((25, 38), tuple(answer["cells"]["a"])).to_array()
    assert np.array_equal(cells, wanted) and cells[1:13, 1:19].all() and not cells[13:].any()
    wider = ask(server, "patches", {"plan": data, "patch": 16, "expand": 0.1})[1]["cells"]["a"]
    assert sum(wider[1::2]) > cells.sum()


def test_copied_regions_go_onto_an_image_of_another_shape_and_a_whole_plan_does_not(server):
    mask = {"size": [2, 2], "rle": [0, 1, 3]}
    region = {"id": "a", "bbox_2d": [500, 20, 590, 380], "hint": "x", "mask": mask, "editor": {"color": "#102030"}}
    plan = {"version": 1, "image_size": SIZE, "regions": [region]}
    asked = {"image_size": [300, 100], "coordinates": "auto"}
    assert ask(server, "read", {**asked, "text": json.dumps(plan)})[0] == 400
    status, answer = ask(server, "read", {**asked, "text": json.dumps({**plan, "part": True})})
    assert status == 200 and answer["plan"]["image_size"] == [300, 100] and answer["plan"]["part"]
    (found,) = answer["plan"]["regions"]
    assert found["bbox_2d"] == [210, 0, 300, 100] and found["mask"] is None
    assert found["editor"] == {"color": "#102030"}


def test_boxes_are_arranged_within_what_they_span(server):
    boxes = {"a": [0, 0, 100, 40], "b": [300, 50, 340, 90], "c": [110, 200, 210, 260]}

    def arranged(how):
        status, answer = ask(server, "arrange", {"boxes": boxes, "how": how})
        assert status == 200
        return answer["boxes"]

    assert arranged("right") == {"a": [240, 0, 340, 40], "b": [300, 50, 340, 90], "c": [240, 200, 340, 260]}
    assert {box[1] + box[3] for box in arranged("middle").values()} == {260}
    assert arranged("across") == {"a": [0, 0, 100, 40], "b": [300, 50, 340, 90], "c": [150, 200, 250, 260]}
    assert [box[1] for box in arranged("down").values()] == [0, 100, 200]
    assert ask(server, "arrange", {"boxes": {}, "how": "left"}) == (200, {"boxes": {}})


def test_what_a_person_changed_is_said_in_words(server):
    plan = {"version": 1, "image_size": SIZE, "regions": [{"id": "a", "bbox_2d": [0, 0, 9, 9], "hint": "x"}]}
    after = {**plan, "regions": [{**plan["regions"][0], "enabled": False}]}
    assert ask(server, "changes", {"before": plan, "after": after}) == (200, {"lines": ["a switched off"]})


def test_the_rule_matrix_is_read_and_pressed_by_the_rules_that_act(server):
    asked = {
        "text": "",
        "preset": "replan",
        "family": "flux",
        "regions": ["r1"],
        "changes": [],
        "switch": -1,
        "switch_step": -1,
    }
    press = {"phase": "after", "query": "main", "key": "noise:*", "value": "next"}
    status, answer = ask(server, "matrix", {**asked, "changes": [press]})
    assert (status, answer["problem"], answer["text"]) == (200, "", '{"after":{"main|noise:*":false}}')
    assert "not JSON" in ask(server, "matrix", {**asked, "text": "{"})[1]["problem"]
    assert ask(server, "matrix", {**asked, "regions": [str(i) for i in range(500)]})[0] == 400


HUGE = {"version": 1, "image_size": [999_999, 999_999], "regions": [{"id": "a", "bbox_2d": [0, 0, 9, 9], "hint": ""}]}


@pytest.mark.parametrize(
    ("question", "data", "status", "says"),
    [
        ("nothing", {}, 404, "no such question"),
        ("read", b"", 400, "not a JSON object"),
        ("read", b"[" * 100_000, 400, "not a JSON object"),
        ("read", b"\xff\xfe", 400, "not a JSON object"),
        ("read", [], 400, "not a JSON object"),
        ("read", {"text": 5, "image_size": SIZE, "coordinates": "auto"}, 400, "'text'"),
        ("read", {"text": REPLY, "image_size": [1, "x"], "coordinates": "auto"}, 400, "image_size"),
        ("read", {"text": REPLY, "image_size": SIZE, "coordinates": "miles"}, 400, "miles"),
        ("arrange", {"boxes": {"a": [1, 2]}, "how": "left"}, 400, "region 'a'"),
        ("arrange", {"boxes": {"a": [1, 2, 3, 4]}, "how": "up"}, 400, "'up'"),
        ("patches", {"plan": HUGE, "patch": 8, "expand": 0}, 400, "too many"),
        ("patches", {"plan": HUGE, "patch": True, "expand": 0}, 400, "'patch'"),
        ("patches", {"plan": {}, "patch": 8, "expand": 0}, 400, "image_size"),
        ("patches", {"plan": {**HUGE, "image_size": SIZE}, "patch": -4, "expand": float("nan")}, 400, "finite"),
    ],
)
def test_any_other_question_is_refused_with_words(server, question, data, status, says):
    found, answer = ask(server, question, data)
    assert found == status and says in answer["error"], answer


@pytest.mark.parametrize("chunks", [0, 50])
def test_more_than_a_mebibyte_is_refused_whether_its_length_is_told_or_not(server, chunks):
    text = json.dumps({"text": "x" * (1 << 20), "image_size": SIZE, "coordinates": "auto"}).encode()
    assert ask(server, "read", text, chunks)[0] == 413
    status, answer = ask(server, "read", {"text": "x" * 1000, "image_size": SIZE, "coordinates": "auto"}, chunks)
    assert status == 400 and "neither" in answer["error"]


def test_long_hostile_texts_are_answered_in_the_readers_time_and_the_server_goes_on(server):
    texts = [
        "<region>" * 100_000,
        "[" * 900_000,
        '{"a": ' * 100_000,
        "```\n" + "``` " * 200_000,
        '[{"bbox_2d": [1,2,3,4]},' * 30_000,
    ]
    for text in texts:
        begun = time.monotonic()
        status, _ = ask(server, "read", {"text": text, "image_size": SIZE, "coordinates": "auto"})
        assert status in (200, 400) and time.monotonic() - begun < 20, text[:20]
    assert server.get("/system_stats")

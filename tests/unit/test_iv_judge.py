"""Judging without a network: what is asked again, kept and counted apart; and the plans of the ways to edit."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from replan.evaluation.judge_questions import ANY_MODEL
from replan.planner.models.interface import Answer, Part
from replan.planner.plan import KEEP_UNCHANGED, PlanError, Region, RegionPlan
from replan.planner.plans.plan_json import plan_to_json
from replan.tools.batches.config import Keys
from replan.tools.batches.items import BatchError
from replan.tools.iv_edit import judge as command
from replan.tools.iv_edit.asking import Judge, Replies, read_image
from replan.tools.iv_edit.methods import METHODS, method_of, one_by_one, perturbed, plan_of_result, plans, recorded_plan
from replan.tools.iv_edit.providers import Busy, JudgeError, OpenAIJudge, Refused, _by_status, png_of, settings_without
from replan.tools.iv_edit.records import Record
from replan.tools.iv_edit.report import read_method

GOOD = {"target": 5, "effect": 3, "consistency": 5, "quality": 4}


class Model:
    """Stands for a model in tests of what is around it: says what it is told to, or raises it."""

    label, model, spec = "tests", "one", ANY_MODEL

    def __init__(self, *faults, **replies):
        self.faults, self.replies, self.asked = list(faults), replies, []

    def ask(self, question):
        self.asked.append(question.name)
        if self.faults and (fault := self.faults.pop(0)):
            raise fault
        good = json.dumps({"reasoning": "seen", question.key: GOOD.get(question.name, "yes")})
        reply = self.replies.get(question.name, good)
        return reply if isinstance(reply, Answer) else Answer(reply, True, 10, 5)


def judge_of(tmp_path, model, **options) -> Judge:
    return Judge(model, Replies(tmp_path / "replies"), delay=0.0, say=lambda text: None, **options)


def pair(tmp_path: Path) -> tuple[Path, Path]:
    files = tmp_path / "before.png", tmp_path / "after.png"
    for number, file in enumerate(files):
        Image.new("RGB", (16, 16), (90 * number, 10, 10)).save(file)
    return files


def run_of(tmp_path: Path, count: int = 3) -> Path:
    before, after = pair(tmp_path)
    (tmp_path / "records").mkdir()
    rows = [{"id": str(n), "name": str(n), "row": n, "image": str(before), "instruction": "make it red"}
            for n in range(count)]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "records" / "records.jsonl").write_text(text, encoding="utf-8")
    for n in range(count):
        (tmp_path / "plain" / str(n)).mkdir(parents=True)
        Image.new("RGB", (16, 16), (n, 50, 10)).save(tmp_path / "plain" / str(n) / "final_result.png")
    return tmp_path


def go(run: Path, model, *more: str, monkeypatch) -> tuple[int, str]:
    monkeypatch.setattr(command, "provider_of", lambda *_: model)
    said: list[str] = []
    keys = Keys()
    args, only = command.read([str(run), "--provider", "openai", "--model", "one", "--delay", "0", *more], keys)
    try:
        return command.run(args, only, keys, said.append), "\n".join(said)
    except JudgeError as error:
        return 2, "\n".join([*said, str(error)])


# ---- one edit


def test_four_answers_give_the_published_totals(tmp_path):
    scores, told = judge_of(tmp_path, Model()).judge(*pair(tmp_path), "make it red")
    assert scores.image["weighted"] == pytest.approx(3.35) and not scores.missing
    assert [one["question"] for one in told] == ["target", "effect", "consistency", "quality"]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("I think it is quite nice.", ""),
        ("I'm sorry, I can't help with that.", ""),
        ('{"effect_score": 7}', "7"),
        ("", "empty"),
        (Answer('{"reasoning": "First I', False, 9, 4096), "cut off after 4096 tokens"),
    ],
)
def test_a_reply_that_gives_no_score_is_missing_and_the_others_count(reply, why, tmp_path):
    scores, told = judge_of(tmp_path, Model(effect=reply)).judge(*pair(tmp_path), "make it red")
    assert scores.missing == ("effect",) and "effect" not in scores.image and "overall" not in scores.image
    assert scores.image["target"] == 5 and why in told[1]["why"] and told[1]["why"]


def test_a_judge_that_is_busy_is_asked_again_and_then_given_up(tmp_path):
    model = Model(Busy("429"), Busy("timeout"))
    judge = judge_of(tmp_path, model)
    assert judge.judge(*pair(tmp_path), "make it red")[0].image["target"] == 5
    assert model.asked[:3] == ["target"] * 3 and judge.tries_again == 2
    with pytest.raises(Busy):
        judge_of(tmp_path / "other", Model(*[Busy("429")] * 9), retries=2).judge(*pair(tmp_path), "make it red")


def test_the_wait_doubles_and_follows_what_the_server_asks_for(tmp_path):
    class Waits(threading.Event):
        waits: list[float] = []

        def wait(self, seconds=None):
            self.waits.append(seconds)
            return False

    stop = Waits()
    judge = Judge(Model(Busy("a"), Busy("b"), Busy("c", 30.0)), Replies(tmp_path), stop=stop, say=lambda text: None)
    judge.judge(*pair(tmp_path), "make it red")
    first, second, third = stop.waits
    assert 2 <= first <= 2.5 and 4 <= second <= 5 and third == 30


def test_a_refused_question_is_missing_with_the_reason_and_never_asked_twice(tmp_path):
    model = Model(Refused("the judge refuses the question: unsafe"))
    scores, told = judge_of(tmp_path, model).judge(*pair(tmp_path), "make it red")
    assert scores.missing == ("target",) and "unsafe" in told[0]["why"] and len(model.asked) == 4


def test_a_reply_is_kept_by_images_question_and_model(tmp_path):
    before, after = pair(tmp_path)
    first = Model()
    judge_of(tmp_path, first).judge(before, after, "make it red")
    second = Model()
    judge = judge_of(tmp_path, second)
    judge.judge(before, after, "make it red")
    assert not second.asked and judge.kept == 4
    judge.judge(before, after, "make it blue")
    Image.new("RGB", (16, 16), (1, 2, 3)).save(after)
    judge.judge(before, after, "make it red")
    assert len(second.asked) == 8
    second.model = "two"
    judge.judge(before, after, "make it red")
    assert len(second.asked) == 12
    judge.judge(before, after, "make it red", fresh=("effect",))
    assert second.asked[12:] == ["effect"]


def test_one_reply_is_kept_by_two_threads_at_once(tmp_path, monkeypatch):
    both_written = threading.Barrier(2, timeout=30)
    monkeypatch.setattr("replan.tools.batches.results.os.fsync", lambda _: both_written.wait())
    replies = Replies(tmp_path)
    with ThreadPoolExecutor(2) as pool:  # two methods gave the same image
        list(pool.map(lambda _: replies.put("ab", Answer("5", True, 1, 1)), range(2)))
    assert replies.get("ab") == Answer("5", True, 1, 1)
    assert [file.name for file in tmp_path.glob("*/*")] == ["ab.json"]


def test_images_reach_the_judge_without_loss(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(png_of(image))
    assert (np.asarray(Image.open(tmp_path / "b.png")) == pixels).all() and image.dtype == torch.float32
    (tmp_path / "c.png").write_text("no image", encoding="utf-8")
    with pytest.raises(PlanError, match="cannot be read as an image"):
        read_image(tmp_path / "c.png")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, JudgeError), (403, JudgeError), (404, JudgeError), (408, Busy), (429, Busy), (500, Busy), (503, Busy),
     (413, Refused), (422, Refused)],
)  # fmt: skip
def test_a_status_is_for_good_for_now_or_for_this_question(status, kind):
    assert type(_by_status(status, "x", {"retry-after": "7"})) is kind
    assert _by_status(429, "x", {"retry-after": "7"}).wait == 7
    assert type(_by_status(429, "x", {}, "insufficient_quota")) is JudgeError


NEWER = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."


@pytest.mark.parametrize(
    ("refusal", "kept"),
    [
        (NEWER, {"temperature": 0, "response_format": True, "max_completion_tokens": 9}),
        ("temperature: only the default (1) is supported", {"max_tokens": 9, "response_format": True}),
        ("json Schema is not supported", {"temperature": 0, "max_tokens": 9}),
        ("the image is unsafe", None),
    ],
)
def test_a_setting_that_a_server_refuses_is_left_out_and_nothing_else(refusal, kept):
    assert settings_without({"temperature": 0, "max_tokens": 9, "response_format": True}, refusal) == kept


def test_a_setting_refused_to_several_questions_at_once_is_left_out_for_all_of_them():
    together = threading.Barrier(4)

    class Newer(OpenAIJudge):
        """A server of a newer model, which is asked by four threads before it first answers."""

        openai = SimpleNamespace(BadRequestError=ValueError, APIStatusError=KeyError, APIConnectionError=OSError)

        def __init__(self):
            self.settings = {"temperature": 0, "max_tokens": 9, "response_format": True}

        def _once(self, question, settings):
            if "max_tokens" in settings:
                together.wait(10)
                raise ValueError(NEWER)
            return Answer(json.dumps(settings), True, 1, 1)

    judge = Newer()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(judge.ask, range(4)))
    assert {answer.text for answer in answers} == {json.dumps(judge.settings)}
    assert judge.settings == {"temperature": 0, "response_format": True, "max_completion_tokens": 9}


# ---- a run


def test_a_run_writes_beside_each_image_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = run_of(tmp_path)
    assert go(run, Model(), "--limit", "1", monkeypatch=monkeypatch)[0] == 0
    files = [run / "plain" / str(n) / "judge.json" for n in range(3)]
    assert [file.is_file() for file in files] == [True, False, False]
    before = files[0].stat().st_mtime_ns
    model = Model()
    status, said = go(run, model, monkeypatch=monkeypatch)
    assert status == 0 and "2 judged, 1 judged before" in said and len(model.asked) == 8
    assert files[0].stat().st_mtime_ns == before
    data = json.loads(files[2].read_text(encoding="utf-8"))
    assert (data["id"], data["provider"], data["scores"]["image"]["weighted"]) == ("2", "tests", pytest.approx(3.35))
    Image.new("RGB", (16, 16)).save(run / "plain" / "1" / "final_result.png")
    assert "1 judged, 2 judged before" in go(run, Model(), monkeypatch=monkeypatch)[1]


def test_shards_share_the_edits(tmp_path, monkeypatch):
    run = run_of(tmp_path, 5)
    for part in (1, 2):
        go(run, Model(), "--shard", f"{part}/2", monkeypatch=monkeypatch)
        done = sorted(file.parent.name for file in run.glob("plain/*/judge.json"))
        assert done == (["0", "2", "4"] if part == 1 else list("01234"))


def test_missing_answers_are_counted_apart_and_asked_anew_on_demand(tmp_path, monkeypatch):
    run = run_of(tmp_path)
    said = go(run, Model(effect="who knows"), monkeypatch=monkeypatch)[1]
    assert "3 judged, 0 judged before, 3 of them with a question without an answer" in said
    records = command.read_records(run)
    method = read_method("plain", run / "plain", records)
    assert method.lost == {str(n): ("effect",) for n in range(3)} and "overall" not in method.rows["0"]
    model = Model()
    assert "3 judged before" in go(run, model, monkeypatch=monkeypatch)[1] and not model.asked
    go(run, model, "--ask-again", monkeypatch=monkeypatch)
    assert model.asked == ["effect"] * 3
    assert read_method("plain", run / "plain", records).rows["0"]["overall"] == pytest.approx(4.25)


def test_a_judge_that_is_gone_ends_the_run_and_marks_nothing_as_judged(tmp_path, monkeypatch):
    run = run_of(tmp_path, 6)
    model = Model(*[Busy("no reply")] * 99)
    status, said = go(run, model, "--workers", "1", "--retries", "0", monkeypatch=monkeypatch)
    assert status == 2 and "3 edits after another got no reply; the same command goes on from here" in said
    assert len(model.asked) == 3 and not list(run.glob("plain/*/judge.json"))
    status, said = go(run, Model(JudgeError("the judge answers 401: no")), "--workers", "1", monkeypatch=monkeypatch)
    assert status == 2 and "401" in said
    assert go(run, Model(), monkeypatch=monkeypatch)[0] == 0


def test_regions_are_asked_about_where_the_result_has_a_plan_and_others_are_told(tmp_path, monkeypatch):
    run = run_of(tmp_path, 2)
    plan = RegionPlan((16, 16), regions=(Region("r1", (0, 0, 8, 8), "red"),))
    text = json.dumps({"plan": json.loads(plan_to_json(plan))})
    (run / "plain" / "0" / "result.json").write_text(text, encoding="utf-8")
    said = go(run, Model(), "--regions", monkeypatch=monkeypatch)[1]
    assert "--regions: 1 of them have no plan in result.json" in said
    told = [json.loads((run / "plain" / name / "judge.json").read_text(encoding="utf-8"))["scores"] for name in "01"]
    assert [one["regions"] for one in told] == [{"r1": {"done": 1.0, "kept": 1.0}}, {}]


def test_an_image_that_is_none_leaves_the_others_alone(tmp_path, monkeypatch):
    run = run_of(tmp_path)
    (run / "plain" / "1" / "final_result.png").write_text("no image", encoding="utf-8")
    status, said = go(run, Model(), monkeypatch=monkeypatch)
    assert status == 1 and "plain/1:" in said and "2 judged" in said and "1 that cannot be judged" in said


def test_keys_of_a_configuration_file_are_in_no_output(tmp_path, monkeypatch, capsys):
    run = run_of(tmp_path)
    secret = "sk-very-secret-0123456789"
    config = {"provider": "openai", "model_name": "one", "openai_api_key": secret, "base_url": "http://127.0.0.1:9/v1"}
    file = tmp_path / "api_config.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    keys = Keys()
    args, only = command.read([str(run), "--config", str(file)], keys)
    assert (args.model, args.base_url, only["openai_api_key"]) == ("one", config["base_url"], secret)
    monkeypatch.setattr(command, "provider_of", lambda *_: Model(Refused(f"bad key {secret}"), effect=f"key {secret}"))
    said: list[str] = []
    command.run(args, only, keys, lambda text: said.append(keys.hide(text)))
    written = b"".join(one.read_bytes() for one in run.rglob("*") if one.is_file() and one != file)
    assert secret.encode() not in written and b"***" in written and secret not in "\n".join(said)
    file.write_text(json.dumps({**config, "workers": secret}), encoding="utf-8")
    assert command.main([str(run), "--config", str(file)]) == 2
    assert secret not in "".join(capsys.readouterr())


def test_upstreams_configuration_is_read(tmp_path):
    file = tmp_path / "api_config.json"
    told = {"provider": "vertexai", "model_name": "gemini-2.5-pro", "gemini_project_id": "p", "openai_api_key": None}
    file.write_text(json.dumps(told), encoding="utf-8")
    args, only = command.read([str(tmp_path), "--config", str(file)], Keys())
    assert (args.provider, args.vertex, args.model) == ("google-genai", True, "gemini-2.5-pro")
    assert only["gemini_project_id"] == "p"


# ---- plans


PLAN = RegionPlan((100, 80), "warmer", (Region("a", (10, 10, 50, 40), "red"), Region("b", (60, 20, 90, 70), "blue")))


def test_the_methods_of_the_paper_are_there():
    assert set(METHODS) == {
        "plain", "rephrased", "replan", "replan_boxes", "sequential", "perturbed_0", "perturbed_10", "perturbed_20",
        "perturbed_50", "perturbed_70",
    }  # fmt: skip
    assert method_of("perturbed_35").columns[-1] == "plan"
    with pytest.raises(BatchError, match="there are plain"):
        method_of("perturbed_900")


boxes = st.tuples(st.floats(0, 90), st.floats(0, 70), st.floats(2, 60), st.floats(2, 60)).map(
    lambda one: (one[0], one[1], min(100, one[0] + one[2]), min(80, one[1] + one[3]))
)


@given(boxes, st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7]), st.text(max_size=5), st.integers(0, 9))
def test_corners_move_by_at_most_the_share_and_boxes_stay_in_the_image(box, share, name, seed):
    plan = RegionPlan((100, 80), KEEP_UNCHANGED, (Region("a", box, "red"),))
    moved = perturbed(plan, share, name, seed)
    assert moved == perturbed(plan, share, name, seed)
    (x1, y1, x2, y2), (left, top, right, bottom) = box, moved.regions[0].box
    assert 0 <= left < right <= 100 and 0 <= top < bottom <= 80
    width, height = max(share * (x2 - x1), 0) + 1, max(share * (y2 - y1), 0) + 1
    if share <= 0.5:  # beyond, two edges may pass one another and change places
        for old, new, most in ((x1, left, width), (x2, right, width), (y1, top, height), (y2, bottom, height)):
            assert abs(old - new) <= most
    if share == 0:
        assert moved.regions[0].box == pytest.approx(box)


def test_two_records_move_differently():
    assert perturbed(PLAN, 0.2, "one") != perturbed(PLAN, 0.2, "two")
    assert perturbed(PLAN, 0.2, "one", 1) != perturbed(PLAN, 0.2, "one", 2)


def test_one_region_after_another_and_what_is_for_all_once():
    first, second = one_by_one(PLAN)
    assert ([one.id for one in first.regions], first.global_prompt) == (["a"], "warmer")
    assert ([one.id for one in second.regions], second.global_prompt) == (["b"], KEEP_UNCHANGED)
    assert one_by_one(PLAN.with_regions([])) == [PLAN.with_regions([])]


def test_a_records_own_plan_is_its_boxes_its_answer_or_its_mask(tmp_path):
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    mask = Image.new("L", (50, 40))
    mask.paste(255, (10, 10, 20, 30))
    mask.save(tmp_path / "mask.png")
    record = Record("1", "1", 1, str(tmp_path / "a.png"), "make it red")
    given = recorded_plan(Record(**{**vars(record), "boxes": ((-5.0, 5.0, 50.0, 300.0), (200.0, 0.0, 300.0, 9.0))}))
    assert [one.box for one in given.regions] == [(0, 5, 50, 80)] and given.regions[0].hint == "make it red"
    text = '<gen_image>warm</gen_image><region>[{"bbox_2d": [1, 2, 30, 40], "hint": "a hat"}]</region>'
    given = recorded_plan(Record(**{**vars(record), "answer": text}))
    assert (given.global_prompt, given.regions[0].hint) == ("warm", "a hat")
    given = recorded_plan(Record(**{**vars(record), "mask": str(tmp_path / "mask.png")}))
    assert given.regions[0].box == pytest.approx((20, 20, 40, 60), abs=2)
    said: list[str] = []
    assert not list(plans("replan_boxes", [record], recorded_plan, 0, said.append))
    assert "has no boxes, no answer and no mask" in said[0]


def test_the_plan_of_a_result_is_the_one_it_was_edited_by(tmp_path):
    text = json.dumps({"plan": json.loads(plan_to_json(PLAN))})
    (tmp_path / "result.json").write_text(text, encoding="utf-8")
    assert plan_of_result(tmp_path) == PLAN
    with pytest.raises(PlanError, match="holds no result.json with one plan"):
        plan_of_result(tmp_path / "gone")


def test_every_part_of_a_question_reaches_the_provider(tmp_path):
    seen = []

    class Looks(Model):
        def ask(self, question):
            seen.append(sum(part is Part.IMAGE for one in question.messages for part in one.parts))
            assert len(question.images) == seen[-1]
            return super().ask(question)

    judge_of(tmp_path, Looks()).judge(*pair(tmp_path), "make it red", "the left cup")
    assert seen == [2, 2, 2, 1]


@pytest.mark.parametrize("text", ["provider: foo\nmodel: m", "provider: 5\nmodel: m"])
def test_a_provider_that_there_is_not_is_refused_in_a_file_too(tmp_path, text):
    pytest.importorskip("yaml")
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BatchError, match="provider cannot have that value"):
        command.read([str(tmp_path), "--config", str(tmp_path / "c.yaml")], Keys())

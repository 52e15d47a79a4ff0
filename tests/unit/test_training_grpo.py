"""GRPO of the toy planner: rewards as TRL asks for them, stages that go on or refuse to, two steps of TRL itself."""

import asyncio
import errno
import io
import json
import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from replan.tools.host_server import free_port
from replan.tools.toyworld.requests import training_requests
from replan.tools.toyworld.weights import PLANNER, WEIGHTS
from replan.tools.training.grpo.environment import training_python
from replan.tools.training.grpo.held_out import HeldOut, measured
from replan.tools.training.grpo.options import StageError, StageOptions
from replan.tools.training.grpo.records import check_base, toy_prompts, training_and_held_out
from replan.tools.training.grpo.stage import check_folder, left_no_room, resumed_from
from replan.tools.training.grpo.stage_rewards import StageRewards
from replan.tools.training.grpo.watching import Watch, rows_of, sheet
from replan.tools.training.grpo.worlds import ExactJudge, plan_of
from safetensors.torch import load_file

TRAINING = Path(__file__).resolve().parents[2] / "tools" / "training"
STAGE1 = TRAINING / "grpo" / "toy_stage1.yaml"
FORM, IMAGE = "text_refinement_edit_nothink", "edit_region_planning_nothink"
OPTIONS = StageOptions(model=str(WEIGHTS / PLANNER))


def requests(count: int) -> list:
    return [one for scene in range(count) for one in training_requests(900, scene, 1)]


class Drawn:
    """A world whose images are drawn as wanted, and exactly judged; one prompt's cannot be had."""

    def __init__(self, lost: int = -1) -> None:
        self.lost, self.asked = lost, []

    async def judged(self, prompts, texts):
        found = []
        for prompt, text in zip(prompts, texts, strict=True):
            self.asked.append((prompt.number, text))
            file = io.BytesIO()
            Image.fromarray(prompt.request.task.wanted.pixels).save(file, "PNG")
            found.append(None if prompt.number == self.lost else ExactJudge().judge(prompt, file.getvalue()))
        return found


def called(function, numbers, texts, prompts, step=0):
    """A reward function called as TRL calls it: its rewards, and what it logged."""
    logged = {}
    names = {one.number: one.task_name for one in prompts}
    state = type("State", (), {"global_step": step})()
    given = function(
        completions=[[{"role": "assistant", "content": text}] for text in texts], number=numbers,
        task_name=[names[number] for number in numbers], trainer_state=state, log_metric=logged.__setitem__,
        prompts=None, completion_ids=None, image=None,
    )  # fmt: skip
    return asyncio.run(given), logged


def test_records_are_routed_by_their_task_and_others_get_no_reward():
    one, two = requests(2)
    prompts = toy_prompts([one], FORM) + toy_prompts([two], IMAGE, 1)
    form, image = StageRewards(prompts, OPTIONS, Drawn()).functions
    replies = [one.reply, two.reply]
    assert called(form, [0, 1], replies, prompts)[0] == pytest.approx([0.98, None])
    given, logged = called(image, [0, 1], replies, prompts)
    assert given[0] is None and given[1] == pytest.approx(1 + 0.2 * 0.98)
    assert logged["image"] == 1 and logged["excluded"] == 0


def test_a_plan_behind_the_gate_is_not_rendered_and_an_image_that_cannot_be_had_is_no_zero():
    prompts = toy_prompts(requests(2), IMAGE)
    world = Drawn(lost=1)
    (image,) = StageRewards(prompts, OPTIONS, world).functions
    broken = prompts[0].answer.removesuffix("</region>")
    replies = [prompts[0].answer, broken, prompts[0].answer, prompts[1].answer]
    given, logged = called(image, [0, 0, 0, 1], replies, prompts)
    assert given[3] is None  # TRL leaves it out of its group
    assert given[0] == given[2] == pytest.approx(1.196) and 0 <= given[1] < 0.2
    assert world.asked == [(0, replies[0]), (1, replies[3])]  # an equal reply is rendered once
    assert logged["excluded"] == 0.25 and logged["renders"] == 0.75


def test_a_control_gets_the_same_rewards_in_another_order():
    prompts = toy_prompts(requests(1), FORM)
    good, bad = prompts[0].answer, "no plan"
    numbers, replies = [0] * 16, [good, bad] * 8
    (plain,) = StageRewards(prompts, OPTIONS).functions
    (mixed,) = StageRewards(prompts, StageOptions(model=OPTIONS.model, shuffled=True)).functions
    right, shuffled = (called(function, numbers, replies, prompts)[0] for function in (plain, mixed))
    assert sorted(right) == sorted(shuffled) and right != shuffled
    assert called(mixed, numbers, replies, prompts)[0] == shuffled  # the same when a run goes on
    assert called(mixed, numbers, replies, prompts, step=1)[0] != shuffled


def test_a_stage_whose_plans_are_rendered_wants_servers():
    with pytest.raises(StageError, match="--comfyui URL,.. says where"):
        StageRewards(toy_prompts(requests(1), IMAGE), OPTIONS)


@pytest.mark.parametrize("more", [{"think_length": 0}, {"sharp": float("nan")}, {"workers": 0}, {"limit": -1}], ids=str)
def test_a_number_that_no_stage_can_have_is_refused(more):
    with pytest.raises(StageError, match=f"--{next(iter(more))} is .*; give "):
        StageOptions(model="-", **more)


def test_a_task_without_a_reward_is_refused_with_those_that_have_one():
    with pytest.raises(StageError, match="--task edit has no reward; choose from text_refinement, "):
        StageRewards(toy_prompts(requests(1), "edit"), OPTIONS)


def test_held_out_prompts_have_numbers_of_their_own_and_true_replies_are_found():
    options = StageOptions(model=OPTIONS.model, limit=3, held_out=9)
    training, held_out = training_and_held_out(options, Path())
    assert [one.number for one in training + held_out] == list(range(12))
    found = measured(StageRewards(held_out, options), held_out, [one.answer for one in held_out[:-1]] + ["nothing"])
    assert found.figures["format"] == found.figures["found"] == pytest.approx(8 / 9, abs=1e-3)
    assert sheet(found).size == (4 * 256, 2 * 288)


def test_photos_of_a_folder_are_records_and_one_that_is_no_image_is_left_out_and_said(tmp_path, capsys):
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text("make the ball red", encoding="utf-8")
        Image.new("RGB", (300, 200), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    options = StageOptions(model=OPTIONS.model, records=str(tmp_path), held_out=1)
    training, held_out = training_and_held_out(options, tmp_path / "out")
    assert [one.number for one in training + held_out] == [0, 1, 2]
    assert training[0].opened().size == (300, 200) and training[0].instruction == "make the ball red"
    assert "1 that cannot be used" in capsys.readouterr().out
    with pytest.raises(StageError, match="has 3 records, and --held_out keeps 3 back"):
        training_and_held_out(StageOptions(model=OPTIONS.model, records=str(tmp_path), held_out=3), tmp_path / "out")


def test_a_reply_is_read_in_the_pixels_that_the_model_saw():
    (prompt,) = toy_prompts(requests(1), IMAGE)
    true = prompt.request.task.plan.regions[0].box
    larger = plan_of(prompt, prompt.answer, (256, 256)).regions[0].box
    assert larger == pytest.approx([2 * edge for edge in true])
    assert plan_of(prompt, "no plan", (128, 128)) is None


def test_the_best_planner_is_kept_and_a_stage_that_gets_no_better_ends(tmp_path):
    from transformers import TrainerControl, TrainerState

    rewards, saved = iter([0.5, 0.7, 0.6, 0.7, 0.9]), []
    held_out = toy_prompts(requests(2), FORM)

    def answer() -> HeldOut:
        return HeldOut(held_out, ["no plan", held_out[1].answer], {"reward": next(rewards)})

    watch = Watch(tmp_path, answer, saved.append, 10, 2, 20, lambda _: None)
    state, control = TrainerState(), TrainerControl()
    watch.on_train_begin(None, state, control)
    for step in range(1, 31):
        state.global_step = step
        assert not control.should_training_stop
        watch.on_step_end(None, state, control)
    assert control.should_training_stop  # 0.7 at step 10, none better at 20 and 30
    assert saved == [tmp_path / "best"]
    assert sorted(file.name for file in (tmp_path / "plans").iterdir()) == ["step_0000.png", "step_0020.png"]
    state.global_step = 10  # a run that goes on from there forgets what came later
    watch.on_train_begin(None, state, control)
    rows = [json.loads(line) for line in (tmp_path / "figures.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == [{"step": 0, "reward": 0.5}, {"step": 10, "reward": 0.7}]


def test_a_base_of_another_family_is_refused(tmp_path):
    for text, why in (
        ('{"model_type": "qwen3_vl", "text_config": {"vocab_size": 151936}}', "needs? the toy planner"),
        ('{"model_type": "llama"}', "no family that plans"),
        ("{}", "no folder with a planner"),
        ('{"model_type": ["qwen3_vl"]}', "no folder with a planner"),
        ("[" * 100_000, "no folder with a planner"),
        ('{"model_type": "qwen3_vl", "text_config": 5}', "needs? the toy planner"),
    ):
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(StageError, match=why):
            check_base(StageOptions(model=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lora", 1.5), ("lora", True), ("lora", -1), ("lora", 10**6), ("lora_alpha", -1), ("think_length", [1, 2]),
        ("think_length", 0), ("task", None), ("records", 5), ("shuffled", 1), ("sharp", math.nan), ("sharp", -1.0),
        ("most_pixels", 0), ("workers", 0), ("render_steps", 0), ("render_timeout", -1.0), ("patience", math.inf),
    ],
)  # fmt: skip
def test_a_setting_of_another_type_or_range_is_refused_by_its_name(name, value):
    """A YAML file's values come as they are."""
    with pytest.raises(StageError, match=f"{name} is "):
        StageOptions(model=OPTIONS.model, **{name: value})


def test_a_stage_does_not_write_over_a_planner(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    for folder in (tmp_path, Path(OPTIONS.model)):
        with pytest.raises(StageError, match="holds a planner already, which would be overwritten"):
            check_folder(folder, OPTIONS.model)
    (tmp_path / "stage.json").write_text("{}", encoding="utf-8")
    check_folder(tmp_path, OPTIONS.model)
    check_folder(tmp_path / "new", OPTIONS.model)


def test_a_line_that_broke_off_is_forgotten_when_a_run_goes_on(tmp_path):
    file = tmp_path / "history.jsonl"
    file.write_text('{"step": 1, "reward": 0.5}\n{"step": 2, "rew', encoding="utf-8")
    assert rows_of(file) == [{"step": 1, "reward": 0.5}]


def test_a_checkpoint_of_another_world_size_or_half_written_is_refused(tmp_path):
    for step, files in ((5, ("rng_state.pth",)), (10, ("rng_state_0.pth", "rng_state_1.pth"))):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in (*files, "trainer_state.json"):
            (folder / name).write_text("{}", encoding="utf-8")
    (tmp_path / "checkpoint-15").mkdir()  # no state: it was never finished
    for name in ("checkpoint-20", "checkpoint-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text('{"epoch": 1' if "20" in name else "{}", encoding="utf-8")
    assert resumed_from(tmp_path, 2) == tmp_path / "checkpoint-10"
    with pytest.raises(StageError, match="checkpoint-10 was written by 2 processes, this run has 1"):
        resumed_from(tmp_path, 1)


@pytest.mark.parametrize(
    ("error", "free", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 2**40, True),
        (RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"), 2**40, True),
        # What torch said on a disk that was full.
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 25109248 vs 25109136"), 4096, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 2**40, False),
    ],
)
def test_a_full_disk_is_told_from_other_errors(error, free, full, monkeypatch, tmp_path):
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=free))
    assert left_no_room(error, tmp_path) is full


# ---- TRL itself ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def python() -> str:
    found = training_python()
    if isinstance(found, str):
        pytest.skip(f"no environment with TRL: {found}")
    return str(found)


def grpo(python: str, out: Path, *arguments: object, processes: int = 1) -> subprocess.CompletedProcess:
    """Train the published planner, so hot that its replies differ."""
    several = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_addr", "127.0.0.1",
               "--master_port", str(free_port())] if processes > 1 else []  # fmt: skip
    command = [
        python, *several, str(TRAINING / "grpo.py"), "--config", str(STAGE1), "--model", OPTIONS.model,
        "--output_dir", str(out), "--limit", "8", "--num_generations", "2", "--max_steps", "2", "--save_steps", "1",
        "--per_device_train_batch_size", "4", "--temperature", "3", "--held_out", "2", "--measure_every", "2",
        "--max_completion_length", "24", *map(str, arguments),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=900)


def test_settings_that_cannot_be_used_end_with_one_sentence(python, tmp_path):
    """One process for all: TRL takes seconds to import."""
    good = STAGE1.read_text(encoding="utf-8")
    cases = {
        "": "mapping", "- a": "mapping", "a: [1": "flow sequence", f"{good}\nnonsense: 5": "--nonsense",
        f"{good}\nmax_steps: [1]": "max_steps is a", f"{good}\nmax_steps: 1.5": "max_steps is a whole",
        f"{good}\nnum_generations: 7": "divisible", f"{good}\nnum_generations: 0": "cannot be used",
        f"{good}\nlearning_rate: .nan": "learning_rate is nan",
        good: "fine", (STAGE1.parent / "toy_stage2.yaml").read_text(encoding="utf-8"): "fine",
    }  # fmt: skip
    files = [tmp_path / f"{number}.yaml" for number in range(len(cases))]
    for file, text in zip(files, cases, strict=True):
        file.write_text(text, encoding="utf-8")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from bench import import_pack; import_pack()\n"
        "from replan.tools.training.grpo.stage import StageError, parsed\n"
        "for file in sys.argv[2:]:\n"
        "    try: parsed(['--config', file, '--model', '.', '--output_dir', 'out']); print('fine')\n"
        "    except StageError as error: print(error)\n"
    )
    command = [python, "-c", code, str(TRAINING.parent), *map(str, files), str(tmp_path / "none.yaml"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    lines = done.stdout.splitlines()
    assert not done.returncode and len(lines) == len(cases) + 2, done.stderr[-2000:]
    for line, said in zip(lines, (*cases.values(), "none.yaml cannot be read", "cannot be read"), strict=True):
        assert said in line


def history(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text(encoding="utf-8").splitlines()]


def distance(one: Path, other: Path) -> float:
    """Between the weights of two folders."""
    weights = [load_file(folder / "model.safetensors") for folder in (one, other)]
    return sum(float((weights[0][name] - value).square().sum()) for name, value in weights[1].items()) ** 0.5


@pytest.fixture(scope="module")
def trained(python, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("grpo") / "stage"
    done = grpo(python, out)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step 2 of 2, reward" in done.stdout and "groups without spread" in done.stdout
    return out


def test_two_steps_change_the_planner_and_leave_figures_and_pictures(trained):
    assert 0.01 < distance(trained, trained / "checkpoint-1") < 1
    assert any(row["grad_norm"] > 0 for row in history(trained))
    assert (trained / "plans" / "step_0000.png").is_file() and (trained / "reward.png").is_file()
    rows = (trained / "figures.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["step"] for row in rows] == [0, 2]


def test_a_run_that_goes_on_takes_the_same_next_step(python, trained, tmp_path):
    out = tmp_path / "stage"
    shutil.copytree(trained / "checkpoint-1", out / "checkpoint-1")
    for name in ("stage.json", "history.jsonl", "figures.jsonl"):
        shutil.copy(trained / name, out / name)
    done = grpo(python, out)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "going on from" in done.stdout
    # The same replies; the same gradient but for rounding, which depends on where memory lies. (Where a gradient is
    # nearly 0, Adam's first step makes much of its rounding, so the weights are compared as a whole.)
    for name in ("reward", "loss", "completions/mean_length"):
        assert [row[name] for row in history(out)] == [row[name] for row in history(trained)]
    assert distance(out, trained) < 0.05 * distance(trained, trained / "checkpoint-1")


def test_two_processes_train_one_planner(python, tmp_path):
    out = tmp_path / "stage"
    done = grpo(python, out, "--max_steps", 1, "--per_device_train_batch_size", 2, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("step 1 of 1") == 1
    with pytest.raises(StageError, match="was written by 2 processes, this run has 1"):
        resumed_from(out, 1)


JUDGE = """
import http.server, io, json, sys, threading
sys.path.insert(0, sys.argv[1])
from bench import import_pack
import_pack()
from pathlib import Path
from replan.tools.toyworld import judge_server
from replan.tools.toyworld.requests import training_requests
from replan.tools.training.grpo.options import StageError, StageOptions
from replan.tools.training.grpo.records import toy_prompts
from replan.tools.training.grpo.worlds import ExactJudge, ModelJudge
from PIL import Image
requests = [one for scene in range(2) for one in training_requests(900, scene, 1)]
server = judge_server.serve(requests)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}/v1"
options = StageOptions(model="-", judge=address, judge_model=judge_server.MODEL, judge_timeout=20.0)
judge = ModelJudge(options, Path(sys.argv[2]))
judge.asked.delay = 0.01
for prompt in toy_prompts(requests, "edit_region_planning_nothink"):
    for pixels in (prompt.request.task.wanted.pixels, prompt.request.task.scene.pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        exact, asked = (one.judge(prompt, file.getvalue()) for one in (ExactJudge(), judge))
        assert asked == exact, (asked, exact)
        done = (pixels == prompt.request.task.wanted.pixels).all()
        assert exact.effect == (5 if done else 1)
server.shutdown()
server.server_close()
Image.new("RGB", (128, 128), (9, 9, 9)).save(file := io.BytesIO(), "PNG")
print("down:", judge.judge(prompt, file.getvalue()))

class Prose(http.server.BaseHTTPRequestHandler):
    # Answers without JSON, as models do now and then.
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "Of 2 squares 1 is blue now."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        told = {"id": "x", "object": "chat.completion", "created": 0, "model": "x", "choices": [choice]}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Prose)
threading.Thread(target=server.serve_forever, daemon=True).start()
for published in (False, True):
    options = StageOptions(
        model="-", judge=f"http://127.0.0.1:{server.server_port}/v1", judge_model="x", published=published)
    print(*ModelJudge(options, Path(sys.argv[2])).judge(prompt, file.getvalue()))
"""


def test_a_judge_over_http_says_what_the_scorer_measures_and_without_a_reply_there_is_no_score(python, tmp_path):
    """The published reading takes the first digit of a reply in prose for its score."""
    command = [python, "-c", JUDGE, str(TRAINING.parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-3:] == ["down: None", "None None None", "2.0 2.0 2.0"]

"""What the toy world's planner learns from: requests that only the image can settle, and the plans they ask for."""

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from replan.planner.replies import read_plan
from replan.tools.toyworld.drawing import COLOURS, SHAPES
from replan.tools.toyworld.requests import (
    WHICH,
    held_out_request,
    held_out_requests,
    training_requests,
)
from replan.tools.toyworld.scenes import HELD_OUT_SEEDS, SIZE, SceneError
from replan.tools.toyworld.scoring import iou, plan_figures
from replan.tools.training import model_trainings, planner_measure, planner_model
from replan.tools.training.planner_measure import measure, replies, score_reply
from replan.tools.training.planner_model import (
    NUMBERS,
    PHRASES,
    PIECES,
    TURN_END,
    Sizes,
    load_planner,
    make_model,
    make_processor,
    planner_weights,
    save,
)
from replan.tools.training.planner_training import (
    IGNORED,
    PlannerWithHeads,
    TokenHeads,
    attention_loss,
    batch_of,
    conversation,
    image_contents,
    patches,
    planner_loss,
)
from replan.tools.training.run import Settings, TrainingError

few = settings(max_examples=40, deadline=None)
SMALL = Sizes(width=64, layers=4, inner=64, vision_width=32, vision_layers=2, vision_heads=2, vision_inner=64)


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@few
@given(st.integers(0, 10**6))
def test_a_request_singles_its_objects_out_and_the_reply_is_their_plan(number):
    for request in training_requests(1, number, 2):
        scene, plan = request.task.scene, request.task.plan
        for identity, instruction in request.task.instructions:
            words = instruction.reference.words
            alike = [other for other in scene.objects if instruction.reference.names(other)]
            named = [word for word in WHICH if f"the {word} {words}" in request.text]
            assert bool(named) == (len(alike) > 1)
            firsts = [min(alike, key=lambda other, word=word: WHICH[word](scene, other)).id for word in named]
            assert not firsts or identity in firsts  # two requests may be about such look-alikes
            assert f"the {words}" in instruction.text
        read, _ = read_plan(request.reply, (SIZE, SIZE), "seen_pixels", (SIZE, SIZE))
        assert [(one.box, one.hint) for one in read.regions] == [(one.box, one.hint) for one in plan.regions]
        assert not read.warnings


def test_requests_are_the_same_each_time_and_held_out_ones_apart():
    assert training_requests(1, 7, 3) == training_requests(1, 7, 3) != training_requests(2, 7, 3)
    assert all(one.task.scene.seed in HELD_OUT_SEEDS for one in held_out_requests(3, 5))
    with pytest.raises(SceneError, match="not a held-out one"):
        held_out_request(5)


def test_only_replies_are_learnt(processor):
    scenes = [training_requests(1, number, 3) for number in range(2)]
    batch = batch_of(scenes, processor)
    for requests, labels in zip(scenes, batch.labels, strict=True):
        learnt = processor.tokenizer.decode(labels[labels != IGNORED])
        assert learnt == "".join(f"{one.reply}<|im_end|>" for one in requests)


def test_a_reply_is_a_few_tokens_and_each_edge_one(processor):
    request = training_requests(1, 3, 1)[0]
    tokens = processor.tokenizer(request.reply)["input_ids"]
    edges = [token - PIECES for token in tokens if PIECES <= token < PIECES + len(NUMBERS)]
    assert [NUMBERS[edge].lstrip("[, ") for edge in edges] == re.findall(
        r"\b\d+\b", re.sub("bbox_2d", "", request.reply)
    )
    assert len(tokens) <= 16 * len(request.task.instructions)
    assert processor.tokenizer.convert_ids_to_tokens(PIECES + len(NUMBERS)) == PHRASES[0]


def test_patches_are_those_of_the_processor(processor):
    pictures = np.stack([training_requests(1, number, 1)[0].task.scene.pixels for number in (1, 2)])
    made = processor.image_processor([Image.fromarray(one) for one in pictures], do_resize=False, return_tensors="pt")
    assert torch.allclose(patches(pictures, processor.image_processor), made["pixel_values"], atol=1e-6)


def test_several_requests_after_one_picture_are_as_if_alone(processor):
    model = make_model(0, SMALL)
    requests = training_requests(1, 5, 3)
    together = batch_of([requests, training_requests(1, 6, 2)], processor)
    with torch.no_grad():
        states = model.model(
            input_ids=together.tokens, attention_mask=together.visible, position_ids=together.positions,
            pixel_values=together.pixels, image_grid_thw=together.grid,
        ).last_hidden_state[0]  # fmt: skip
        for request in requests:
            alone = processor(
                text=[f"{conversation(request, processor)}{request.reply}<|im_end|>"],
                images=[Image.fromarray(request.task.scene.pixels)],
                return_tensors="pt", images_kwargs={"do_resize": False},
            )  # fmt: skip
            wanted = model.model(**alone).last_hidden_state[0]
            reply = [*processor.tokenizer(request.reply)["input_ids"], TURN_END]
            places = together.labels[0].unfold(0, len(reply), 1).eq(torch.tensor(reply)).all(1).nonzero()
            start = int(places[0])
            assert torch.allclose(states[start : start + len(reply)], wanted[-len(reply) :], atol=1e-5)


def test_each_token_of_a_picture_is_told_what_lies_there():
    tasks = [one.task for one in training_requests(1, 4, 3)]
    scene = tasks[0].scene
    shown = image_contents([tasks, tasks[:1]], 16)
    assert shown.edges.shape == (2 * 64, 4) and torch.equal(shown.shape[:64], shown.shape[64:])
    found = set()
    for token, (shape, colour) in enumerate(zip(shown.shape[:64].tolist(), shown.colour[:64].tolist(), strict=True)):
        row, column = divmod(token, 8)
        cell = (slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16))
        covered = {thing.id: int(scene.shown(thing.id)[cell].sum()) for thing in scene.objects}
        most = max(covered, key=covered.get)
        if shape < 0:
            assert max(covered.values()) < 0.2 * 16 * 256
            continue
        thing = scene.object(most)
        assert (SHAPES[shape], list(COLOURS)[colour]) == (thing.shape, thing.colour)
        assert tuple(shown.edges[token].int().tolist()) == scene.box(most)
        assert shown.middle[token].tolist() == [16 * column + 8, 16 * row + 8]
        found.add(most)
    assert found == set(scene.ids)


def test_each_box_is_told_which_tokens_show_its_thing(processor):
    scenes = [training_requests(1, number, 3) for number in (4, 5)]
    meant = batch_of(scenes, processor).contents.targets
    boxes = [(one.task.scene, identity) for requests in scenes for one in requests for identity in one.task.meant]
    assert len(meant) == len(boxes)
    for share, (scene, identity) in zip(meant, boxes, strict=True):
        rows, columns = np.nonzero(scene.mask(identity))
        assert set(share.nonzero()[:, 0].tolist()) == set((rows // 16 * 8 + columns // 16).tolist())
        assert float(share.sum()) == pytest.approx(1, abs=1e-5)


def test_the_helping_heads_learn_what_they_are_asked():
    shown = image_contents([[one.task for one in training_requests(1, number, 2)] for number in range(2)], 16)
    chance = torch.Generator().manual_seed(0)
    tokens = torch.randn(len(shown.shape), 128, generator=chance)  # as many numbers as there are tokens
    heads = TokenHeads(128)
    optimizer = torch.optim.AdamW(heads.parameters(), 3e-2)
    first = heads.loss(tokens, tokens, shown).item()
    for _ in range(150):
        optimizer.zero_grad()
        loss = heads.loss(tokens, tokens, shown)
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 4


def test_attention_on_what_is_meant_is_best():
    meant = image_contents([[one.task for one in training_requests(1, 0, 2)]], 16).targets
    right = meant[:, None].repeat(1, 2, 1)
    assert (
        attention_loss(right, meant)
        < attention_loss(0.9 * right, meant)
        < attention_loss(torch.full_like(right, 1 / 64), meant)
    )
    assert attention_loss(right.roll(20, 2), meant) > attention_loss(torch.full_like(right, 1 / 64), meant)


def test_a_small_model_learns_one_reply_and_writes_it(processor):
    model = PlannerWithHeads(make_model(0, SMALL)).train()
    request = training_requests(1, 3, 1)[0]
    batch = batch_of([[request]], processor)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    first, _ = planner_loss(model, batch)
    for _ in range(80):
        optimizer.zero_grad()
        loss, right = planner_loss(model, batch)
        loss.backward()
        optimizer.step()
    assert loss.item() < first.item() / 3
    assert right == 1.0
    model = model.planner.eval()
    assert replies(model, processor, [request]) == [request.reply]
    assert measure(model, processor, [request])["scenes_found"] == 1.0
    assert len(json.loads(re.search(r"<region>(.*)</region>", request.reply)[1])) >= 1


def test_replies_written_together_are_those_written_alone(processor):
    model = make_model(0, SMALL)
    requests = held_out_requests(1, 3)
    assert replies(model, processor, requests) == [replies(model, processor, [one])[0] for one in requests]


def test_what_a_reply_is_worth():
    request = next(one for one in held_out_requests(1, 9) if len(one.task.instructions) == 2)
    right = score_reply(request, request.reply)
    assert right.good and right.ious == (1.0, 1.0) and right.hints == 2 and right.state == "clean"
    lost = score_reply(request, request.reply.replace('}, {"bbox_2d"', '}]</region><x>[{"bbox_2d"'))
    assert not lost.good and lost.ious == (1.0, 0.0) and lost.state == "repaired"
    failed = score_reply(request, "I see nothing")
    assert failed.state == "failed" and failed.ious == (0.0, 0.0)
    figures = plan_figures([right, lost, failed])
    assert (figures["scenes_found"], figures["objects_found"]) == (0.3333, 0.5)
    assert (figures["replies_repaired"], figures["replies_failed"], figures["objects"]) == (1, 1, 6)
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (5, 5, 6, 6)) == 0


def planner_settings(steps: int) -> Settings:
    return Settings("planner", 3, steps, 2, 64, 64, 1e-3, average=0.9, warm_up=2, muon=True)


@pytest.fixture
def small(monkeypatch):
    """The training's own steps on a model that takes no time; on one thread, which always adds in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for module in (model_trainings, planner_model):
        monkeypatch.setattr(module, "make_model", lambda seed=0: make_model(seed, SMALL))
    yield
    torch.set_num_threads(threads)


def test_an_interrupted_training_ends_with_the_same_bytes(tmp_path, small):
    whole = model_trainings.train_planner(tmp_path / "whole", planner_settings(4), say=lambda text: None)
    said = []
    assert (
        model_trainings.train_planner(tmp_path / "parts", planner_settings(4), stop=lambda: True, say=said.append)
        is None
    )
    assert "the same command goes on" in said[-1]
    parts = model_trainings.train_planner(tmp_path / "parts", planner_settings(4), say=said.append)
    assert {file.name: file.read_bytes() for file in whole.iterdir()} == {
        file.name: file.read_bytes() for file in parts.iterdir()
    }


def test_a_training_begins_with_a_run_or_a_written_folder(tmp_path, small):
    made = model_trainings.train_planner(tmp_path / "run", planner_settings(2), say=lambda text: None)
    kept = planner_weights(tmp_path / "run", average=True)
    read = planner_weights(made)
    assert kept.keys() == read.keys()
    assert all(torch.allclose(kept[name], value, atol=1e-3) for name, value in read.items())
    assert not load_planner(made).training
    further = model_trainings.train_planner(tmp_path / "more", planner_settings(2), start=read, say=lambda text: None)
    fresh = planner_weights(made)
    assert any(not torch.equal(fresh[name], value) for name, value in planner_weights(further).items())


def test_what_cannot_be_started_from_is_told(tmp_path, small):
    with pytest.raises(TrainingError, match="holds no planner"):
        planner_weights(tmp_path)
    made = model_trainings.train_planner(tmp_path / "run", planner_settings(1), say=lambda text: None)
    file = made / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(TrainingError, match="holds no planner"):
        planner_weights(made)


def test_weights_of_another_model_are_told(tmp_path, processor):
    made = save(make_model(0, SMALL), processor, tmp_path / "planner")
    with pytest.raises(TrainingError, match="of another model .*patch_embed.proj.weight is 32 x .*, wanted 128 x"):
        planner_weights(made)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--size", "100"], "--size: a scene's size is"),
        *(
            (wrong, "error: give at least one scene")
            for wrong in (["--show", "-1"], ["--threads", "0"], ["--scenes", "0"])
        ),
    ],
)
def test_what_cannot_be_measured_is_told(tmp_path, capsys, wrong, said):
    with pytest.raises(SystemExit, match="2"):
        planner_measure.main(["--folder", str(tmp_path), *wrong])
    assert said in capsys.readouterr().err.splitlines()[-1]

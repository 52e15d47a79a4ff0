"""What the toy world's planner learns from: requests that only the picture can settle, and the plans they ask for."""

import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replan.planner.build import read_plan
from replan.tools.toyworld.planner_model import TURN_END, Sizes, make_model, make_processor
from replan.tools.toyworld.planner_requests import WHICH, held_out_request, training_request
from replan.tools.toyworld.planner_training import IGNORED, batch_of, held_out_requests, planner_loss
from replan.tools.toyworld.scenes import HELD_OUT_SEEDS, SIZE, SceneError

few = settings(max_examples=40, deadline=None)


@few
@given(st.integers(0, 10**6))
def test_a_request_singles_its_objects_out_and_the_reply_is_their_plan(number):
    request = training_request(1, number)
    scene, plan = request.task.scene, request.task.plan
    for identity, instruction in request.task.asked:
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
    assert training_request(1, 7) == training_request(1, 7) != training_request(2, 7)
    assert all(one.task.scene.seed in HELD_OUT_SEEDS for one in held_out_requests(3, 5, SIZE))
    with pytest.raises(SceneError, match="not a held-out one"):
        held_out_request(5)


def test_only_the_reply_is_learnt():
    processor = make_processor()
    requests = [training_request(1, number) for number in range(3)]
    batch = batch_of(requests, processor)
    for request, labels, mask in zip(requests, batch["labels"], batch["attention_mask"], strict=True):
        learnt = labels[labels != IGNORED]
        assert processor.tokenizer.decode(learnt[:-1]) == request.reply
        assert int(learnt[-1]) == TURN_END
        assert not (labels[mask == 0] != IGNORED).any()


def test_a_small_model_learns_one_reply():
    processor = make_processor()
    sizes = Sizes(width=64, layers=2, inner=128, seeing_width=32, seeing_layers=2, seeing_heads=2, seeing_inner=64)
    model = make_model(0, sizes).train()
    batch = batch_of([training_request(1, 3)], processor)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    first, _ = planner_loss(model, batch)
    for _ in range(80):
        optimizer.zero_grad()
        loss, right = planner_loss(model, batch)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 < 3 < first.item()
    assert right > 0.95
    assert len(json.loads(re.search(r"<region>(.*)</region>", training_request(1, 3).reply)[1])) >= 1

"""Stage 2 for real: ComfyUI renders what a reply says, an exact scorer or a judge over HTTP says what it is worth."""

import asyncio
import json

import pytest
from replan.tools.host_server import Client, free_port
from replan.tools.toyworld import weights
from replan.tools.toyworld.requests import training_requests
from replan.tools.training.grpo.options import StageError, StageOptions
from replan.tools.training.grpo.records import toy_prompts
from replan.tools.training.grpo.stage_rewards import StageRewards
from replan.tools.training.grpo.worlds import world_of

TASK = "edit_region_planning_nothink"
DEAD = f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def prompts(models_dir):
    weights.ensure(models_dir)
    wanted = (one for scene in range(99) for one in training_requests(900, scene, 1))
    # One object to recolour: what the toy editor can nearly always do.
    found = next(one for one in wanted if [edit.kind for _, edit in one.task.instructions] == ["recolour"])
    return toy_prompts([found], TASK)


def options(**more) -> StageOptions:
    return StageOptions(model="-", task=TASK, **{"render_steps": 8, "patience": 5.0, **more})


def test_an_edit_is_rendered_judged_and_rewarded_and_a_dead_server_is_survived(server, prompts, tmp_path):
    said = []
    how = options(comfyui=f"{DEAD},{server.url}")
    world = world_of(how, tmp_path, 42, said.append)
    rewards = StageRewards(prompts, how, world)
    good, true = prompts[0].answer, prompts[0].request.task.plan.regions[0].box
    elsewhere = good.replace(json.dumps([round(edge) for edge in true]), "[0, 0, 9, 9]")
    assert elsewhere != good
    first, again, wrong, broken = asyncio.run(rewards.of([0] * 4, [good, good, elsewhere, "no plan"]))
    assert first.parts["target"] == first.parts["effect"] == 5.0 and first.total > 0.8 and again.total == first.total
    assert wrong.parts["effect"] == 1.0 and wrong.total < first.total
    assert not broken.renders and broken.total <= 0
    assert world.render.made == 2 and not world.render.excluded
    assert any("does not answer" in text for text in said)


def test_all_plans_of_a_prompt_are_sampled_with_one_seed(server, prompts, tmp_path):
    world = world_of(options(comfyui=server.url), tmp_path, 42)
    other = world_of(options(comfyui=server.url), tmp_path, 43)

    async def images():
        one, two = [await world.image(prompts[0], prompts[0].answer) for _ in range(2)]
        return one, two, await other.image(prompts[0], prompts[0].answer)

    one, two, noise = asyncio.run(images())
    assert one == two != noise


def test_in_turns_all_is_rendered_then_comfyui_gives_its_memory_back_and_then_all_is_judged(server, prompts, tmp_path):
    world = world_of(options(comfyui=server.url, in_turns=True), tmp_path, 42)
    done, judge, post = [], world.judge.judge, world.render.places[0].client.post
    world.judge.judge = lambda prompt, after: done.append("judged") or judge(prompt, after)
    world.render.places[0].client.post = lambda path, body: done.append(path) or post(path, body)
    good, bad = prompts[0].answer, prompts[0].answer.replace("make", "keep")
    scores = asyncio.run(world.judged(prompts * 2, [good, bad]))
    assert scores[0].effect == 5.0 and len(scores) == 2
    assert [what for what in done if what in ("/free", "judged")] == ["/free", "judged", "judged"]


def test_without_any_server_the_stage_says_so_and_ends(prompts, tmp_path):
    with pytest.raises(StageError, match="does not answer.*start ComfyUI there"):
        world_of(options(comfyui=DEAD), tmp_path, 42)


def test_servers_that_all_die_end_the_stage_once_patience_is_over(server, prompts, tmp_path):
    world = world_of(options(comfyui=server.url, patience=0.5), tmp_path, 42, lambda _: None)
    world.render.places[0].client = Client(DEAD)
    with pytest.raises(StageError, match="no ComfyUI has answered for"):
        asyncio.run(world.judged(prompts, [prompts[0].answer]))


def test_an_image_that_takes_too_long_is_left_out(server, prompts, tmp_path):
    world = world_of(options(comfyui=server.url, render_timeout=0.01), tmp_path, 42, lambda _: None)
    assert asyncio.run(world.judged(prompts, [prompts[0].answer])) == [None]
    assert world.render.excluded == 1 and world.render.again == 2

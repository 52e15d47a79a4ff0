"""The whole path on a running ComfyUI, over HTTP: a plan in, an edited picture out, and clear errors."""

import time

import numpy as np
import pytest
from PIL import Image
from replan.tests.host.graphs import SIZE, edit, pixels, plan_text, run_edit
from replan.tools.host_server import PromptError

HAT = ((16, 16, 80, 112), "a red hat")
DOG = ((96, 32, 176, 112), "a green dog on the grass")


@pytest.fixture(scope="module")
def photograph(server, tmp_path_factory) -> str:
    """A photograph of scikit-image (a cat, by Stefan van der Walt, CC0), small, in the server's input folder."""
    from skimage import data

    file = tmp_path_factory.mktemp("photograph") / "cat.png"
    Image.fromarray(data.chelsea()).resize(SIZE).save(file)
    return server.upload_image(file)


@pytest.fixture(scope="module")
def families(tiny) -> tuple[str, ...]:
    tiny("qwen_image")
    return ("flux1", "flux2", "qwen")


@pytest.mark.parametrize("family", ["flux1", "flux2", "qwen"])
class TestEveryFamily:
    def test_hints_change_the_picture_and_each_word_of_them_counts(self, family, families, server, photograph):
        plain = run_edit(server, photograph, None, family)
        edited = run_edit(server, photograph, plan_text(HAT, DOG), family)
        other = run_edit(server, photograph, plan_text(HAT, (DOG[0], "a blue cat on the sofa")), family)
        assert edited.shape == plain.shape == (SIZE[1], SIZE[0], 3)
        assert plain.std() > 5
        assert np.abs(edited - plain).max() > 2
        assert np.abs(edited - other).max() > 2

    @pytest.mark.parametrize("preset", [None, "off"])
    def test_no_region_or_preset_off_gives_the_picture_of_the_host_alone(
        self, family, preset, families, server, photograph
    ):
        plain = run_edit(server, photograph, None, family)
        plan = plan_text(HAT, DOG) if preset == "off" else plan_text()
        assert np.array_equal(run_edit(server, photograph, plan, family, preset=preset), plain)


@pytest.mark.parametrize("preset", ["symmetric", "local_first", "isolated_regions", "no_global_prompt"])
def test_every_preset_runs_and_changes_the_picture(preset, server, photograph):
    usual = run_edit(server, photograph, plan_text(HAT, DOG))
    assert not np.array_equal(run_edit(server, photograph, plan_text(HAT, DOG), preset=preset, switch=0.5), usual)


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpmpp_2m"])
def test_samplers_that_call_the_model_more_than_once_a_step_and_cfg_run(sampler, server, photograph):
    assert run_edit(server, photograph, plan_text(HAT, DOG), cfg=3.0, sampler=sampler).std() > 5


def test_a_lora_before_the_rules_keeps_its_effect(server, photograph):
    without = run_edit(server, photograph, plan_text(HAT, DOG))
    assert np.abs(run_edit(server, photograph, plan_text(HAT, DOG), lora=True) - without).max() > 2


def test_the_same_prompt_again_gives_the_same_picture(server, photograph):
    first = run_edit(server, photograph, plan_text(HAT), steps=3)
    server.post("/free", {"unload_models": True, "free_memory": True})
    assert np.array_equal(run_edit(server, photograph, plan_text(HAT), steps=3), first)


@pytest.mark.parametrize("kind", ["ConditioningConcat", "ConditioningAverage"])
def test_regions_pass_the_first_input_of_concat_and_average_and_a_second_that_drops_them_is_told(
    kind, server, photograph
):
    """They were dropped with a line of the log alone."""
    more = {"conditioning_to_strength": 0.7} if kind == "ConditioningAverage" else {}
    both, one = plan_text(HAT, DOG), plan_text(HAT)
    pictures, told = [], []
    # The last: ComfyUI has the conditioning of the second run still, so its node runs no more and cannot tell.
    for plan, regions_first in ((plan_text(), True), (both, True), (one, False), (both, False)):
        graph, saved = edit(photograph, plan, global_prompt=f"a loud {kind}")
        prompt = graph.prompt
        (sampler,) = [node for node in prompt.values() if node["class_type"] == "KSampler"]
        sides = [sampler["inputs"]["positive"], sampler["inputs"]["negative"]]
        first, second = sides if regions_first else sides[::-1]
        inputs = {"conditioning_to": first, "conditioning_from": second, **more}
        prompt["90"] = {"class_type": kind, "inputs": inputs, "_meta": {"title": "Both prompts"}}
        sampler["inputs"]["positive"] = ["90", 0]
        before = len(server.log_text())
        pictures.append(pixels(server, server.run(graph), saved))
        told.append(server.log_text()[before:])
    assert np.abs(pictures[1] - pictures[0]).max() > 2
    dropped = f"'Both prompts' ({kind}) gets these regions at its second input, conditioning_from, and drops them"
    assert [dropped in text for text in told[:3]] == [False, False, True]
    assert ["no conditioning of this run carries regions" in text for text in told[1:]] == [False, True, True]


def refusal(server, *args, **kwargs) -> str:
    with pytest.raises(PromptError) as caught:
        run_edit(server, *args, **kwargs)
    return str(caught.value)


def test_regions_on_a_model_without_rules_say_what_to_add(server, photograph):
    said = refusal(server, photograph, plan_text(HAT), apply_rules=False)
    assert "RePlan Apply Region Rules" in said and "off" in said


@pytest.mark.parametrize(
    "box, word",
    [
        ((500, 0, 600, 50), "outside"),
        ((90, 10, 20, 60), "90"),
        ((10, 10, 10, 60), "area"),
        ((10, 10, 20, 30, 40), "four"),
    ],
)
def test_a_plan_with_no_usable_box_names_the_node_and_the_box(box, word, server, photograph):
    graph, _ = edit(photograph, plan_text((box, "a hat")))
    with pytest.raises(PromptError) as caught:
        server.run(graph)
    assert caught.value.node_type == "RePlanPlanFromText"
    assert "RePlan Plan from Text" in str(caught.value) and word in str(caught.value)


def test_text_that_is_no_plan_is_refused_by_name(server, photograph):
    said = refusal(server, photograph, "put a hat on the cat")
    assert "RePlan Plan from Text" in said


def test_a_plan_for_another_aspect_ratio_names_both_sizes(server, photograph):
    said = refusal(server, photograph, plan_text(((10, 10, 60, 100), "a hat"), size=(128, 192)))
    assert "128" in said and "192" in said
    assert "RePlan Resize" in said


def test_the_server_goes_on_after_a_failed_run(server, photograph):
    refusal(server, photograph, "nothing")
    assert run_edit(server, photograph, plan_text(DOG)).shape == (SIZE[1], SIZE[0], 3)


def test_an_interrupted_run_stops_and_the_next_one_works(server, photograph):
    graph, _ = edit(photograph, plan_text(HAT, DOG), steps=2000)
    prompt = server.queue(graph)
    while not server.get("/queue")["queue_running"]:
        pass
    while server.get("/queue")["queue_running"]:  # ComfyUI forgets an interrupt that comes before the first node does
        server.post("/interrupt", {})
        time.sleep(0.2)
    with pytest.raises(PromptError, match="interrupted"):
        server.wait(prompt, timeout=60)
    assert run_edit(server, photograph, plan_text(DOG), steps=3).std() > 5

"""Image and instruction to plan, by a small model that has learnt some answers; folders that do not load."""

import json
import shutil

import comfy.model_management as management
import pytest
import torch
from learned_planner import ASK, GREY, LEFT, LOOKED, MENDING, RIGHT, closer, make_plan, reply, request, square
from replan.planner.asking import conversation
from replan.planner.asking.planning import plan_images
from replan.planner.asking.templates import planner_messages
from replan.planner.models import choose, folder
from replan.planner.models.interface import Sampling
from replan.planner.plan import PlanError
from replan.planner.plans.lint import lint
from replan.tools.training.planner_model import Sizes, make_model, make_processor, make_tokenizer, save
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def planner(learned_planner):
    return folder.load(learned_planner, "fp32", "default")


# ---- planning -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [LEFT, RIGHT])
def test_the_plan_follows_the_image(planner, box):
    plan, text, report, _ = make_plan(planner, square(box), request())
    assert [(region.box, region.hint) for region in plan.regions] == [(box, "blue")]
    assert plan.reasoning == "a red square"
    assert text == reply(box)
    assert "saw the image at 128x128" in report
    assert "Cost: 1 reply, 79 tokens read and 22" in report


def test_boxes_come_back_in_the_pixels_of_a_larger_image(planner):
    large = torch.nn.functional.interpolate(square(RIGHT).movedim(-1, 1), (1280, 1280), mode="nearest").movedim(1, -1)
    plan, _, report, _ = make_plan(planner, large, request())
    assert plan.image_size == (1280, 1280) and "saw the image at 128x128" in report
    assert plan.regions[0].box == tuple(10.0 * edge for edge in RIGHT)


def test_other_coordinates_are_read_as_chosen(planner):
    plan, _, report, _ = make_plan(planner, square(LEFT), request(coordinates="relative_1000"))
    assert plan.regions[0].box == pytest.approx([0.128 * edge for edge in LEFT])
    assert "0..1000" in report


def test_alpha_is_not_shown(planner):
    opaque = torch.cat([square(LEFT), torch.zeros(1, 128, 128, 1)], -1)
    assert make_plan(planner, opaque, request()) == make_plan(planner, square(LEFT), request())


def test_a_grey_image_is_shown_in_grey(planner):
    grey = square(LEFT).mean(-1, keepdim=True)
    in_colours = make_plan(planner, grey.expand(-1, -1, -1, 3), request(template=ASK._replace(plans=False)))
    for more in ((), (torch.zeros_like(grey),)):
        assert (
            make_plan(planner, torch.cat([grey, *more], -1), request(template=ASK._replace(plans=False))) == in_colours
        )


def test_asking_again_mends_a_reply_that_holds_no_plan(planner):
    with pytest.raises(PlanError, match="holds no plan: .*It wrote 2 tokens: 'no'. Turn ask_again on"):
        make_plan(planner, GREY, request())
    plan, text, report, _ = make_plan(planner, GREY, request(ask_again=True))
    assert plan.regions[0].hint == "green"
    assert f"Asked again, because of:\n{MENDING}\nThe second reply was used" in report
    assert "Cost: 2 replies" in report
    assert text == reply(LEFT, "green")


def test_who_asked_again_already_is_not_told_to(planner):
    with pytest.raises(PlanError, match="holds no plan: .* It was asked again already: choose another template"):
        make_plan(planner, GREY, request(ask_again=True, sampling=Sampling(2)))


def test_a_good_plan_is_not_asked_for_again(planner):
    assert "Cost: 1 reply," in make_plan(planner, square(LEFT), request(ask_again=True)).report


def test_a_second_look_moves_the_box_to_where_the_cut_out_shows_it(planner):
    piece, cut = closer(LEFT)
    across, down = cut.size[0] / piece.shape[2], cut.size[1] / piece.shape[1]
    plan, _, report, _ = make_plan(planner, square(LEFT), request(second_look=True))
    x1, y1, x2, y2 = LOOKED
    expected = (cut.left + x1 * across, cut.top + y1 * down, cut.left + x2 * across, cut.top + y2 * down)
    assert plan.regions[0].box == pytest.approx(expected)
    assert "a second look moved its box" in report and "Cost: 2 replies" in report


@pytest.mark.parametrize("votes", [1, 3])
def test_a_region_that_the_reply_switches_off_is_kept_and_not_looked_at(planner, votes):
    told = []
    (made,) = plan_images(
        planner, square(LEFT), request("not now", second_look=True, votes=votes), on_question=told.append
    )
    assert [(region.box, region.enabled) for region in made.plan.regions] == [(LEFT, False)]
    assert len(told) == votes


def test_votes_are_drawn_with_chance_and_counted(planner):
    plan, text, report, _ = make_plan(planner, square(LEFT), request(votes=3))
    assert plan.regions[0].box == LEFT
    assert "Cost: 3 replies" in report and "at temperature 0.7" in report
    assert text.startswith("--- reply 1 ---") and "--- reply 3 ---" in text
    with pytest.raises(PlanError, match="votes is a number from 1 to 9, found 10"):
        make_plan(planner, square(LEFT), request(votes=10))


def test_what_is_asked_is_told_before_each_question(planner):
    told = []
    two = torch.cat([square(LEFT), square(RIGHT)])
    plan_images(planner, two, request(second_look=True), on_question=told.append)
    assert told[:3] == [
        "image 1 of 2: planning",
        "image 1 of 2: a second look at region 'r1'",
        "image 2 of 2: planning",
    ]


def test_a_plan_is_checked_once(planner, monkeypatch):
    linted = []
    monkeypatch.setattr(conversation, "lint", lambda *given: linted.append(given) or lint(*given))
    for changes in ({}, {"ask_again": True}):
        linted.clear()
        assert make_plan(planner, square(LEFT), request(**changes)).findings == ()
        assert len(linted) == 1


def test_a_purely_global_edit_is_said_to_be_one_without_a_warning(planner):
    plan, _, report, findings = make_plan(planner, square(LEFT), request("make it night"))
    assert (plan.global_prompt, plan.regions, plan.notices, findings) == ("night", (), (), ())
    assert "The edit is of the whole image" in report


# ---- what fails ---------------------------------------------------------------------------------------------


def test_of_a_batch_the_image_without_a_plan_leaves_the_others_alone(planner):
    left, none, right = plan_images(planner, torch.cat([square(LEFT), GREY, square(RIGHT)]), request())
    assert [one.plan.regions[0].box for one in (left, right)] == [LEFT, RIGHT]
    assert left.plan.notices == right.plan.notices == ()
    (notice,) = none.plan.notices
    assert none.failed and none.plan.regions == () and none.plan.image_size == (128, 128)
    assert notice.code == "not_planned" and "image 2 of 3: no plan was made (the reply of Qwen2.5-VL" in str(notice)
    assert "its image passes unedited" in none.report and none.reply == "no"


def test_when_no_image_of_a_batch_gets_a_plan_it_is_refused(planner):
    with pytest.raises(PlanError, match="no image got a plan; image 1 of 2: the reply of .* holds no plan"):
        plan_images(planner, torch.cat([GREY, GREY]), request())


@pytest.fixture
def failing(planner, monkeypatch):
    """Lets the question of that number run out of memory."""

    def fail(number: int) -> None:
        own, asked = planner.network.generate, []

        def generate(*given, **more):
            asked.append(1)
            return no_room() if len(asked) == number else own(*given, **more)

        monkeypatch.setattr(planner.network, "generate", generate)

    return fail


@pytest.mark.parametrize(
    ("number", "changes", "code"),
    [
        (2, {"second_look": True}, "second_look_failed"),
        (2, {"votes": 3}, "vote_failed"),
        (1, {"votes": 3}, "vote_failed"),
    ],
)
def test_a_further_question_that_fails_spoils_nothing(planner, failing, number, changes, code):
    failing(number)
    plan, _, report, _ = make_plan(planner, square(LEFT), request(**changes))
    assert plan.regions[0].box == LEFT
    assert [notice.code for notice in plan.notices if "ran out of memory" in notice.text] == [code]
    assert "Warning: " in report


def test_asking_again_that_fails_keeps_the_first_reply(planner, failing):
    failing(2)
    with pytest.raises(PlanError, match="the reply of .* holds no plan: .*It wrote 2 tokens: 'no'"):
        make_plan(planner, GREY, request(ask_again=True))


def test_an_interruption_is_heard_before_the_next_question(planner):
    def interrupt(what):
        management.interrupt_current_processing("second look" in what)

    with pytest.raises(management.InterruptProcessingException):
        plan_images(planner, square(LEFT), request(second_look=True), on_question=interrupt)
    assert not management.processing_interrupted()


# ---- several images -----------------------------------------------------------------------------------------


def test_further_images_are_shown_behind_the_one_to_edit(planner):
    (one,) = plan_images(planner, square(LEFT), request(), square(RIGHT))
    assert (one.plan.regions[0].hint, one.plan.regions[0].box) == ("green", LEFT)
    assert "saw the image at 128x128, and 1 more" in one.report
    paired = plan_images(planner, torch.cat([square(LEFT)] * 2), request(), torch.cat([square(RIGHT)] * 2))
    assert [each.plan for each in paired] == [one.plan] * 2


def test_further_images_that_fit_no_batch_or_model_are_refused(planner, monkeypatch):
    with pytest.raises(PlanError, match="there are 2 images to plan and 3 in more_images"):
        plan_images(planner, torch.cat([square(LEFT)] * 2), request(), torch.cat([square(LEFT)] * 3))
    monkeypatch.setattr(planner, "spec", planner.spec._replace(several_images=False))
    with pytest.raises(PlanError, match="'learned' .* takes one image a conversation, and more_images holds 1"):
        plan_images(planner, square(LEFT), request(), square(RIGHT))


# ---- chance, words ------------------------------------------------------------------------------------------


def test_chance_is_the_seeds_alone(planner):
    before = torch.get_rng_state()
    hot = [
        planner.answer(planner_messages(ASK, "x"), [square(LEFT)], Sampling(20, 2.0, seed, 1.0)).text
        for seed in (1, 2, 1)
    ]
    assert hot[0] == hot[2] != hot[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_template_that_asks_for_words_gives_a_global_prompt(planner):
    plan, text, report, _ = make_plan(planner, GREY, request(template=ASK._replace(name="scene", plans=False)))
    assert (plan.global_prompt, plan.regions, text) == ("no", (), "no")
    assert "The template 'scene' asks for a text" in report and "saw the image at 128x128" in report
    plan = make_plan(planner, square(LEFT), request(template=ASK._replace(name="scene", plans=False))).plan
    assert plan.reasoning == "a red square" and "a red square" not in plan.global_prompt
    blind = ASK._replace(name="rephrase", plans=False, with_image=False)
    assert "saw the image" not in make_plan(planner, square(LEFT), request(template=blind)).report


def test_settings_that_need_regions_are_told_when_a_template_asks_for_words(planner):
    words = request(template=ASK._replace(name="scene", plans=False), votes=3, second_look=True)
    plan, text, report, _ = make_plan(planner, GREY, words)
    assert text == "no" and "Cost: 1 reply" in report
    assert "temperature" not in report
    assert plan.warnings == ("the template 'scene' asks for a text, not for regions; not used: second_look, votes",)


def test_a_reply_that_was_cut_off_says_what_to_raise(planner):
    with pytest.raises(PlanError, match="holds no plan.* It stopped at max_tokens 10: raise it. It wrote 10 tokens"):
        make_plan(planner, square(LEFT), request(sampling=Sampling(10)))
    plan, *_ = make_plan(planner, square(LEFT), request(sampling=Sampling(21)))
    assert any("cut off at max_tokens 21" in warning for warning in plan.warnings)


def test_an_image_of_any_size_can_be_seen_but_no_strip(planner):
    for width, height in ((8, 8), (37, 5)):
        make_plan(planner, torch.zeros(1, height, width, 3), request(template=ASK._replace(plans=False)))
    with pytest.raises(PlanError, match="more than 200 times as long as wide"):
        make_plan(planner, torch.zeros(1, 4, 900, 3), request())
    with pytest.raises(PlanError, match="the instruction is empty"):
        make_plan(planner, square(LEFT), request("  "))


def test_a_large_image_is_seen_at_the_area_that_was_asked_for(planner):
    from replan.planner.models.interface import QWEN3_VL, QWEN25_VL

    for spec, factor in ((QWEN25_VL, 28), (QWEN3_VL, 32)):
        width, height = spec.seen_size((4000, 3000), 1_003_520)
        assert width % factor == height % factor == 0
        assert 0.9 * 1_003_520 < width * height <= 1_003_520
        assert min(spec.seen_size((8, 8), 1_003_520)) >= factor


# ---- memory, progress ---------------------------------------------------------------------------------------


def test_comfyui_counts_and_unloads_it(planner):
    make_plan(planner, square(LEFT), request())
    assert planner.patcher in management.loaded_models()
    assert planner.patcher.loaded_size() == pytest.approx(management.module_size(planner.network), rel=0.01)
    management.free_memory(1e32, planner.patcher.load_device)
    assert planner.patcher not in management.loaded_models()
    assert make_plan(planner, square(LEFT), request()).plan.regions


def test_a_quantised_folder_is_unloaded_like_any_other(learned_planner, tmp_path):
    """The layers' matrices in fp8 with a scale for each block; on a CPU the library turns them back into bf16."""
    copy = shutil.copytree(learned_planner, tmp_path / "quantised")
    state = load_file(copy / "model.safetensors")
    for name in [name for name in state if ".layers." in name and name.endswith("_proj.weight")]:
        blocks = state[name].unfold(0, 32, 32).unfold(1, 32, 32)
        scale = blocks.abs().amax((2, 3)) / 448
        whole = scale.repeat_interleave(32, 0).repeat_interleave(32, 1)
        state[name], state[f"{name}_scale_inv"] = (state[name] / whole).to(torch.float8_e4m3fn), scale
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    settings = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 32]}
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {**settings, "modules_to_not_convert": ["model.visual", "lm_head"]}
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(PlanError, match="'quantised' is quantised and keeps its own numbers; set dtype to 'default'"):
        choose.load_planner(copy, "fp32")
    planner = choose.load_planner(copy)
    assert make_plan(planner, square(LEFT), request()).plan.regions[0].box == LEFT
    assert planner.patcher in management.loaded_models()
    management.free_memory(1e32, planner.patcher.load_device)
    assert planner.patcher not in management.loaded_models()


def test_quantised_weights_that_cannot_be_moved_are_refused(learned_planner, monkeypatch):
    network = folder.load(learned_planner, "fp32", "cpu").network

    def stays(*_, **__):  # as bitsandbytes in 8 bits before its version 0.48
        raise ValueError("You need bitsandbytes>=0.48.0 to move a 8-bit model")

    monkeypatch.setattr(network, "to", stays)
    with pytest.raises(PlanError, match="keeps its weights on the GPU, .*bitsandbytes>=0.48.0.*; update"):
        folder._check_movable(network, learned_planner)


def no_room(*_, **__):
    torch.empty(10**15)  # what main memory says when it is full


def test_full_memory_says_which_settings_help_and_is_given_back(planner, learned_planner, monkeypatch):
    make_plan(planner, square(LEFT), request())
    with monkeypatch.context() as full:
        full.setattr(planner.network, "generate", no_room)
        with pytest.raises(
            PlanError, match="Qwen2.5-VL 'learned' .* ran out of memory .*; lower max_megapixels or max_tokens"
        ):
            make_plan(planner, square(LEFT), request())
    assert planner.patcher not in management.loaded_models()
    with monkeypatch.context() as full:
        full.setattr("transformers.AutoModelForImageTextToText.from_pretrained", no_room)
        with pytest.raises(PlanError, match="loading 'learned' ran out of memory"):
            choose.load_planner(learned_planner, "bf16")
    assert make_plan(planner, square(LEFT), request()).plan.regions


def test_it_stops_when_the_user_interrupts(planner):
    management.interrupt_current_processing(True)
    try:
        with pytest.raises(management.InterruptProcessingException):
            make_plan(planner, square(LEFT), request())
    finally:
        management.interrupt_current_processing(False)
    assert make_plan(planner, square(LEFT), request()).plan.regions


# ---- the toy world's model ----------------------------------------------------------------------------------


def test_the_toy_worlds_untrained_model_is_small_and_sees_a_scene_at_its_own_size(tmp_path):
    model = make_model()
    assert sum(value.numel() for value in model.parameters()) < 6_000_000
    save(model, make_processor(), tmp_path / "toy")
    assert sum(file.stat().st_size for file in (tmp_path / "toy").iterdir()) < 12 * 2**20
    loaded = folder.load(tmp_path / "toy", "fp32", "cpu")
    assert loaded.spec.seen_size((128, 128), 1_003_520) == (128, 128)
    given = loaded.inputs(planner_messages(ASK, "paint it blue"), [square(LEFT)])
    assert given["image_grid_thw"].tolist() == [[1, 16, 16]]
    assert loaded.answer(planner_messages(ASK, "paint it blue"), [square(LEFT)], Sampling(3)).tokens == 3


def test_its_tokenizer_spells_every_text_and_is_always_the_same():
    tokenizer, again = make_tokenizer(), make_tokenizer()
    assert tokenizer.get_vocab() == again.get_vocab() and len(tokenizer) == Sizes().tokens
    letters = "Gr\u00fc\u00dfe, \u7ea2\u8272\u7684\u5706\n\ttabs  and   spaces"
    for text in (reply(LEFT), letters, "remove every light-blue star"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert len(tokenizer("recolour the red square blue")["input_ids"]) <= 10
    assert len(tokenizer("[12, 34, 56, 128]")["input_ids"]) == 5


def test_making_it_leaves_the_global_seed_alone():
    before = torch.get_rng_state()
    first, second = make_model(3), make_model(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))

"""The image nodes as ComfyUI runs them: batches and lists beside plans, the way back, masks, the preview."""

import asyncio

import comfy.utils
import execution
import folder_paths
import pytest
import torch
from comfy_api.latest._io import get_finalized_class_inputs
from comfy_extras.nodes_flux import PREFERRED_KONTEXT_RESOLUTIONS, FluxKontextImageScale
from replan.nodes import images, previews
from replan.nodes.editor import RePlanRegionEditor
from replan.nodes.images import RePlanRegionMasks, RePlanResize, RePlanRestore
from replan.nodes.previews import RePlanPlanPreview
from replan.planner.plan import Notice, Region, RegionPlan
from replan.planner.plans.plan_json import plan_to_json
from replan.planner.plans.resize import KONTEXT_SIZES, working_size

IMAGE = torch.rand(1, 427, 640, 3, generator=torch.Generator().manual_seed(0))


def run(node, **lists):
    """Call a node as ComfyUI does: every input a list, outputs merged; returns (outputs, ui)."""
    _, _, v3_data = get_finalized_class_inputs(node.INPUT_TYPES(), dict.fromkeys(lists))
    v3_data["hidden_inputs"] = {}
    outputs, ui, *_ = asyncio.run(execution.get_output_data("prompt", "1", node, lists, v3_data=v3_data))
    return outputs, ui


def plan(name="a", size=(640, 427)):
    return RegionPlan(size, regions=(Region(name, (size[0] / 2, 0, size[0], size[1] / 2), "red"),))


def resize(image, plans=None, target="flux_kontext", method="stretch", **more):
    lists = {} if plans is None else {"plan": plans}
    outputs, _ = run(RePlanResize, image=image, target=[target], method=[method], **lists, **more)
    return outputs


def test_ids_sockets_and_their_order_are_the_public_contract():
    found = {
        node.GET_SCHEMA().node_id: (
            [f"{entry.id}{'?' * bool(entry.optional)}" for entry in node.GET_SCHEMA().inputs],
            list(node.RETURN_TYPES),
        )
        for node in (*images.NODES, RePlanPlanPreview)
    }
    assert found == {
        "RePlanResize": (
            ["image", "plan?", "target", "method", "multiple?"],
            ["IMAGE", "REGION_PLAN", "REPLAN_TRANSFORM"],
        ),
        "RePlanRestore": (["image", "transform", "original?", "mask?", "feather?"], ["IMAGE"]),
        "RePlanRegionMasks": (["plan", "width", "height", "feather"], ["MASK", "MASK", "MASK"]),
        "RePlanPlanPreview": (["plan", "image?", "patch?"], ["IMAGE"]),
    }


@pytest.mark.parametrize("node", [*images.NODES, *previews.NODES], ids=lambda node: node.__name__)
def test_every_node_explains_itself(node):
    schema = node.GET_SCHEMA()
    assert schema.display_name.startswith("RePlan ") and schema.category.startswith("RePlan/")
    assert schema.description and len(schema.search_aliases) >= 3
    assert all(entry.tooltip for entry in schema.inputs) and all(entry.tooltip for entry in schema.outputs)


def test_image_plan_and_transform_come_out_together():
    (image,), (moved,), (transform,) = resize([IMAGE], [plan()])
    assert image.shape == (1, 832, 1248, 3)
    assert moved.image_size == (1248, 832)
    assert moved.regions[0].box == (624, 0, 1248, 416)
    assert transform.source_size == (640, 427)


def test_without_a_plan_an_empty_one_of_the_working_size_comes_out():
    _, (moved,), _ = resize([IMAGE])
    assert moved == RegionPlan((1248, 832))


def test_a_batch_with_one_plan_stays_a_batch_with_one_plan():
    out = resize([IMAGE.expand(3, -1, -1, -1)], [plan()])
    assert [len(values) for values in out] == [1, 1, 1]
    assert out[0][0].shape == (3, 832, 1248, 3)


def test_a_batch_with_a_plan_for_each_image_comes_out_in_pairs():
    batch = torch.stack([torch.full((427, 640, 3), level) for level in (0.2, 0.7)])
    out = resize([batch], [plan("a"), plan("b")])
    assert [image.shape[0] for image in out[0]] == [1, 1]
    assert [round(float(image.mean()), 2) for image in out[0]] == [0.2, 0.7]
    assert [p.ids for p in out[1]] == [("a",), ("b",)]


def test_a_list_of_images_of_different_sizes_goes_with_its_plans():
    other = torch.rand(1, 500, 399, 3)
    out = resize([IMAGE, other], [plan("a"), plan("b", (399, 500))])
    assert [p.image_size for p in out[1]] == [(1248, 832), (880, 1184)]


def test_several_plans_for_one_image_each_get_it():
    out = resize([IMAGE], [plan("a"), plan("b")])
    assert [len(values) for values in out] == [2, 2, 2]


def test_wrong_counts_and_wrong_sizes_are_refused_by_name():
    with pytest.raises(ValueError, match="RePlan Resize: found 2 images for 3 plans"):
        resize([IMAGE.expand(2, -1, -1, -1)], [plan()] * 3)
    with pytest.raises(ValueError, match="RePlan Resize: .*400x400.*640x427"):
        resize([IMAGE], [plan(size=(400, 400))])


def test_the_presets_and_the_crop_are_the_host_s():
    assert tuple(PREFERRED_KONTEXT_RESOLUTIONS) == KONTEXT_SIZES
    for size in [(640, 427), (333, 1000), (1500, 800), (801, 1403)]:
        image = torch.rand(1, size[1], size[0], 3)
        theirs = FluxKontextImageScale.execute(image).args[0]
        (ours,), _, (transform,) = resize([image], method="crop")
        assert ours.shape == theirs.shape
        x1, y1, x2, y2 = transform.source_box
        part = image[:, y1:y2, x1:x2].movedim(-1, 1)
        cut = comfy.utils.common_upscale(part, *transform.working_size, "lanczos", "disabled").movedim(1, -1)
        assert torch.equal(cut, theirs)


def test_the_plus_encoder_of_the_host_keeps_its_target_s_size():
    """TextEncodeQwenImageEditPlus hands the VAE the image it was given, and not a resized one."""
    from comfy_extras.nodes_qwen import TextEncodeQwenImageEditPlus

    class Clip:
        def tokenize(self, *args, **kwargs):
            return {}

        def encode_from_tokens_scheduled(self, tokens):
            return [[torch.zeros(1, 1, 1), {}]]

    class Vae:
        seen = None

        def encode(self, pixels):
            Vae.seen = pixels
            return torch.zeros(1)

    for size in [(640, 427), (333, 1000), (1500, 800), (4000, 3000)]:
        (image,), *_ = resize([torch.rand(1, size[1], size[0], 3)], target="qwen_image_edit_plus")
        assert (image.shape[2], image.shape[1]) == working_size(size, "qwen_image_edit_plus")
        TextEncodeQwenImageEditPlus.execute(Clip(), "x", Vae(), image)
        assert torch.equal(Vae.seen, image)


# ---- lists beside batches -----------------------------------------------------------------------------------

PAIR = torch.stack([torch.full((427, 640, 3), level) for level in (0.2, 0.7)])
PLANS = [
    RegionPlan((640, 427), regions=(Region("left", (0, 0, 320, 427), "red"),)),
    RegionPlan((640, 427), regions=(Region("right", (320, 0, 640, 427), "red"),)),
]


def edited(level, side):
    """An image of the level in which that half is white."""
    image = torch.full((427, 640, 3), level)
    image[:, :320] = 1.0 if side == "left" else level
    image[:, 320:] = 1.0 if side == "right" else level
    return image


def restore(**lists):
    return run(RePlanRestore, feather=[0], **lists)[0][0]


def masks_of(plans):
    return run(RePlanRegionMasks, plan=plans, width=[0], height=[0], feather=[0])[0][2]


@pytest.mark.parametrize("batched_originals", [True, False])
@pytest.mark.parametrize("batched_edits", [True, False])
@pytest.mark.parametrize("batched_masks", [True, False])
@pytest.mark.parametrize("transforms", [1, 2])
def test_of_a_batch_with_a_plan_each_every_image_comes_back_once_with_its_own_background(
    batched_originals, batched_edits, batched_masks, transforms
):
    images, _, made = resize([PAIR], PLANS, target="none")
    white, masks = [torch.ones_like(image) for image in images], masks_of(PLANS)
    back = restore(
        image=[torch.cat(white)] if batched_edits else white,
        transform=made[:transforms],
        original=[PAIR] if batched_originals else list(PAIR.split(1)),
        mask=[torch.cat(masks)] if batched_masks else masks,
    )
    assert torch.equal(torch.cat(back), torch.stack([edited(0.2, "left"), edited(0.7, "right")]))


def test_several_results_of_each_image_come_back_on_their_own_original():
    _, _, transforms = resize([PAIR], PLANS, target="none")
    back = restore(image=[torch.ones(3, 427, 640, 3)] * 2, transform=transforms, original=[PAIR], mask=masks_of(PLANS))
    assert [len(one) for one in back] == [3, 3]
    assert torch.equal(back[1][2], edited(0.7, "right"))


def test_several_runs_of_a_whole_batch_come_back_image_by_image():
    """As from a list of seeds: two runs on a batch of two, which RePlan Resize did not split."""
    _, _, transforms = resize([PAIR], PLANS[:1], target="none")
    back = restore(image=[torch.ones_like(PAIR)] * 2, transform=transforms, original=[PAIR], mask=masks_of(PLANS[:1]))
    expected = torch.stack([edited(0.2, "left"), edited(0.7, "left")])
    assert all(torch.equal(one, expected) for one in back)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": [PAIR[:1]]}, "found 1 edited image for 2 masks"),
        ({"image": [PAIR[:1]] * 3}, "found 2 original images for 3 edited images"),
        ({"original": [IMAGE.expand(3, -1, -1, -1)]}, "found 3 original images for 2 edited images"),
        ({"original": [IMAGE] * 3}, "found 2 edited images for 3 original images"),
        ({"mask": [torch.ones(3, 427, 640)]}, "found 3 masks for 2 edited images"),
        ({"mask": [torch.ones(2, 427, 640)] * 2}, "found 2 masks for 1 edited image; .*combined"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_by_name(change, says):
    images, _, transforms = resize([PAIR], PLANS, target="none")
    given = {"image": images, "transform": transforms, "original": [PAIR], "mask": masks_of(PLANS), **change}
    with pytest.raises(ValueError, match=f"RePlan Restore: {says}"):
        restore(**given)


def test_a_list_of_settings_is_as_many_runs_on_the_same_images():
    images, plans, transforms = resize([PAIR], PLANS[:1], target="multiple_of", multiple=[64, 128])
    assert [one.shape for one in images] == [(2, 448, 640, 3), (2, 384, 640, 3)]
    assert [one.image_size for one in plans] == [(640, 448), (640, 384)]
    given = {"image": images[:1], "original": [PAIR], "transform": transforms[:1], "mask": [torch.ones(1, 427, 640)]}
    assert [len(one) for one in run(RePlanRestore, feather=[0, 8], **given)[0][0]] == [2, 2]


def test_transforms_of_different_sizes_belong_to_their_images():
    other = torch.rand(1, 500, 399, 3)
    images, _, transforms = resize([IMAGE, other])
    assert [one.shape[1:3] for one in restore(image=images, transform=transforms)] == [(427, 640), (500, 399)]
    with pytest.raises(ValueError, match="RePlan Restore: found 1 edited image for 2 transforms"):
        restore(image=images[:1], transform=transforms)


def test_the_preview_draws_each_plan_of_a_batch_on_its_own_image(comfy_env):
    (previews,), ui = run(RePlanPlanPreview, plan=PLANS, image=[PAIR])
    assert [len(one) for one in previews] == [1, 1] and len(ui["images"]) == 2
    for index, half in enumerate([slice(320, 640), slice(0, 320)]):
        assert previews[index][0, 100:400, half][:, 40:280].mean().item() == pytest.approx(
            PAIR[index].mean().item(), abs=0.01
        )
    with pytest.raises(ValueError, match="RePlan Plan Preview: found 3 images for 2 plans"):
        run(RePlanPlanPreview, plan=PLANS, image=[IMAGE.expand(3, -1, -1, -1)])


def test_the_editor_shows_and_masks_each_plan_of_a_batch_on_its_own_image(comfy_env):
    (plans, _, previews, masks, _), ui = run(RePlanRegionEditor, plan=PLANS, image=[PAIR])
    assert plans == PLANS and len(ui["replan_editor"]) == len(ui["replan_background"]) == 2
    assert [one.shape for one in previews] == [(1, 427, 640, 3)] * 2
    assert masks[0][0, :, :320].all() and not masks[0][0, :, 320:].any()
    assert masks[1][0, :, 320:].all() and not masks[1][0, :, :320].any()


def test_one_stored_plan_does_not_replace_those_of_several_images(comfy_env):
    stored = plan_to_json(plan())
    with pytest.raises(ValueError, match="RePlan Region Editor: 2 plans came in, and the one plan that is stored here"):
        run(RePlanRegionEditor, plan=PLANS, image=[PAIR], regions=[stored])
    (plans, *_), _ = run(RePlanRegionEditor, plan=PLANS, image=[PAIR], regions=[stored], follow_upstream=["always"])
    assert plans == PLANS
    (plans, *_), _ = run(RePlanRegionEditor, image=[PAIR], regions=[stored])
    assert plans == [plan()], "one plan for a batch of images"


def test_a_list_of_batches_with_a_plan_for_each_image_comes_out_in_pairs():
    images, plans, _ = resize([PAIR, PAIR], [*PLANS, *PLANS])
    assert [round(float(image.mean()), 2) for image in images] == [0.2, 0.7, 0.2, 0.7]
    assert [p.ids[0] for p in plans] == ["left", "right", "left", "right"]


@pytest.mark.parametrize("method", ["stretch", "crop", "pad"])
def test_the_way_back_ends_at_the_original_size_and_keeps_it_outside_the_regions(method):
    (image,), (moved,), (transform,) = resize([IMAGE], [plan()], method=method, target="multiple_of", multiple=[128])
    _, _, combined = run(RePlanRegionMasks, plan=[moved], width=[0], height=[0], feather=[0])[0]
    edited = torch.zeros_like(image)
    ((back,),) = run(RePlanRestore, image=[edited], transform=[transform], original=[IMAGE], mask=combined)[0]
    assert back.shape == IMAGE.shape
    assert torch.equal(back[:, 220:], IMAGE[:, 220:]) and torch.equal(back[:, :, :310], IMAGE[:, :, :310])
    assert back[:, 80:180, 360:560].max() < 1e-6


def test_a_region_that_a_crop_cuts_or_drops_is_logged(caplog):
    regions = (
        Region("gone", (0, 0, 150, 20), "red"),
        Region("cut", (0, 0, 150, 50), "red"),
        Region("whole", (0, 90, 9, 99), "red"),
    )
    before = RegionPlan((1500, 800), regions=regions, notices=(Notice("known", "known"),))
    image = torch.zeros(1, 800, 1500, 3)
    _, (moved,), _ = resize([image], [before], target="multiple_of", method="crop", multiple=[800])
    assert [r.levelname for r in caplog.records] == ["WARNING"] * 2
    assert "RePlan Resize: region 'gone' (red) was dropped" in caplog.text
    assert "RePlan Resize: region 'cut' (red) was cut to 50%" in caplog.text
    assert moved.ids == ("cut", "whole") and len(moved.warnings) == 3


def test_a_batch_with_one_plan_for_each_image_logs_the_warnings_of_each(caplog):
    images = torch.zeros(2, 800, 1500, 3)
    plans = [RegionPlan((1500, 800), regions=(Region(name, (0, 0, 150, 50), "red"),)) for name in ("a", "b")]
    resize([images], plans, target="multiple_of", method="crop", multiple=[800])
    assert [r.getMessage().split("'")[1] for r in caplog.records] == ["a", "b"]


def test_an_image_a_few_pixels_off_takes_the_plan_with_a_warning(caplog):
    image = torch.zeros(1, 880, 1184, 3)
    _, (moved,), _ = resize([image], [plan(size=(640, 480))], target="none")
    assert moved.regions[0].box == (592, 0, 1184, 440)
    assert "RePlan Resize: the plan is for an image of 640x480 pixels and this image has 1184x880" in caplog.text
    assert len(moved.warnings) == 1
    caplog.clear()
    run(RePlanRegionMasks, plan=[plan(size=(640, 480))], width=[1184], height=[880], feather=[0])
    assert "RePlan Region Masks: " in caplog.text and "1184x880" in caplog.text


def test_the_preview_says_beside_the_image_what_the_plan_warns_of(tmp_path, caplog):
    before = folder_paths.get_temp_directory()
    folder_paths.set_temp_directory(str(tmp_path))
    try:
        _, ui = run(
            RePlanPlanPreview,
            plan=[plan(size=(640, 480)).with_notices(Notice("x", "careful"))],
            image=[torch.zeros(1, 880, 1184, 3)],
        )
    finally:
        folder_paths.set_temp_directory(before)
    assert len(ui["images"]) == 1
    assert ui["text"][0] == "Warning: careful" and "1184x880" in ui["text"][1]
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["RePlan Plan Preview"]


def test_the_preview_is_an_output_and_an_image_on_the_node(tmp_path):
    before = folder_paths.get_temp_directory()
    folder_paths.set_temp_directory(str(tmp_path))
    try:
        ((preview,),), ui = run(RePlanPlanPreview, plan=[plan()], image=[IMAGE.expand(2, -1, -1, -1)])
    finally:
        folder_paths.set_temp_directory(before)
    assert preview.shape == (2, 427, 640, 3)
    assert len(ui["images"]) == 2 and len(list(tmp_path.iterdir())) == 2
    assert RePlanPlanPreview.OUTPUT_NODE
    with pytest.raises(ValueError, match="RePlan Plan Preview: .*640x427.*300x427"):
        run(RePlanPlanPreview, plan=[plan()], image=[IMAGE[:, :, :300]])

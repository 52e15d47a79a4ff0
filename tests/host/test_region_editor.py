"""The region editor without a browser: its stored value gives the plan over the API, and what it refuses."""

import io
import json

import numpy as np
import pytest
from graphs import plan_text
from PIL import Image
from replan.planner.plans.plan_json import plan_from_json
from replan.tools.host_server import Graph, PromptError

MINE = plan_text(
    ((30, 40, 90, 80), "a <b>gold</b> spoon \U0001f944"),
    ((100, 20, 180.5, 100), "keep"),
    global_prompt="mine",
)
UPSTREAM = plan_text(((0, 0, 60, 40), "from upstream"), global_prompt="upstream")


def stored(text: str = MINE, edited: bool = True, **more) -> str:
    return json.dumps({**json.loads(text), "editor": {"edited": edited, **more}})


def asked(
    server,
    regions: str,
    upstream: str | None = None,
    follow: str = "until_edited",
    size=(192, 128),
    batch: int = 1,
):
    """Run the editor; its plan, the text of its global prompt, and what it told the page."""
    graph = Graph()
    image = graph.add("EmptyImage", width=size[0], height=size[1], batch_size=batch, color=0x804020)
    inputs = {"plan": graph.add("RePlanPlanFromText", text=upstream, image=image)} if upstream else {}
    editor = graph.add("RePlanRegionEditor", image=image, follow_upstream=follow, regions=regions, **inputs)
    written = graph.add("PreviewAny", source=graph.add("RePlanPlanToText", plan=editor))
    prompt = graph.add("PreviewAny", source=editor[1])
    result = server.run(graph)
    shown = [json.loads(one) for one in result.outputs[editor.id]["replan_editor"]]
    plan = result.outputs.get(written.id, {}).get("text")
    return (
        plan and plan_from_json("".join(plan)),
        "".join(result.outputs.get(prompt.id, {}).get("text", [])),
        shown[0],
        result,
        editor,
    )


def test_the_stored_value_gives_the_plan_without_a_browser(server):
    plan, prompt, shown, *_ = asked(server, stored())
    assert plan == plan_from_json(MINE)
    assert prompt == "mine"
    assert shown["source"] == "stored" and shown["image_size"] == [192, 128]
    assert asked(server, MINE)[0] == plan, "a plan's own JSON is a stored value too"


def test_a_value_left_out_is_an_empty_plan(server):
    graph = Graph()
    editor = graph.add("RePlanRegionEditor", image=graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0))
    written = graph.add("PreviewAny", source=graph.add("RePlanPlanToText", plan=editor))
    plan = plan_from_json("".join(server.run(graph).outputs[written.id]["text"]))
    assert plan.regions == () and plan.image_size == (64, 64)


@pytest.mark.parametrize(
    ("follow", "edited", "hint"),
    [
        ("until_edited", False, "from upstream"),
        ("until_edited", True, "a <b>"),
        ("always", True, "from upstream"),
        ("never", False, "a <b>"),
    ],
)
def test_follow_upstream(server, follow, edited, hint):
    plan, _, shown, *_ = asked(server, stored(edited=edited), UPSTREAM, follow)
    assert plan.regions[0].hint.startswith(hint)
    assert shown["upstream"]["regions"][0]["hint"] == "from upstream"


def test_preview_masks_and_boxes_agree_with_the_plan(server):
    graph = Graph()
    image = graph.add("EmptyImage", width=192, height=128, batch_size=2, color=0)
    editor = graph.add("RePlanRegionEditor", image=image, regions=stored())
    preview = graph.add("PreviewImage", images=editor[2])
    masks = graph.add("PreviewImage", images=graph.add("MaskToImage", mask=editor[3]))
    boxed = graph.add("RePlanPlanFromBoxes", boxes=editor[4], image=image)
    written = graph.add("PreviewAny", source=graph.add("RePlanPlanToText", plan=boxed))
    result = server.run(graph)
    assert len(server.images(result, preview)) == 2
    pictures = [np.asarray(Image.open(io.BytesIO(one)).convert("L")) for one in server.images(result, masks)]
    assert len(pictures) == 2 and pictures[0].shape == (128, 192)
    assert pictures[0][40:80, 30:90].min() == 255 and pictures[0].sum() == 255 * 40 * 60
    plan = plan_from_json("".join(result.outputs[written.id]["text"]))
    assert [region.box for region in plan.regions] == [(30, 40, 90, 80), (100, 20, 180, 100)]
    assert plan.regions[0].hint == "a <b>gold</b> spoon \U0001f944"


def test_the_background_for_the_page_is_a_picture_of_the_image_small_enough_to_send(server):
    *_, result, editor = asked(server, "", size=(4240, 2832))
    (saved,) = result.outputs[editor.id]["replan_background"]
    picture = Image.open(
        io.BytesIO(
            server._open(f"/view?filename={saved['filename']}&type={saved['type']}&subfolder={saved['subfolder']}")
        )
    )
    assert picture.size == (1536, 1026)


def test_two_hundred_regions_on_twelve_megapixels_fit_into_memory(server):
    many = plan_text(*(((i * 20, 10, i * 20 + 60, 2000), f"hint {i}") for i in range(200)), size=(4240, 2832))
    graph = Graph()
    image = graph.add("EmptyImage", width=4240, height=2832, batch_size=1, color=0)
    editor = graph.add("RePlanRegionEditor", image=image, regions=many)
    counted = graph.add("PreviewAny", source=graph.add("RePlanPlanToText", plan=editor))
    result = server.run(graph)
    assert len(plan_from_json("".join(result.outputs[counted.id]["text"])).regions) == 200


def test_another_shape_blocks_what_follows_and_asks_the_page(server):
    graph = Graph()
    image = graph.add("EmptyImage", width=128, height=128, batch_size=1, color=0)
    editor = graph.add("RePlanRegionEditor", image=image, regions=stored())
    graph.add("PreviewAny", source=graph.add("RePlanPlanToText", plan=editor))
    with pytest.raises(PromptError, match="RePlan Region Editor: the plan is for an image of 192x128"):
        server.run(graph)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{broken", "the editor's stored value cannot be read"),
        ('{"version": 7, "image_size": [1, 1], "regions": [], "editor": {"edited": true}}', "version 7"),
        ('{"version": 1, "editor": {"edited": false}}', "nothing came in at 'plan'"),
    ],
)
def test_a_value_that_cannot_be_used_is_an_error_at_this_node(server, value, says):
    with pytest.raises(PromptError, match="RePlan Region Editor: ") as caught:
        asked(server, value)
    assert says in str(caught.value) and caught.value.node_type == "RePlanRegionEditor"


def test_an_image_file_that_is_not_there_is_refused_before_anything_runs(server):
    graph = Graph()
    graph.add("RePlanRegionEditor", image=graph.add("LoadImage", image="nowhere.png"), regions=stored())
    with pytest.raises(PromptError, match="nowhere.png"):
        server.run(graph)

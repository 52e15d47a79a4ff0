"""Plans that hypothesis draws (hard texts, masks, marked texts, unknown keys), and one of each form to break."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from replan.planner.plan import Region, RegionMask, RegionPlan, usable_id

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PIECE = st.sampled_from(
    [
        "</region>",
        "<gen_image>",
        "< / think >",
        "&lt;region>",
        "&amp;lt;answer>",
        "&LT;REGION>",
        "<GLOBAL>",
        "</analysis>",
        "<candidates>",
        "< | channel|>",
        "\u25c1think\u25b7",
        "[THINK]",
        "<thought>",
        "</mm:think>",
        "<|/thinking|>",
        "<|channel|>analysis<|message|>",
        "assistantfinal",
        "&lt;b>",
        "```",
        '"',
        "'",
        "},{",
        "]",
        "\\",
        "\n",
        "a < b",
        " red hat ",
        "(red:1.3)",
        "embedding:style",
    ]
)
HARD_TEXT = st.lists(TEXT | PIECE, max_size=4).map("".join)


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    cells = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return RegionMask.from_array(np.array(cells).reshape(height, width))


@st.composite
def plans(draw):
    width, height = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    names = draw(
        st.lists(st.one_of(TEXT.filter(usable_id), st.sampled_from(["r1", "r2", "r3", "r4"])), max_size=4, unique=True)
    )
    regions = []
    for name in names:
        x1, y1 = draw(st.floats(0, width, exclude_max=True)), draw(st.floats(0, height, exclude_max=True))
        x2, y2 = draw(st.floats(x1, width, exclude_min=True)), draw(st.floats(y1, height, exclude_min=True))
        start = draw(st.floats(0, 1, exclude_max=True))
        region = Region(
            name,
            (x1, y1, x2, y2),
            draw(HARD_TEXT.filter(str.strip)),
            draw(HARD_TEXT),
            start,
            draw(st.floats(start, 1, exclude_min=True)),
            draw(st.none() | masks()),
            draw(st.booleans()),
            extra=draw(st.just({}) | st.dictionaries(TEXT.map("x_{}".format), TEXT, max_size=2)),
        )
        marked = [text for text in region.with_plain_texts().plain_texts if draw(st.booleans())]
        regions.append(replace(region, plain_texts=marked))
    more = draw(st.dictionaries(TEXT.map("x_{}".format), st.lists(st.integers()), max_size=2))
    return RegionPlan((width, height), draw(HARD_TEXT), tuple(regions), draw(HARD_TEXT), extra=more)


GOOD = '{"bbox_2d": [1, 2, 30, 40], "hint": "red hat"}'


def broken(**change):
    region = {
        "id": "hat",
        "bbox_2d": [1, 2, 30, 40],
        "hint": "red",
        "negative_hint": "",
        "start": 0.0,
        "end": 1.0,
        "mask": None,
    }
    top = {"version": 1, "image_size": [100, 80], "global_prompt": "", "reasoning": ""}
    for key, value in change.items():
        (top if key in top else region)[key] = value
    return {**top, "regions": [region]}

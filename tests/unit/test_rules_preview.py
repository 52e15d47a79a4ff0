"""The pictures of RePlan Rules Preview show the rules that act, token by token and cell by cell."""

import json

import numpy as np
import pytest
import reference
from replan.attention.draw_rules import draw_layout, draw_rules, draw_table, example_layout
from replan.attention.rules import PRESETS, Rules, make_rules
from replan.planner.plan import Region, RegionPlan

GREEN, GREY, ORANGE = (46, 125, 80), (206, 208, 214), (214, 98, 40)
SIZE = (320, 192)  # 12 rows of 20 patches
BOXES = {"r1": (16.0, 16.0, 150.0, 120.0), "r2": (100.0, 80.0, 300.0, 180.0)}  # they overlap
PLAN = RegionPlan(SIZE, regions=tuple(Region(name, box, "a hint") for name, box in BOXES.items()))
# Tokens of the global prompt, its pictures, and of each hint, as draw_rules.py takes them.
TEXTS = {"flux": (256, [], 256), "flux2": (512, [], 512), "qwen": (220, [(0, 198)], 20)}


def names_of(family):
    main, spans, hint = TEXTS[family]
    inside = {name: reference.patches_of(box, SIZE, 12, 20, 12, 20) for name, box in BOXES.items()}
    return reference.tokens(tuple(BOXES), main, spans, [hint] * 2, (12, 20, inside), (12, 20, inside), [])


@pytest.mark.parametrize("family", TEXTS)
@pytest.mark.parametrize(
    ("preset", "phase"),
    [
        (name, phase)
        for name in PRESETS
        if name != "off"
        for phase in ("before", "after")
        if phase == "after" or PRESETS[name].before is not None
    ],
)
def test_the_map_shows_what_each_token_sees(preset, phase, family):
    layout = example_layout(PLAN, family)
    names = names_of(family)
    assert layout.tokens == len(names)
    side = 640
    picture = draw_layout(layout, Rules(preset).table(layout.components, phase), "", side)
    found = np.asarray(picture)[44 : 44 + side, 12 : 12 + side]
    at = np.linspace(0, len(names) - 1, side).round().astype(int)
    sees = reference.dense_mask(
        [names[i] for i in at], lambda query, key: reference.allowed(preset, phase, query, key)
    ).numpy()
    expected = np.where(sees[..., None], GREEN, GREY)
    assert (found == expected).all()
    assert 0 < sees.mean() < 1


def test_the_table_marks_the_cells_that_differ_from_the_preset():
    cells = {"main|hint:*": True, "noise:r1|noise:r2": False}
    rules, _ = make_rules("replan", matrix=json.dumps({"after": cells}))
    parts = example_layout(PLAN, "flux").components
    keys = [part.key for part in parts]
    sees, plain = rules.table(parts, "after"), Rules("replan").table(parts, "after")
    picture = draw_table(parts, sees, plain, "")
    cell = max(10, min(34, 900 // len(parts)))
    left = picture.width - 16 - cell * len(parts)
    for i, query in enumerate(keys):
        for j, key in enumerate(keys):
            x, y = left + j * cell, 44 + left + i * cell
            changed = (query == "main" and key.startswith("hint:")) or (query, key) == ("noise:r1", "noise:r2")
            centre = picture.getpixel((x + cell // 2, y + cell // 2))
            assert centre == (GREEN if sees[i, j] else GREY), (query, key)
            assert picture.getpixel((x + 1, y + 1)) == (ORANGE if changed else centre), (query, key)


def test_there_is_a_table_and_a_map_for_each_phase():
    layout = example_layout(PLAN, "flux")
    one, two = (draw_rules(layout, Rules(preset), "flux") for preset in ("replan", "local_first"))
    assert (two.width, two.height) == (one.width, 2 * one.height)

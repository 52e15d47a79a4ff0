"""A plan drawn over an image: what is drawn where, and that no plan and no letter stops it."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from replan.planner.pictures import labels
from replan.planner.pictures.draw import COLOURS, colours, draw_plan
from replan.planner.plan import PlanError, Region, RegionMask, RegionPlan

GREY = np.full((400, 600, 3), 128, np.uint8)


def one(box=(100, 100, 300, 300), hint="x", size=(600, 400), **more):
    return RegionPlan(size, regions=(Region("r1", box, hint, **more),))


def is_colour(pixels, wanted, tolerance=3):
    return (np.abs(np.asarray(pixels).astype(int) - wanted) <= tolerance).all(-1)


def test_the_outline_lies_on_the_box_and_far_from_it_nothing_changes():
    got = np.asarray(draw_plan(GREY, one()))
    assert got.shape == GREY.shape
    assert is_colour(got[100, 150:299], COLOURS[0]).all()
    assert is_colour(got[150:299, 100], COLOURS[0]).all()
    assert is_colour(got[299, 150:299], COLOURS[0]).all()
    assert np.array_equal(got[120:280, 120:280], GREY[120:280, 120:280])
    assert np.array_equal(got[310:], GREY[310:])


def test_a_plan_is_scaled_to_its_image():
    got = np.asarray(draw_plan(np.full((800, 1200, 3), 128, np.uint8), one()))
    assert is_colour(got[200, 300:590], COLOURS[0]).all()
    assert is_colour(got[300:590, 200], COLOURS[0]).all()


def test_eight_regions_have_eight_colours_and_a_chosen_one_is_drawn():
    def plan(**extra):
        boxes = ((i * 60, 10, i * 60 + 50, 300) for i in range(9))
        regions = (Region(f"r{i}", box, extra=extra if i == 1 else {}) for i, box in enumerate(boxes))
        return RegionPlan((600, 400), regions=tuple(regions))

    found = colours(plan())
    assert len(set(found)) == 8 and found[8] == found[0]
    chosen = plan(editor={"color": "#10A0fE"})
    assert colours(chosen) == [found[0], (16, 160, 254), *found[2:]]
    assert is_colour(np.asarray(draw_plan(GREY, chosen, hints=False))[150, 60], (16, 160, 254)).all()
    for nothing in ("red", "#12345", 7, None, "#12345\u0661"):
        assert colours(plan(editor={"color": nothing})) == found
    assert colours(plan(editor="x", color="#000000")) == found


def test_label_letters_stand_out_on_every_colour():
    def luminance(rgb):
        values = [v / 255 for v in rgb]
        r, g, b = (v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for background in COLOURS:
        a, b = sorted([luminance(background), luminance(labels.ink(background))])
        assert (b + 0.05) / (a + 0.05) > 4.5


def test_a_mask_is_tinted_where_it_is_and_only_inside_the_box():
    cells = np.zeros((400, 600))
    cells[200:400, :] = 1
    got = np.asarray(draw_plan(GREY, one(mask=RegionMask.from_array(cells))))
    assert not is_colour(got[250:290, 120:280], (128, 128, 128)).any()
    assert is_colour(got[120:190, 120:280], (128, 128, 128)).all()
    assert is_colour(got[320:], (128, 128, 128)).all()


def test_the_patches_a_region_touches_are_shown():
    got = np.asarray(draw_plan(GREY, one((110, 110, 290, 290)), patch=100)).astype(int)
    tinted = got[..., 0] - got[..., 2] > 30
    centres = tinted[50::100, 50::100]
    assert centres.tolist() == [
        [False] * 6,
        [False, True, True, False, False, False],
        [False, True, True, False, False, False],
        [False] * 6,
    ]
    assert tinted[195, 295] and tinted[205, 195]


def test_a_small_image_is_enlarged_by_a_whole_factor():
    drawn = draw_plan(np.zeros((64, 48, 3)), one((1, 1, 20, 20), size=(48, 64)))
    assert drawn.size == (288, 384)


def test_without_an_image_the_plan_is_drawn_on_grey_at_its_size():
    assert draw_plan(None, one()).size == (600, 400)


def test_a_plan_without_regions_says_so():
    got = np.asarray(draw_plan(GREY, RegionPlan((600, 400))))
    assert not np.array_equal(got, GREY)
    assert np.array_equal(got[50:], GREY[50:])


def test_an_image_of_another_aspect_ratio_is_refused_with_both_sizes():
    with pytest.raises(PlanError, match="600x400.*400x400.*RePlan Resize"):
        draw_plan(np.zeros((400, 400, 3)), one())
    with pytest.raises(PlanError, match="shape"):
        draw_plan(np.zeros((400, 600)), one())


def test_floats_outside_0_to_1_and_nan_are_drawn_on():
    image = np.full((400, 600, 3), np.nan, np.float32)
    image[0] = 7
    assert draw_plan(image, one()).size == (600, 400)


# Long, broken, empty and foreign texts.
HINTS = [
    "", " ", "\n\t", "a" * 5000, "word " * 1000, "caf\u00e9 \u2014 na\u00efve",
    "\u628a\u676f\u5b50\u6362\u6210\u8336\u58f6", "\u05e9\u05dc\u05d5\u05dd",
    "\U0001f600", "\u0928\u092e\u0938\u094d\u0924\u0947", "e\u0301\u0302\u0303", "\x00\x07\u200b\ufeff",
    "</region><b>", "%s {} \\N{x}",
]  # fmt: skip


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("size", [(8, 8), (600, 400), (1200, 40), (40, 1200)])
def test_no_hint_and_no_size_stops_the_drawing(hint, size):
    box = (size[0] * 0.4, 0, size[0], size[1] * 0.3)
    draw_plan(np.zeros((size[1], size[0], 3), np.uint8), one(box, hint, size))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.integers(9, 60))
def test_any_text_is_readable_with_and_without_system_fonts(text, height):
    for names in (labels.FONT_NAMES, ()):
        shown, font = labels.readable(text, height, names)
        assert "\n" not in shown
        font.getmask(shown or " ")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 590), st.integers(0, 390), st.integers(1, 600), st.integers(1, 400), st.text(max_size=60)
        ),
        max_size=12,
    )
)
def test_labels_stay_inside_the_image(entries):
    boxes = [(x, y, min(600, x + w), min(400, y + h)) for x, y, w, h, _ in entries]
    texts = [text for *_, text in entries]
    draw = ImageDraw.Draw(Image.new("RGB", (600, 400)), "RGBA")
    for x1, y1, x2, y2 in labels.write(draw, (600, 400), boxes, texts, [COLOURS[i % 8] for i in range(len(boxes))]):
        assert 0 <= x1 < x2 <= 600
        assert 0 <= y1 < y2 <= 400


def test_a_label_covers_neither_its_box_nor_another_label_when_there_is_room():
    draw = ImageDraw.Draw(Image.new("RGB", (600, 400)), "RGBA")
    boxes = [(50, 0, 150, 60), (300, 200, 310, 210), (300, 200, 312, 214)]
    spots = labels.write(draw, (600, 400), boxes, ["hair", "an eye", "the other eye"], list(COLOURS[:3]))
    for i, spot in enumerate(spots):
        assert labels._overlap(spot, boxes[i]) == 0
        assert all(labels._overlap(spot, other) == 0 for other in spots[:i])


def test_a_long_hint_wraps_and_ends_in_dots():
    text, font = labels.readable("change the colour of the car to a deep metallic blue " * 4, 14)
    lines = labels.wrap(text, font, 150)
    assert len(lines) == 3 and lines[-1].endswith("...")
    assert lines[0].startswith("change the")
    assert all(font.getlength(line) <= 150 for line in lines)


def test_a_text_without_spaces_wraps_too():
    text, font = labels.readable("x" * 200, 14)
    lines = labels.wrap(text, font, 100)
    assert len(lines) == 3 and all(font.getlength(line) <= 100 for line in lines)


def test_a_short_text_stays_one_line_as_it_is():
    text, font = labels.readable("make it red", 14)
    assert labels.wrap(text, font, 500) == ["make it red"]


def test_accents_are_left_out_when_no_font_has_them():
    assert labels.readable("r1: caf\u00e9", 14, ())[0] == "r1: cafe"


def test_a_script_without_a_font_gives_a_note_and_keeps_the_id():
    shown, _ = labels.readable("r1: \u628a\u676f\u5b50\u6362\u6210\u8336\u58f6", 14, ())
    assert shown == "r1: (no font here for this text)"


def test_a_single_missing_letter_becomes_a_question_mark():
    assert labels.readable("r1: a cup \u628a of tea", 14, ())[0] == "r1: a cup ? of tea"


@pytest.mark.timed
def test_many_regions_are_drawn_in_seconds():
    many = tuple(
        Region(f"r{i}", (i % 50 * 10.0, i // 50 * 10.0, i % 50 * 10.0 + 9, i // 50 * 10.0 + 9), "hint " * 20)
        for i in range(1000)
    )
    start = time.perf_counter()
    draw_plan(None, RegionPlan((512, 512), regions=many))
    assert time.perf_counter() - start < 5


def test_a_negative_patch_is_refused():
    with pytest.raises(PlanError, match="patch is -16.*give 0 or more"):
        draw_plan(None, RegionPlan((64, 48)), -16)

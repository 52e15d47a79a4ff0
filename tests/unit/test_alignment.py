"""The maths of alignment scores; with real encoders: tests/host/test_alignment.py."""

import pytest
import torch
from replan.evaluation.alignment import clamped_cosine, closer, region_description, scene_description
from replan.evaluation.encoders import likeness, pieces, unit
from replan.planner.plan import PlanError, Region, RegionPlan

# torchmetrics 1.9.0, CLIPScore of image i with text i and with image i + 1, an encoder giving these features.
IMAGES = torch.sin(torch.arange(96.0).reshape(6, 16) * 0.37 + 0.1)
TEXTS = torch.cos(torch.arange(96.0).reshape(6, 16) * 0.53) + 0.4 * IMAGES
CLIP_T = (0.0, 66.62600708007812, 33.04342269897461, 0.0, 89.44232177734375, 0.0)
CLIP_I = (93.95685577392578, 93.45895385742188, 92.92230224609375, 92.65691375732422, 92.8449478149414, 0.0)


def test_clip_t_and_clip_i_are_those_of_torchmetrics():
    images, texts = ([unit(row, "it") for row in rows] for rows in (IMAGES, TEXTS))
    found = [100 * clamped_cosine(image, text) for image, text in zip(images, texts, strict=True)]
    assert found == pytest.approx(CLIP_T, abs=1e-5)
    found = [100 * clamped_cosine(image, other) for image, other in zip(images, images[1:] + images[:1], strict=True)]
    assert found == pytest.approx(CLIP_I, abs=1e-5)


def test_vectors_of_other_widths_or_without_direction_are_refused():
    with pytest.raises(PlanError, match="the vision model gives 16 features and the CLIP 8"):
        likeness(IMAGES[0], IMAGES[0, :8])
    for vector, words in ((torch.zeros(3), "only zeros"), (torch.tensor([torch.inf]), "values that are not finite")):
        with pytest.raises(PlanError, match=f"it gives {words}"):
            unit(vector, "it")


def test_closer_is_what_the_softmax_gains():
    for after, before in ((0.3, 0.295), (0.3, 0.28), (0.2, 0.2)):
        p = torch.softmax(100 * torch.tensor([after, before]), 0)
        assert closer(after, before) == pytest.approx(float(p[0] - p[1]), abs=1e-4)
    assert closer(0.2, 0.21) == 0


@pytest.mark.parametrize(
    ("text", "longest", "expected"),
    [
        ("a. b", 9, ["a. b"]),
        ("a house. a tree! more", 8, ["a house.", "a tree!", "more"]),
        ("one two three four", 9, ["one two", "three", "four"]),
        ("abcdef", 3, ["abc", "def"]),
        ("\u623f\u5b50\u3002\u6811\u6728\u3002", 3, ["\u623f\u5b50\u3002", "\u6811\u6728\u3002"]),
        (" a\n\nb ", 9, ["a", "b"]),
        ("a", 0, ["a"]),
    ],
)
def test_a_text_is_cut_where_it_hurts_least(text, longest, expected):
    assert pieces(text, lambda piece: len(piece) <= longest) == expected


def test_what_a_region_and_a_scene_should_show():
    region = Region("r1", (0, 0, 9, 9), "make it red", extra={"description_after": " a red hat "})
    assert region_description(region) == ("a red hat", "its description after the edit")
    assert region_description(Region("r1", (0, 0, 9, 9), "make it red"))[1] == "its hint, which may be an instruction"
    assert region_description(Region("r1", (0, 0, 9, 9))) == ("", "")
    plan = RegionPlan((9, 9), "at dusk", extra={"scene_after": "a street"})
    assert scene_description(plan, " a road ") == ("a road", "the scene text")
    assert scene_description(plan).text == "a street"
    assert scene_description(RegionPlan((9, 9), "at dusk", extra={"scene_after": 3})).text == "at dusk"
    for kept in ("", " ", "keep remaining part of image unchanged", "Keep remaining part of image unchanged."):
        assert scene_description(RegionPlan((9, 9), kept)) == ("", "")

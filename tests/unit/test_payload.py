"""The hints as one of the host's conditioning values, and the guard they are without region rules."""

from dataclasses import replace

import pytest
import torch
from replan.attention.payload import NO_HINTS, HintCond, HintPayload, HintText, RegionError
from replan.planner.plan import Region, RegionPlan


def moved(payload, like):
    """The hints of a payload, those of all its parts row by row."""
    parts = [part.hints_like(like) for part in payload.parts]
    return [torch.cat(rows) for rows in zip(*parts, strict=True)]


def text_of(*lengths, width=4, batch=1, **more):
    regions = tuple(Region(f"r{i}", (0, 0, 8, 8), f"hint {i}") for i in range(len(lengths)))
    hints = tuple(torch.full((batch, length, width), float(i)) for i, length in enumerate(lengths))
    return HintText(RegionPlan((16, 16), "", regions), hints, 7, 1.0, **more)


def test_a_call_of_one_entry_repeats_the_hints_to_the_batch_of_the_latent():
    payload = HintCond(text_of(3, 5)).process_cond(4, area=None, device="cpu").concat([])
    assert isinstance(payload, HintPayload)
    assert [tuple(hint.shape) for hint in moved(payload, torch.zeros(1))] == [(4, 3, 4), (4, 5, 4)]


def test_a_batch_of_prompts_is_repeated_or_cut_as_the_host_does():
    text = text_of(2, batch=2)
    text.hints[0][1] = 9
    assert moved(HintCond(text).process_cond(3).concat([]), torch.zeros(1))[0][:, 0, 0].tolist() == [0, 9, 0]
    assert moved(HintCond(text).process_cond(1).concat([]), torch.zeros(1))[0][:, 0, 0].tolist() == [0]


def test_entries_that_share_a_call_keep_each_its_own_hints_and_norms():
    one, two = text_of(3), text_of(3)
    other = replace(two, hints=(two.hints[0] + 5,), text_norm=2.0)
    payload = HintCond(one).process_cond(2).concat([HintCond(other).process_cond(2)])
    assert moved(payload, torch.zeros(1))[0][:, 0, 0].tolist() == [0, 0, 5, 5]
    assert [part.text.text_norm for part in payload.parts] == [1.0, 2.0]


@pytest.mark.parametrize(
    "other",
    [
        text_of(4),
        text_of(3, 3),
        text_of(3, width=5),
        text_of(3, image_spans=((0, 2),)),
        text_of(3, padding="trim"),
        replace(text_of(3), text_tokens=8),
        replace(text_of(3), plan=RegionPlan((16, 16), "", (Region("r0", (0, 0, 8, 9), "hint 0"),))),
        replace(text_of(3), plan=RegionPlan((32, 16), "", text_of(3).plan.regions)),
    ],
    ids=["length", "number", "width", "spans", "padding", "text", "box", "image"],
)
def test_entries_that_differ_in_layout_do_not_share_a_call(other):
    assert not HintCond(text_of(3)).can_concat(HintCond(other))


def test_entries_of_equal_layout_share_a_call_whatever_their_words():
    other = replace(text_of(3), hints=(torch.ones(1, 3, 4),), text_norm=5.0)
    assert HintCond(text_of(3)).can_concat(HintCond(other))
    assert not HintCond(text_of(3)).can_concat(object())


def test_entries_that_must_be_compared_share_a_call_whatever_their_layouts():
    one, other = HintCond(text_of(3), joins=True), HintCond(text_of(3, 5), joins=True)
    none = HintCond(NO_HINTS, joins=True)
    assert one.can_concat(other)
    assert none.can_concat(one)
    assert not one.can_concat(HintCond(text_of(3, 5)))
    payload = one.process_cond(2).concat([none.process_cond(2, area=(8, 8, 0, 0))])
    assert (payload.batch, payload.regions) == (4, 1)
    assert none.process_cond(2).size() == [2, 0, 0]


def test_the_size_is_batch_width_and_tokens():
    assert HintCond(text_of(3, 5)).process_cond(2).size() == [2, 4, 8]


def test_a_cropped_latent_is_refused():
    with pytest.raises(RegionError, match="cropped to an area"):
        HintCond(text_of(3)).process_cond(1, area=(8, 8, 0, 0))


@pytest.mark.parametrize("count, says", [(1, "carries 1 region, but"), (2, "carries 2 regions, but")])
def test_a_model_without_rules_is_refused_when_the_host_asks_for_the_dtype(count, says):
    payload = HintCond(text_of(*[3] * count)).process_cond(1).concat([])
    with pytest.raises(RegionError, match=says):
        hasattr(payload, "dtype")

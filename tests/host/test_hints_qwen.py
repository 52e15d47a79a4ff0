"""Hints for Qwen-Image-Edit: the host's own classes at reduced size, its real tokenizer and stock encoder nodes."""

import pytest
import torch
from comfy_extras.nodes_qwen import TextEncodeQwenImageEdit, TextEncodeQwenImageEditPlus
from replan.attention.hints import attach_hints, qwen_edit
from replan.attention.payload import PAYLOAD_KEY, RegionError
from replan.nodes.conditioning import RePlanRegionConditioning
from replan.planner.plan import PlanError, Region, RegionPlan
from replan.tests.host import reduced_encoders

HINT = "a red hat with a feather"
CLOSING = "<|im_end|>\n<|im_start|>assistant\n"
SIZES = [(96, 128), (128, 96), (90, 90)]  # height, width


@pytest.fixture(scope="module")
def clip():
    return reduced_encoders.qwen_clip()


@pytest.fixture(scope="module")
def pictures():
    seeded = torch.Generator().manual_seed(1)
    return [torch.rand(1, h, w, 3, generator=seeded) for h, w in SIZES]


def edit(clip, prompt, *images):
    return TextEncodeQwenImageEdit.execute(clip, prompt, image=images[0] if images else None)[0]


def plus(clip, prompt, *images):
    return TextEncodeQwenImageEditPlus.execute(
        clip, prompt, **{f"image{i + 1}": image for i, image in enumerate(images)}
    )[0]


def attach(conditioning, clip, *images, hints=(HINT,), **options):
    regions = tuple(Region(f"r{i + 1}", (0, 0, 4, 4), hint) for i, hint in enumerate(hints))
    return attach_hints(conditioning, clip, RegionPlan((8, 8), "", regions), images=images, **options)


def payload(conditioning, entry=0):
    return conditioning[entry][1]["model_conds"][PAYLOAD_KEY].text


def words(clip, text):
    """How many tokens transformers itself makes of `text`."""
    return len(clip.tokenizer.qwen25_7b.tokenizer(text)["input_ids"])


def picture_tokens(image, area):
    """One token for each 28 x 28 pixels of the picture scaled to `area` (the vision tower's patch and merge)."""
    _, height, width, _ = image.shape
    scale = (area / (height * width)) ** 0.5
    return round(round(height * scale) / 28) * round(round(width * scale) / 28)


ENCODERS = [(edit, "edit", 1), (plus, "plus", 1), (plus, "plus", 2), (plus, "plus", 3)]


@pytest.mark.parametrize("encoder", ["auto", "chosen"])
@pytest.mark.parametrize("node, name, count", ENCODERS)
class TestEveryEncoder:
    def test_a_hint_is_the_tail_of_the_stock_encoding_with_the_same_pictures(
        self, node, name, count, encoder, clip, pictures
    ):
        images = pictures[:count]
        out = attach(
            node(clip, "make it winter", *images), clip, *images, encoder=name if encoder == "chosen" else encoder
        )
        hint = payload(out).hints[0]
        assert hint.shape[1] == words(clip, HINT + CLOSING)
        torch.testing.assert_close(hint, node(clip, HINT, *images)[0][0][:, -hint.shape[1] :], rtol=0, atol=1e-5)

    def test_the_spans_are_the_pictures_of_the_main_text(self, node, name, count, encoder, clip, pictures):
        images = pictures[:count]
        conditioning = node(clip, "make it winter", *images)
        spans = payload(
            attach(conditioning, clip, *images, encoder=name if encoder == "chosen" else encoder)
        ).image_spans
        expected, position = [], 0
        for i, image in enumerate(images):
            position += words(clip, f"Picture {i + 1}: ") if name == "plus" else 0
            length = picture_tokens(image, 1024**2 if name == "edit" else 384**2) + 2
            expected.append((position, position + length))
            position += length
        assert list(spans) == expected
        assert conditioning[0][0].shape[1] == position + words(clip, "make it winter" + CLOSING)


def test_a_batch_of_images_beside_a_plan_for_each_is_split_and_other_numbers_are_refused(clip):
    batch = torch.rand(2, 96, 128, 3, generator=torch.Generator().manual_seed(2))
    conditionings = [edit(clip, "a calm street", one) for one in batch.split(1)]
    plans = [RegionPlan((128, 96), "", (Region(name, (0, 0, 9, 9), HINT),)) for name in ("left", "right")]
    lists = {"encoder": ["auto"], "use": ["hint"], "hint_padding": ["host"], "clip": [clip]}
    out = RePlanRegionConditioning.execute(conditioning=conditionings, plan=plans, image=[batch], **lists).result[0]
    for one, conditioning, image, plan in zip(out, conditionings, batch.split(1), plans, strict=True):
        assert payload(one).plan == plan
        assert torch.equal(payload(one).hints[0], payload(attach(conditioning, clip, image)).hints[0])
    with pytest.raises(PlanError, match="RePlan Region Conditioning: found 2 images for 3 plans"):
        RePlanRegionConditioning.execute(
            conditioning=conditionings[:1], plan=[*plans, plans[0]], image=[batch], **lists
        )


def test_a_hint_reads_the_picture(clip, pictures):
    first, second = (
        payload(attach(plus(clip, "x", image), clip, image)).hints[0] for image in (pictures[0], pictures[0].flip(1))
    )
    assert first.shape == second.shape and not torch.allclose(first, second, atol=1e-2)


def test_a_picture_in_the_second_slot_alone_is_picture_2(clip, pictures):
    conditioning = TextEncodeQwenImageEditPlus.execute(clip, "x", image2=pictures[0])[0]
    hint = payload(attach(conditioning, clip, None, pictures[0])).hints[0]
    expected = TextEncodeQwenImageEditPlus.execute(clip, HINT, image2=pictures[0])[0][0][0]
    torch.testing.assert_close(hint, expected[:, -hint.shape[1] :], rtol=0, atol=1e-5)
    with pytest.raises(RegionError, match="the words before the image are not those of 'plus'"):
        attach(conditioning, clip, pictures[0])


class TestOtherPictures:
    @pytest.mark.parametrize("node", [edit, plus])
    @pytest.mark.parametrize("change", ["flipped", "half size", "noise of 20 %"])
    def test_a_changed_picture_is_refused(self, node, change, clip, pictures):
        image = pictures[0]
        other = {
            "flipped": image.flip(2),
            "half size": image[:, ::2, :100:2],
            "noise of 20 %": (image + 0.2 * torch.randn(image.shape, generator=torch.Generator().manual_seed(3))).clamp(
                0, 1
            ),
        }[change]
        with pytest.raises(RegionError, match="connect the same image or images"):
            attach(node(clip, "x", image), clip, other)

    def test_swapped_pictures_are_refused(self, clip, pictures):
        with pytest.raises(RegionError, match="connect the same image or images"):
            attach(plus(clip, "x", *pictures[:2]), clip, pictures[1], pictures[0])

    @pytest.mark.parametrize("connected, says", [(1, "none is connected"), (2, "another one is connected")])
    def test_a_second_picture_missing_or_other_is_named(self, connected, says, clip, pictures):
        images = [pictures[0], pictures[2]][:connected]
        with pytest.raises(RegionError, match=f"an image in image2, but {says}"):
            attach(plus(clip, "x", *pictures[:2]), clip, *images)

    def test_a_third_picture_missing_is_named_though_the_second_is_not_there(self, clip, pictures):
        conditioning = TextEncodeQwenImageEditPlus.execute(clip, "x", image1=pictures[0], image3=pictures[1])[0]
        with pytest.raises(RegionError, match="an image in image3, but none"):
            attach(conditioning, clip, pictures[0])

    def test_a_picture_too_many_is_left_out_with_a_warning(self, clip, pictures, caplog):
        out = attach(plus(clip, "x", pictures[0]), clip, *pictures[:2])
        one = attach(plus(clip, "x", pictures[0]), clip, pictures[0])
        torch.testing.assert_close(payload(out).hints[0], payload(one).hints[0], rtol=0, atol=1e-5)
        assert (
            payload(out).image_spans == payload(one).image_spans
            and "image2 not in the conditioning's text" in caplog.text
        )

    def test_a_text_without_picture_is_refused_when_one_is_connected(self, clip, pictures):
        with pytest.raises(RegionError, match="the connected images are not those in entry 1"):
            attach(edit(clip, "make it winter"), clip, pictures[0])


class TestAChosenEncoderIsBelieved:
    """Re-encoded states of real weights may differ by more than the tolerance: then the person's word counts."""

    @pytest.fixture
    def told(self):
        return []

    @pytest.mark.parametrize("node, name, count", ENCODERS)
    def test_images_that_differ_are_taken_to_be_where_it_puts_them(self, node, name, count, clip, pictures, told):
        images = pictures[:count]
        others = [(image + 0.2 * torch.rand(image.shape)).clamp(0, 1) for image in images]
        conditioning = node(clip, "make it winter", *others)
        text = payload(attach(conditioning, clip, *images, encoder=name, tell=told.append))
        plain = payload(attach(node(clip, "make it winter", *images), clip, *images, encoder=name, tell=pytest.fail))
        assert text.image_spans == plain.image_spans and len(text.image_spans) == count
        torch.testing.assert_close(text.hints[0], plain.hints[0], rtol=0, atol=1e-5)
        assert len(told) == 1 and f"believed because encoder is set to '{name}'" in told[0]
        with pytest.raises(RegionError, match="choose the encoder that was used instead of 'auto'"):
            attach(conditioning, clip, *images)

    def test_words_that_are_not_its_own_are_told(self, clip, pictures, told):
        text = payload(attach(edit(clip, "x", pictures[0]), clip, pictures[0], encoder="plus", tell=told.append))
        assert len(text.image_spans) == 1 and "the words before the image are not those of 'plus'" in told[0]

    def test_a_second_image_that_differs_is_taken_too(self, clip, pictures, told):
        conditioning = plus(clip, "x", *pictures[:2])
        text = payload(attach(conditioning, clip, pictures[0], pictures[2], encoder="plus", tell=told.append))
        assert len(text.image_spans) == 2 and "the image at image2 differs" in told[0]

    def test_a_text_too_short_for_its_images_is_refused(self, clip, pictures):
        with pytest.raises(
            RegionError, match=r"has \d+ tokens, and the connected image would end at token 1\d{3} under"
        ):
            attach(plus(clip, "x", pictures[0]), clip, pictures[0], encoder="edit")

    def test_an_image_that_is_missing_here_is_still_refused(self, clip, pictures):
        with pytest.raises(RegionError, match="an image in image2, but none is connected"):
            attach(plus(clip, "x", *pictures[:2]), clip, pictures[0], encoder="plus")


@pytest.mark.parametrize("padding", ["host", "trim"])
@pytest.mark.parametrize("node, count", [(edit, 0), (edit, 1), (plus, 1), (plus, 3)])
def test_a_hint_keeps_nothing_but_its_own_tokens_in_memory(node, count, padding, clip, pictures):
    images = pictures[:count]
    hint = payload(attach(node(clip, "x", *images), clip, *images, padding=padding)).hints[0]
    assert hint.untyped_storage().nbytes() == hint.nbytes


@pytest.mark.parametrize("node, count", [(edit, 1), (plus, 2)])
def test_a_hint_of_a_model_is_plain_text(node, count, clip, pictures):
    """Qwen's tokenizer has no weights, but escapes and textual inversions."""
    images, words_of_a_model = pictures[:count], "the \\(left\\) hat (red:1.3)"
    region = Region("r1", (0, 0, 4, 4), words_of_a_model).with_plain_texts()
    out = attach_hints(node(clip, "x", *images), clip, RegionPlan((8, 8), "", (region,)), images=images)
    assert payload(out).hints[0].shape[1] == words(clip, words_of_a_model + CLOSING)
    typed = attach(node(clip, "x", *images), clip, *images, hints=(words_of_a_model,))
    assert payload(typed).hints[0].shape[1] == words(clip, "the (left) hat (red:1.3)" + CLOSING)


class TestNoPictureConnected:
    @pytest.mark.parametrize(
        "slots, node", [((0,), "edit"), ((0,), "plus"), ((1,), "plus"), ((2,), "plus"), ((0, 1), "plus")]
    )
    def test_a_text_with_a_picture_asks_for_it(self, slots, node, clip, pictures):
        stock = {"edit": (TextEncodeQwenImageEdit, "image"), "plus": (TextEncodeQwenImageEditPlus, "image{}")}[node]
        images = {stock[1].format(i + 1): pictures[i] for i in slots}
        socket = "image" if slots[0] == 0 else f"image{slots[0] + 1}"
        with pytest.raises(RegionError, match=f"connect the image: the same one to {socket}$"):
            attach(stock[0].execute(clip, "make it winter", **images)[0], clip)

    @pytest.mark.parametrize("prompt", ["make it winter", "Picture of a dog", "Picture 1: the dog", ""])
    @pytest.mark.parametrize("node, encoder", [(edit, "auto"), (edit, "edit"), (plus, "plus")])
    @pytest.mark.parametrize("padding", ["host", "trim"])
    def test_a_text_without_one_gets_hints_as_the_same_node_encodes_text(self, prompt, node, encoder, padding, clip):
        text = payload(attach(node(clip, prompt), clip, encoder=encoder, padding=padding))
        torch.testing.assert_close(text.hints[0], node(clip, HINT)[0][0], rtol=0, atol=0)
        assert text.image_spans == () and text.hints[0].shape[1] == words(clip, HINT + CLOSING)


class TestChangedConditioning:
    def test_concatenated_text_still_matches(self, clip, pictures):
        import nodes

        conditioning = plus(clip, "x", pictures[0])
        longer = nodes.ConditioningConcat().concat(conditioning, edit(clip, "more words"))[0]
        assert (
            payload(attach(longer, clip, pictures[0])).image_spans
            == payload(attach(conditioning, clip, pictures[0])).image_spans
        )

    def test_an_average_of_two_prompts_on_one_picture_still_matches(self, clip, pictures):
        import nodes

        mixed = nodes.ConditioningAverage().addWeighted(
            plus(clip, "snow on it", pictures[0]), plus(clip, "rain on it", pictures[0]), 0.4
        )[0]
        assert payload(attach(mixed, clip, pictures[0])).image_spans

    def test_rounding_to_bf16_still_matches(self, clip, pictures):
        conditioning = [[text.bfloat16(), extras] for text, extras in plus(clip, "x", pictures[0])]
        assert payload(attach(conditioning, clip, pictures[0])).image_spans

    def test_zeroed_text_has_no_picture_left(self, clip, pictures):
        import nodes

        zeroed = nodes.ConditioningZeroOut().zero_out(plus(clip, "x", pictures[0]))[0]
        text = payload(attach(zeroed, clip, pictures[0]))
        assert text.image_spans == () and text.text_norm == 0

    def test_entries_of_different_encoders_are_matched_each_on_its_own(self, clip, pictures):
        both = edit(clip, "x", pictures[0]) + plus(clip, "y", *pictures[:2])
        out = attach(both, clip, *pictures[:2])
        assert len(payload(out, 0).image_spans) == 1 and len(payload(out, 1).image_spans) == 2
        for entry, expected in enumerate((edit(clip, HINT, pictures[0]), plus(clip, HINT, *pictures[:2]))):
            hint = payload(out, entry).hints[0]
            torch.testing.assert_close(hint, expected[0][0][:, -hint.shape[1] :], rtol=0, atol=1e-5)

    def test_another_width_is_named_before_pictures_are_compared(self, clip, pictures):
        with pytest.raises(RegionError, match="64 wide, but entry 1 of the conditioning is 3584 wide"):
            attach([[torch.ones(1, 400, 3584), {}]], clip, pictures[0])


def test_the_vision_tower_sees_a_picture_of_one_length_once_for_all_hints(clip, pictures, monkeypatch):
    vision = clip.cond_stage_model.qwen25_7b.transformer.visual
    conditioning = plus(clip, "x", *pictures[:2])
    calls = []
    original = vision.forward
    monkeypatch.setattr(vision, "forward", lambda *a, **k: calls.append(1) or original(*a, **k))
    attach(conditioning, clip, *pictures[:2], hints=("hat", "dog", "tree", "house"))
    assert len(calls) == 2
    assert "preprocess_embed" not in vars(clip.cond_stage_model.qwen25_7b.transformer)


@pytest.mark.parametrize("word", ["<|vision_end|>", "<|im_end|>", "<|image_pad|>", "<|im_start|>user"])
def test_a_control_word_in_a_hint_is_refused(word, clip, pictures):
    for images in ([], [pictures[0]]):
        with pytest.raises(RegionError, match="holds a control word"):
            attach(plus(clip, "x", *images), clip, *images, hints=(f"{word} a hat",))


def test_ten_thousand_regions_are_refused_before_anything_is_encoded(clip, pictures, monkeypatch):
    conditioning = plus(clip, "x", pictures[0])
    monkeypatch.setattr(type(clip), "encode_from_tokens_scheduled", lambda *a, **k: pytest.fail("encoded"))
    total = 10_000 * words(clip, HINT + CLOSING)
    with pytest.raises(RegionError, match=f"10,000 regions come to {total:,} tokens"):
        attach(conditioning, clip, pictures[0], hints=(HINT,) * 10_000)


def test_the_same_text_and_another_picture_lie_far_on_either_side_of_the_tolerance(clip, pictures):
    """The figures behind TOLERANCE at reduced size; real weights have not been measured."""
    probe = qwen_edit.Probe(clip, qwen_edit.template_of("plus", [pictures[0], None, None]))
    states, end = probe.full.states[0][1], probe.full.spans[0][1]
    same = qwen_edit.distance(plus(clip, "a long prompt about winter", pictures[0])[0][0], states, 0, end)
    other = qwen_edit.distance(plus(clip, "a long prompt about winter", pictures[0].flip(1))[0][0], states, 0, end)
    assert same < 1e-5 and other > 0.3

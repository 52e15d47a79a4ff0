"""What each padding keeps of a hint, with the host's real tokenizers and its text models at reduced size."""

import pytest
import torch
from comfy.sd1_clip import SDTokenizer
from replan.attention.hints import attach_hints
from replan.attention.hints.recipes import real_tokens
from replan.attention.payload import PAYLOAD_KEY, RegionError
from replan.planner.plan import Region, RegionPlan
from replan.tests.host import reduced_encoders

HINT = "a red hat with a feather"


@pytest.fixture(scope="module")
def flux():
    return reduced_encoders.flux_clip()


@pytest.fixture(scope="module")
def klein():
    return reduced_encoders.klein_clip()


def encode(clip, text, **options):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text, **options))


def hint_of(clip, text, padding):
    plan = RegionPlan((8, 8), "", (Region("r1", (0, 0, 4, 4), text),))
    out = attach_hints(encode(clip, "a street"), clip, plan, padding=padding)
    return out[0][1]["model_conds"][PAYLOAD_KEY].text.hints[0]


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


class TestT5:
    def test_host_keeps_the_256_tokens_the_host_pads_to(self, flux):
        hint = hint_of(flux, HINT, "host")
        assert hint.shape[1] == 256
        same(hint, encode(flux, HINT)[0][0])

    def test_trim_keeps_the_words_and_the_end_token(self, flux):
        words = len(flux.tokenizer.t5xxl.tokenizer(HINT)["input_ids"])  # transformers' own count, end token included
        same(hint_of(flux, HINT, "trim"), encode(flux, HINT)[0][0][:, :words])

    def test_reference_is_512_tokens(self, flux):
        hint = hint_of(flux, HINT, "reference")
        same(hint, encode(flux, HINT, tokenizer_options={"t5xxl_min_length": 512})[0][0])
        assert hint.shape[1] == 512

    def test_reference_cuts_a_longer_hint_to_511_words_and_the_end_token(self, flux, caplog):
        hint = hint_of(flux, "hat " * 700, "reference")
        tokens = flux.tokenize("hat " * 700)
        tokens["t5xxl"] = [[*tokens["t5xxl"][0][:511], (1, 1.0)]]
        same(hint, flux.encode_from_tokens_scheduled(tokens)[0][0])
        assert hint.shape[1] == 512 and "is cut to 512" in caplog.text

    def test_tokenizer_options_on_the_clip_hold_for_host_and_trim_and_yield_to_reference(self, flux):
        from comfy_extras.nodes_cond import T5TokenizerOptions

        clip = T5TokenizerOptions.execute(flux, min_padding=3, min_length=40)[0]
        words = len(flux.tokenizer.t5xxl.tokenizer(HINT)["input_ids"])
        assert hint_of(clip, HINT, "host").shape[1] == 40
        assert hint_of(clip, HINT, "trim").shape[1] == words
        assert hint_of(clip, HINT, "reference").shape[1] == 512
        same(hint_of(clip, "hat " * 700, "reference"), hint_of(flux, "hat " * 700, "reference"))

    def test_the_pooled_vector_stays_that_of_the_global_prompt(self, flux):
        conditioning = encode(flux, "a street")
        plan = RegionPlan((8, 8), "", (Region("r1", (0, 0, 4, 4), HINT),))
        assert attach_hints(conditioning, flux, plan)[0][1]["pooled_output"] is conditioning[0][1]["pooled_output"]

    def test_prompt_weights_act_as_in_any_prompt(self, flux):
        weighted = hint_of(flux, "a (red:1.5) hat", "host")
        same(weighted, encode(flux, "a (red:1.5) hat")[0][0])
        assert not torch.equal(weighted, hint_of(flux, "a red hat", "host"))


class TestKlein:
    def test_host_keeps_512_tokens(self, klein):
        same(hint_of(klein, HINT, "host"), encode(klein, HINT)[0][0])
        assert hint_of(klein, HINT, "host").shape[1] == 512

    def test_trim_keeps_what_the_host_marks_as_text(self, klein):
        template = klein.tokenizer.llama_template.format(HINT)
        count = len(klein.tokenizer.qwen3_4b.tokenizer(template)["input_ids"])
        full, extras = encode(klein, HINT)[0]
        assert int(extras["attention_mask"].sum()) == count
        same(hint_of(klein, HINT, "trim"), full[:, :count])

    def test_reference_is_host(self, klein):
        same(hint_of(klein, HINT, "reference"), hint_of(klein, HINT, "host"))


class TestLeftPadding:
    """FLUX.2 dev's Mistral tokenizer pads on the left; its words come with the checkpoint, so Qwen's stand in."""

    @pytest.fixture
    def tokenizer(self, klein):
        path = klein.tokenizer.qwen3_4b.tokenizer.name_or_path
        from transformers import Qwen2Tokenizer

        return SDTokenizer(
            path,
            pad_with_end=False,
            embedding_size=32,
            embedding_key="mistral3_24b",
            tokenizer_class=Qwen2Tokenizer,
            has_end_token=False,
            pad_to_max_length=False,
            pad_token=11,
            start_token=1,
            max_length=99999999,
            min_length=64,
            pad_left=True,
            disable_weights=True,
        )

    def test_only_the_padding_before_the_text_goes(self, tokenizer):
        section = tokenizer.tokenize_with_weights("a, red, hat")[0]  # 11 is a comma: it is text, too
        words = tokenizer.tokenizer("a, red, hat")["input_ids"]
        real = real_tokens(section, tokenizer)
        assert len(real) == 64
        kept = [token for (token, _), keep in zip(section, real, strict=True) if keep]
        assert 11 in words and kept[0] != 11 and kept[-len(words) :] == words and len(kept) <= len(words) + 1


def test_trim_refuses_an_encoder_whose_states_are_not_its_tokens(flux, monkeypatch):
    original = type(flux).encode_from_tokens_scheduled

    def shorter(self, tokens, **options):
        return [[states[:, 1:], extras] for states, extras in original(self, tokens, **options)]

    monkeypatch.setattr(type(flux), "encode_from_tokens_scheduled", shorter)
    with pytest.raises(RegionError, match="255 states for 256 tokens; use hint_padding 'host'"):
        hint_of(flux, HINT, "trim")

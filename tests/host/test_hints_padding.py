"""What each padding keeps of a hint, with the host's real tokenizers and its text models at reduced size."""

import pytest
import torch
from comfy.sd1_clip import SDTokenizer
from replan.attention.families import FAMILIES
from replan.attention.hints import attach_hints, qwen_edit
from replan.attention.hints.attach import TOKEN_BUDGET
from replan.attention.hints.recipes import PlainRecipe, Prompt, real_tokens
from replan.attention.payload import HINT_PADDINGS, PAYLOAD_KEY, RegionError
from replan.planner.plan import Region, RegionPlan
from replan.tests.host import reduced_encoders
from safetensors.torch import save_file

HINT = "a red hat with a feather"


@pytest.fixture(scope="module")
def flux():
    return reduced_encoders.flux_clip()


@pytest.fixture(scope="module")
def klein():
    return reduced_encoders.klein_clip()


def encode(clip, text, **options):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text, **options))


def hint_of(clip, text, padding, **region):
    plan = RegionPlan((8, 8), "", (Region("r1", (0, 0, 4, 4), text, **region),))
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


@pytest.fixture(scope="module")
def encoders(flux, klein):
    return {
        "flux": flux,
        "flux2": klein,
        "flux2 dev": reduced_encoders.flux2_clip(),
        "qwen": reduced_encoders.qwen_clip(),
    }


@pytest.mark.parametrize("padding", HINT_PADDINGS)
@pytest.mark.parametrize("name", ["flux", "flux2", "flux2 dev", "qwen"])
def test_what_is_counted_is_what_arrives_at_the_model_and_nothing_else_is_kept(encoders, name, padding):
    clip, family = encoders[name], FAMILIES[name.split()[0]]
    plan = RegionPlan((8, 8), "", (Region("r1", (0, 0, 4, 4), HINT),))
    text = attach_hints(encode(clip, "a street"), clip, plan, padding=padding)[0][1]["model_conds"][PAYLOAD_KEY].text
    make = qwen_edit.count_recipe if name == "qwen" else PlainRecipe
    recipe = make(clip, padding, pytest.fail)
    arrives = family.prepare(text.hints[0], text).shape[1]
    assert recipe.count(recipe.tokenize(Prompt(HINT))) == arrives == family.hint_tokens(text.hints[0].shape[1], padding)
    assert text.hints[0].untyped_storage().nbytes() == text.hints[0].nbytes, "no view of a longer encoding"
    least = {"flux": 256, "flux2": 512, "qwen": 1}[family.name] if padding == "host" else 1
    assert arrives >= least


def test_the_budget_counts_flux2_hints_as_the_model_pads_them(encoders, monkeypatch):
    """129 hints of some twenty tokens each are 129 x 512 at the model."""
    clip = encoders["flux2 dev"]
    conditioning = encode(clip, "a street")
    regions = tuple(Region(f"r{i}", (0, 0, 4, 4), "hat") for i in range(TOKEN_BUDGET // 512 + 1))
    with pytest.raises(RegionError, match="129 regions come to 66,048 tokens"):
        attach_hints(conditioning, clip, RegionPlan((8, 8), "", regions))
    assert attach_hints(conditioning, clip, RegionPlan((8, 8), "", regions[1:])) is not conditioning
    assert attach_hints(conditioning, clip, RegionPlan((8, 8), "", regions), padding="trim") is not conditioning


# A planner's words that ComfyUI would read as weights, as an escape, and as a textual inversion.
SYNTAX = "the cup (left) of \\(two\\), (red:1.5) embedding:style and\nembedding:none here"


class TestPromptSyntax:
    """A hint that a model wrote is plain text; one that a person wrote or changed takes ComfyUI's prompt syntax."""

    @pytest.fixture
    def styled(self, encoders, tmp_path, monkeypatch):
        """The encoders with a folder that holds a textual inversion called style."""
        save_file({"emb": torch.ones(1, 64)}, tmp_path / "style.safetensors")
        for clip in encoders.values():
            for part in vars(clip.tokenizer).values():
                if isinstance(part, SDTokenizer):
                    monkeypatch.setattr(part, "embedding_directory", str(tmp_path))
        return encoders

    @pytest.mark.parametrize("name", ["flux", "flux2", "flux2 dev", "qwen"])
    def test_a_plain_text_is_tokenised_word_by_word(self, styled, name):
        clip = styled[name]
        tokens = PlainRecipe(clip, "trim", pytest.fail).tokenize(Prompt(SYNTAX, plain=True))
        for key, sections in tokens.items():
            part = getattr(clip.tokenizer, key, None) or getattr(clip.tokenizer, f"clip_{key}")
            template = getattr(clip.tokenizer, "llama_template", "{}")
            expected = part.tokenizer(template.format(SYNTAX))["input_ids"]
            found = [pair[0] for section in sections for pair in section if pair[0] != part.pad_token]
            assert all(pair[1] == 1.0 for section in sections for pair in section), key
            assert [t for t in found if t != part.start_token] == [
                t for t in expected if t not in (part.pad_token, part.start_token)
            ], key

    def test_a_typed_text_has_weights_and_inversions_on_flux(self, styled):
        tokens = PlainRecipe(styled["flux"], "trim", pytest.fail).tokenize(Prompt(SYNTAX))["t5xxl"][0]
        assert {weight for _, weight in tokens} >= {1.0, 1.1, 1.5}
        assert any(torch.is_tensor(token) for token, _ in tokens)

    @pytest.mark.parametrize("name", ["flux", "flux2", "flux2 dev", "qwen"])
    def test_a_hint_of_a_model_is_encoded_as_the_escaped_text(self, encoders, name):
        clip = encoders[name]
        text = "a hat (left) of the cup (red:1.5)"
        planned = Region("r1", (0, 0, 4, 4), text).with_plain_texts()
        escaped = text.replace("(", "\\(").replace(")", "\\)")
        found = hint_of(clip, planned.hint, "host", plain_texts=planned.plain_texts)
        same(found, encode(clip, escaped)[0][0][:, -found.shape[1] :])
        typed = hint_of(clip, text, "host")
        assert torch.equal(typed, found) == (name != "flux"), "only Flux.1's encoders have weights"

    def test_a_hint_that_a_person_changed_since_takes_the_syntax(self, flux):
        planned = Region("r1", (0, 0, 4, 4), "a hat (left)").with_plain_texts()
        changed = hint_of(flux, "a (red:1.4) hat (left)", "host", plain_texts=planned.plain_texts)
        same(changed, encode(flux, "a (red:1.4) hat (left)")[0][0])


def test_trim_refuses_an_encoder_whose_states_are_not_its_tokens(flux, monkeypatch):
    original = type(flux).encode_from_tokens_scheduled

    def shorter(self, tokens, **options):
        return [[states[:, 1:], extras] for states, extras in original(self, tokens, **options)]

    monkeypatch.setattr(type(flux), "encode_from_tokens_scheduled", shorter)
    with pytest.raises(RegionError, match="255 states for 256 tokens; use hint_padding 'host'"):
        hint_of(flux, HINT, "trim")

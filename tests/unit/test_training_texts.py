"""The toy world's text encoder: what is read at a text's end, what padding costs, and how reading is taught."""

import os
from pathlib import Path

import pytest
import torch
from replan.tools.toyworld import weights
from replan.tools.toyworld.edits import KEEP, KINDS, TEMPLATES, Reference, random_wording, written
from replan.tools.toyworld.scenes import random_state
from replan.tools.training import text_encoder
from replan.tools.training.comfyui_check import randomised
from replan.tools.training.editor import make_editor, outputs
from replan.tools.training.model_trainings import newest_comfyui
from replan.tools.training.text_encoder import (
    CODED_WORDS,
    LENGTH,
    POSITIONS,
    TextEncoder,
    TextLayers,
    TokenVectors,
    coded_words,
    decode_words,
    text_loss,
    training_sentences,
)
from replan.tools.training.train import STOPPED, main
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def comfyui():
    return Path(os.environ.get("REPLAN_COMFYUI") or newest_comfyui())


@pytest.fixture(scope="module")
def encoder(comfyui):
    return TextEncoder(comfyui, load_file(weights.checked(weights.TEXTS)))


def read(encoder, text):
    """What stands at the end of a text, and at its padding."""
    features = encoder.encode(text).features
    return {tuple(row.tolist()) for row in decode_words(features[-2:])}


def test_every_sentence_of_the_world_is_read_right(encoder):
    """All templates; of the objects and values every pair once at least (others: the trained measure, 1.00)."""
    random = random_state(5, "wordings")
    said = [random_wording(random) for _ in range(1500)]
    assert {one.kind for one in said} == set(KINDS)
    assert {one.text.split()[0] for one in said} == {form.split()[0] for forms in TEMPLATES.values() for form in forms}
    wrong = [one.text for one in said if read(encoder, one.text) != {coded_words(one)}]
    assert not wrong
    assert read(encoder, "") == {coded_words(written(KEEP))}, "an empty hint asks for nothing"


def test_what_an_instruction_asks_is_named_by_its_parts():
    one = written("reshape", Reference("circle", "red"), "star")
    assert [words[index] for words, index in zip(CODED_WORDS, coded_words(one), strict=True)] == [
        "reshape",
        "red",
        "circle",
        "star",
    ]
    assert coded_words(written("remove", Reference(colour="pink")))[2:] == (-1, -1)


def test_equal_tokens_counted_once_give_the_same_velocity(encoder):
    programs = [("make the red circle blue", "remove every star"), ("",)]
    together = encoder.encode_programs(programs)
    assert together.features.shape[:2] == together.counts.shape == (2, 2 * (POSITIONS + 1))
    assert together.counts.sum(1).tolist() == [2 * LENGTH, LENGTH]
    model = randomised(make_editor(0), 0).eval()
    generator = torch.Generator().manual_seed(0)
    noisy, reference = torch.randn(2, 2, 16, 4, 6, generator=generator)
    sigma = torch.tensor([0.8, 0.3])
    with torch.no_grad():
        once = outputs(model, noisy, reference, together.features, sigma, together.counts)[0]
        for row, texts in enumerate(programs):
            parts = [encoder.encode(text) for text in texts]
            full = torch.cat([torch.repeat_interleave(p.features, p.counts.long(), 0) for p in parts])[None]
            one = slice(row, row + 1)
            spelled_out = outputs(model, noisy[one], reference[one], full, sigma[one])[0]
            assert torch.allclose(once[one], spelled_out, atol=2e-5)
    assert once.std() > 0.1


@pytest.mark.parametrize("text", ["", "remove every star", "change the colour of every red circle to blue"])
def test_padding_is_one_token_many_times(encoder, comfyui, text):
    """Written out to its whole length, the padding behind the last place gets the feature that counts for all of it."""
    reader = TextLayers()
    reader.load_state_dict({name: value.float() for name, value in load_file(weights.checked(weights.TEXTS)).items()})
    vectors, counts = TokenVectors(comfyui)(text)
    with torch.no_grad():
        whole = reader(torch.cat((vectors, vectors[-1:].expand(int(counts[-1]) - 1, -1)))[None])[0]
    assert len(whole) == LENGTH
    assert (whole[POSITIONS:] - encoder.encode(text).features[-1]).abs().max() < 1e-5


def test_words_stay_apart_and_a_text_may_fill_all_places(encoder):
    one, other = (encoder.encode(f"make the {colour} circle blue").features for colour in ("red", "green"))
    differ = (one - other).abs().amax(1) > 0.1
    assert differ[:3].tolist() == [False] * 3, "what comes before a word has not seen it"
    assert differ[3] and differ[-1]
    assert encoder.encode("red " * 75).counts.tolist() == [1] * LENGTH
    assert encoder.encode("red " * 74).counts.tolist() == [1] * LENGTH
    with pytest.raises(ValueError, match="at most 77 tokens"):
        encoder.encode("red " * 90)


def test_texts_side_by_side_tell_which_words_belong_together(encoder):
    """Flux gives texts no position: the same words, paired otherwise, must not be the same set of tokens."""

    def tokens(*texts):
        rows = encoder.encode_programs([texts]).features[0]
        return {tuple(row.round(decimals=3).tolist()) for row in rows}

    straight = tokens("make the red circle blue", "make the green star white")
    crossed = tokens("make the red star blue", "make the green circle white")
    assert straight == tokens("make the green star white", "make the red circle blue")
    # Alike are only the start and the words before the pairing shows: two of "start make the red|green".
    assert len(straight & crossed) == 5


def test_reading_is_learnt_from_sentences_alone(comfyui):
    words, reader = TokenVectors(comfyui), TextLayers(1)
    batch = training_sentences(0, 0, 64, words)
    assert batch.ends.any(1).all() and not batch.ends[:, 0].any(), "each has an end, and none begins with it"
    again = training_sentences(0, 0, 64, words)
    assert torch.equal(batch.vectors, again.vectors) and torch.equal(batch.words, again.words)
    optimizer = torch.optim.AdamW(reader.parameters(), 3e-3)
    losses = []
    for step in range(40):
        loss, right = text_loss(reader, training_sentences(0, step, 64, words))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0] and 0 <= right <= 1


def test_the_codes_of_a_quarter_are_far_apart():
    for table in text_encoder.word_codes():
        apart = torch.cdist(table, table) + 1e3 * torch.eye(len(table))
        assert apart.min() > 4, "of 8.5, between what is said and what is not"


@pytest.mark.parametrize("file", ["missing", weights.CODEC, weights.HASHES])
def test_a_file_that_is_no_text_encoder_is_refused_in_words(comfyui, tmp_path, capsys, file):
    command = [
        "editor",
        "--folder",
        str(tmp_path),
        "--comfyui",
        str(comfyui),
        "--device",
        "cpu",
        "--texts",
        str(weights.WEIGHTS / file),
    ]
    assert main(command) == 1
    assert "is no trained text encoder" in capsys.readouterr().err


def test_a_reader_is_trained_resumed_and_published_by_one_command(comfyui, tmp_path, capsys):
    command = [
        "texts",
        "--folder",
        str(tmp_path),
        "--batch",
        "4",
        "--comfyui",
        str(comfyui),
        "--steps",
        "3",
        "--device",
        "cpu",
    ]
    assert main([*command, "--seconds", "0"]) == STOPPED
    assert "stopped at step 1 of 3" in capsys.readouterr().out
    assert main(command) == 0
    assert TextLayers().load_state_dict({k: v.float() for k, v in load_file(tmp_path / weights.TEXTS).items()})

"""Models on disk: which are offered, which weights belong to one, and what is known of each kind. No model is read."""

import json
import struct

import pytest
from replan.planner.models.files import models_below, read_config, stamp, trained_template, weight_files
from replan.planner.models.interface import SPECS, spec_of, without_control_words
from replan.planner.plan import PlanError


def weights(file, length=8):
    """A .safetensors file of one tensor of `length` bytes."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}}).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(length))
    return file


def folder(place, shards=("model.safetensors",)):
    for shard in shards:
        weights(place / shard)
    (place / "config.json").write_text('{"model_type": "qwen2_5_vl"}', encoding="utf-8")
    return place


def test_folders_and_files_are_found_by_their_path_and_a_folders_shards_are_not_files(tmp_path):
    weights(tmp_path / "text" / "one.safetensors")
    weights(tmp_path / "text" / "flux" / "two.sft")
    folder(tmp_path / "text" / "qwen", ("model-1.safetensors", "model-2.safetensors"))
    folder(tmp_path / "llm" / "maker" / "model")
    (tmp_path / "text" / "three.gguf").write_bytes(b"GGUF")
    weights(tmp_path / "text" / ".cache" / "hidden.safetensors")
    weights(tmp_path / "llm" / "a" / "b" / "c" / "d" / "deep.safetensors")
    found = models_below([str(tmp_path / "text"), str(tmp_path / "llm"), str(tmp_path / "none")])
    assert set(found) == {"one.safetensors", "flux/two.sft", "qwen", "maker/model"}
    assert found["maker/model"] == tmp_path / "llm" / "maker" / "model"


def test_of_equal_names_the_first_counts(tmp_path):
    first, second = (weights(tmp_path / place / "same.safetensors") for place in "ab")
    assert models_below([str(tmp_path / "a"), str(tmp_path / "b")]) == {"same.safetensors": first}
    assert models_below([str(tmp_path / "b"), str(tmp_path / "a")]) == {"same.safetensors": second}


def test_the_index_says_which_shards_belong_to_a_model(tmp_path):
    place = folder(tmp_path / "m", ("x-1.safetensors", "x-2.safetensors", "other.safetensors"))
    index = {"weight_map": {"a": "x-2.safetensors", "b": "x-1.safetensors", "c": "x-1.safetensors"}}
    (place / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert [file.name for file in weight_files(place)] == ["x-1.safetensors", "x-2.safetensors"]
    (place / "model.safetensors.index.json").write_text("[]", encoding="utf-8")
    with pytest.raises(PlanError, match="index.json' cannot be read"):
        weight_files(place)
    outside = {"weight_map": {"a": "../../x-1.safetensors"}}
    (place / "model.safetensors.index.json").write_text(json.dumps(outside), encoding="utf-8")
    with pytest.raises(PlanError, match="names '../../x-1.safetensors', which is no file of this folder"):
        weight_files(place)


def with_header(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"nope",
        struct.pack("<Q", 14) + b'{"a": {"b":1}}',
        with_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":["a","b"]}}'),
        with_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}'),
        with_header(b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}') + bytes(4),
    ],
)
def test_what_is_no_weights_file_is_refused_by_its_name(tmp_path, content):
    file = tmp_path / "page.safetensors"
    file.write_bytes(content)
    with pytest.raises(
        PlanError, match="the weights file 'page.safetensors' is not complete or not a .safetensors file"
    ):
        weight_files(file)


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    file = weights(tmp_path / "mine.safetensors")

    def denied(*_, **__):  # who runs the tests may be allowed to read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(file), "open", denied)
    with pytest.raises(PlanError, match=r"'mine.safetensors' cannot be opened \(Permission denied\)"):
        weight_files(file)


def test_other_kinds_of_files_are_refused(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(PlanError, match="'model.pt' is no .safetensors file"):
        weight_files(tmp_path / "model.pt")
    with pytest.raises(PlanError, match="there is no 'gone.safetensors' any more"):
        weight_files(tmp_path / "gone.safetensors")
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(PlanError, match="config.json' is not an object"):
        read_config(tmp_path)


def test_a_model_that_was_replaced_has_another_stamp(tmp_path):
    place = folder(tmp_path / "m")
    before = stamp(place)
    assert stamp(place) == before != ()
    weights(place / "model.safetensors", 16)
    assert stamp(place) != before


@pytest.mark.parametrize(
    ("place", "published"),
    [
        ("RePlan-Qwen2.5-VL-7B/config.json", True),
        ("models--TainU--RePlan-Qwen2.5-VL-7B/snapshots/0123abc/config.json", True),
        ("TainU/RePlan_Qwen2.5-VL-7B-bf16/config.json", True),
        ("replan_qwen2.5_vl_7b_fp8.safetensors", True),
        ("Qwen2.5-VL-7B-Instruct/config.json", False),
        ("replan/qwen3_vl_8b.safetensors", False),
    ],
)
def test_the_published_planner_is_known_by_its_name(tmp_path, place, published):
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}", encoding="utf-8")
    path = file.parent if file.name == "config.json" else file
    assert trained_template(path) == (file.parent / "replan.txt" if published else None)


def test_the_published_planner_is_known_by_what_its_config_says(tmp_path):
    (tmp_path / "config.json").write_text('{"_name_or_path": "TainU/RePlan-Qwen2.5-VL-7B"}', encoding="utf-8")
    assert trained_template(tmp_path) == tmp_path / "replan.txt"


def test_what_is_known_of_kinds_of_models():
    assert {name: SPECS[name].coordinates for name in ("qwen2_5_vl", "qwen3_vl", "qwen2_vl")} == {
        "qwen2_5_vl": "seen_pixels",
        "qwen3_vl": "relative_1000",
        "qwen2_vl": "relative_1000",
    }
    assert spec_of("qwen3_vl").seen_size((640, 427), 10**7) == (640, 416)
    assert spec_of("qwen2_5_vl").seen_size((640, 427), 10**7) == (644, 420)
    other = spec_of("somebody_vl")
    assert (other.known, other.coordinates, other.name) == (False, "auto", "somebody_vl")


def test_control_words_are_broken_and_other_text_is_not():
    assert (
        without_control_words("a <|im_end|> < |im_end|> <b>", ["<|im_end|>", "<|x|>", "<"])
        == "a < |im_end|> < |im_end|> <b>"
    )

"""Folders of planners: what is loaded, in which type, and which do not load."""

import json
import shutil
import sys

import comfy.model_management as management
import pytest
import torch
from learned_planner import ASK, LEFT, make_plan, reply, request, square
from replan.planner.asking.templates import planner_messages
from replan.planner.models import choose, folder
from replan.planner.models.interface import TORCH_DTYPES, Sampling
from replan.planner.plan import PlanError
from safetensors.torch import load_file, save_file


def test_two_loads_of_one_folder_are_one_until_it_changes(learned_planner):
    first = choose.load_planner(learned_planner)
    assert choose.load_planner(learned_planner) is first
    assert first.label.startswith("Qwen2.5-VL 'learned' by transformers")
    (learned_planner / "generation_config.json").touch()
    assert choose.load_planner(learned_planner) is not first


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_folder_computes_in_what_is_asked_for_whatever_comfyui_prefers(learned_planner, dtype, monkeypatch):
    other = torch.bfloat16 if dtype == "fp32" else torch.float32
    for name in ("text_encoder_dtype", "unet_dtype", "unet_manual_cast"):
        monkeypatch.setattr(management, name, lambda *_, **__: other)
    monkeypatch.setattr(management, "should_use_bf16", lambda *_, **__: other is torch.bfloat16)
    asked, seen = choose.load_planner(learned_planner, dtype), []
    layer = asked.network.model.language_model.layers[-1].mlp
    hook = layer.register_forward_hook(lambda _, given, out: seen.extend([given[0].dtype, out.dtype]))
    asked.answer(planner_messages(ASK, "paint it blue"), [square(LEFT)], Sampling(3))
    hook.remove()
    assert set(seen) == {TORCH_DTYPES[dtype]}


def changed(folder, tmp_path, **entries):
    copy = shutil.copytree(folder, tmp_path / "changed")
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps({**config, **entries}), encoding="utf-8")
    return copy


def test_a_folder_that_needs_code_of_its_own_is_refused(learned_planner, tmp_path):
    copy = changed(learned_planner, tmp_path, model_type="own", auto_map={"AutoModel": "modeling.Own"})
    (copy / "modeling.py").write_text("raise SystemExit('this must never run')", encoding="utf-8")
    with pytest.raises(PlanError, match="needs program code out of its folder, which is never run"):
        choose.load_planner(copy)


def test_a_folder_of_a_kind_that_is_not_known_is_refused_with_the_librarys_own_words(learned_planner, tmp_path):
    copy = changed(learned_planner, tmp_path, model_type="no_such_model")
    with pytest.raises(PlanError, match="transformers cannot read 'changed': .*no_such_model"):
        choose.load_planner(copy)


def test_weights_of_another_kind_are_never_opened(learned_planner, tmp_path):
    copy = changed(learned_planner, tmp_path)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(PlanError, match="holds no .safetensors weights, only pytorch_model.bin"):
        choose.load_planner(copy)


def test_what_else_can_be_wrong_with_a_folder(learned_planner, tmp_path):
    copy = changed(learned_planner, tmp_path)
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(PlanError, match="has no chat template"):
        choose.load_planner(copy)
    (copy / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(PlanError, match="config.json' is not JSON"):
        choose.load_planner(copy)
    (copy / "config.json").unlink()
    with pytest.raises(PlanError, match="has no config.json"):
        choose.load_planner(copy)


@pytest.mark.parametrize("lost", ["visual", "layers.1.", ""], ids=["tower", "layer", "all"])
def test_weights_that_are_in_no_file_are_never_made_up(learned_planner, tmp_path, lost):
    copy = changed(learned_planner, tmp_path)
    kept = {name: weight for name, weight in load_file(copy / "model.safetensors").items() if lost not in name}
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        PlanError, match=r"\d+ weights of the model are not in 'changed', the first is \w+.*download it again"
    ):
        choose.load_planner(copy)


def test_a_config_of_another_shape_is_refused(learned_planner, tmp_path):
    with pytest.raises(PlanError, match="transformers cannot read 'changed'"):
        choose.load_planner(changed(learned_planner, tmp_path, text_config="x"))


@pytest.mark.parametrize(
    "template",
    ["{% for %}", "{{ raise_exception('no') }}", "a template without the picture"],
    ids=["syntax", "raises", "no picture"],
)
def test_a_chat_template_that_fails_is_named(learned_planner, tmp_path, template):
    copy = changed(learned_planner, tmp_path)
    (copy / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(PlanError, match="'changed' by transformers .* cannot be asked: .*chat template"):
        make_plan(choose.load_planner(copy), square(LEFT), request())


@pytest.mark.parametrize("settings", [{}, {"eos_token_id": "x", "max_length": 3, "num_beams": 4}], ids=str)
def test_a_reply_ends_where_the_tokenizer_says_and_not_by_other_settings(learned_planner, tmp_path, settings):
    copy = changed(learned_planner, tmp_path)
    (copy / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert make_plan(choose.load_planner(copy), square(LEFT), request())[1] == reply(LEFT)


def test_a_model_that_cannot_use_flash_attention_is_read_without_it(learned_planner, monkeypatch):
    monkeypatch.setattr(folder, "_wants_flash", lambda *_: True)  # on a CPU the library refuses it
    model = folder.load(learned_planner, "fp32", "default")
    assert model.network.config._attn_implementation == "sdpa"
    assert make_plan(model, square(LEFT), request())[1] == reply(LEFT)


@pytest.mark.parametrize(
    ("dtype", "saved", "place", "present", "wanted"),
    [
        ("bf16", "float32", "cuda", True, True),
        ("default", "bfloat16", "cuda", True, True),
        ("default", "float32", "cuda", True, False),
        ("fp32", "bfloat16", "cuda", True, False),
        ("bf16", "bfloat16", "cpu", True, False),
        ("bf16", "bfloat16", "cuda", False, False),
    ],
)
def test_flash_attention_is_for_half_precision_on_a_gpu_where_it_is_installed(
    monkeypatch, dtype, saved, place, present, wanted
):
    import transformers

    monkeypatch.setattr(transformers.utils, "is_flash_attn_2_available", lambda: present)
    assert folder._wants_flash(transformers, {"dtype": saved}, dtype, torch.device(place)) is wanted


def test_a_model_that_is_spread_plans_alike_and_is_put_back(learned_planner):
    spread = choose.load_planner(learned_planner, "fp32", "spread")
    for _ in range(2):
        assert make_plan(spread, square(LEFT), request()).plan.regions[0].box == LEFT
        assert "_hf_hook" not in vars(spread.network) and "to" not in vars(spread.network)


def test_spreading_needs_accelerate_and_a_folder(learned_planner, monkeypatch):
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "accelerate", None)  # as Python marks a package that cannot be imported
        with pytest.raises(PlanError, match="device 'spread' needs the Python package accelerate"):
            choose.load_planner(learned_planner, "bf16", "spread")
    file = learned_planner / "model.safetensors"
    with pytest.raises(PlanError, match="device 'spread' is for folders"):
        choose.load_planner(file, device="spread")
    with pytest.raises(PlanError, match="is a single file; transformers reads whole folders"):
        choose.load_planner(file, reader="transformers")

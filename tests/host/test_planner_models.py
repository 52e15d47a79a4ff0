"""The planner's models: ComfyUI's own Qwen-VL classes against transformers on the same tiny random weights."""

import comfy.model_management as management
import comfy.sd
import pytest
import tiny_planners as tiny
import torch
from comfy.cli_args import args
from replan.planner.asking.templates import Message, Part
from replan.planner.models import choose, files, host, host_weights
from replan.planner.models.interface import QWEN3_VL, QWEN25_VL, TORCH_DTYPES, Sampling
from replan.planner.plan import PlanError

KINDS = ("qwen2_5_vl", "qwen3_vl")
SPECS = {"qwen2_5_vl": QWEN25_VL, "qwen3_vl": QWEN3_VL}
# One token, wider than high, higher than wide and not of one window's size: sizes that the families round differently.
SIZES = ((56, 56), (252, 140), (150, 333))
QUESTION = (Message("user", (Part.IMAGE, "Find the (red:1.2) embedding:cup and\nthe \\(blue\\) one.")),)
TOKENS = 12
FEW = 1000  # words of a model that is only loaded


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """(kind, the model of transformers, the same weights held by the host), and the file as `held.file`."""
    model = tiny.make(request.param)
    file = tiny.single_file(model, tmp_path_factory.mktemp("planner") / "tiny.safetensors")
    with tiny.tiny_host(request.param):
        held = host.load(file, "default", "default")
    held.file = file
    # The largest tensors are the same in both; one copy of them is enough.
    large = {"embed_tokens": model.get_input_embeddings(), "lm_head": model.lm_head}
    for name, module in large.items():
        weight = getattr(held.encoder.transformer.model, name).weight
        assert torch.equal(weight, module.weight)
        module.weight.data = weight.data
    return request.param, model, held


def picture(size: tuple[int, int], spec, seed: int = 0) -> torch.Tensor:
    width, height = spec.seen_size(size, 400_000)
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(seed))


def library_inputs(kind: str, held: host.HostModel, messages, *images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the library's own image processor and tokenizer make of the same question."""
    from transformers import Qwen2VLImageProcessor

    patch, mean, std = (14, None, None) if kind == "qwen2_5_vl" else (16, [0.5] * 3, [0.5] * 3)
    normal = {} if mean is None else {"image_mean": mean, "image_std": std}
    processor = Qwen2VLImageProcessor(patch_size=patch, **normal)
    each = [
        processor(images=shown.movedim(-1, 1), do_resize=False, do_rescale=False, return_tensors="pt")
        for shown in images
    ]
    counts = iter([int(seen["image_grid_thw"].prod()) // 4 for seen in each])
    ids = []
    for token in held.tokens(messages, images):
        ids += [tiny.IMAGE] * next(counts) if isinstance(token, dict) else [token]
    ids = torch.tensor([ids])
    return {
        "pixel_values": torch.cat([seen["pixel_values"] for seen in each]),
        "image_grid_thw": torch.cat([seen["image_grid_thw"] for seen in each]),
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == tiny.IMAGE).long(),
    }


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_logits_and_greedy_tokens_are_those_of_transformers(pair, size):
    kind, model, held = pair
    shown = picture(size, SPECS[kind])
    given = library_inputs(kind, held, QUESTION, shown)
    with torch.no_grad():
        expected = model(**given).logits[:, -1]
        embeds, places = held.embeds(held.tokens(QUESTION, [shown]), torch.device("cpu"))
        states = held.encoder.transformer.model(None, embeds=embeds, **places)[0]
        found = held._logits(states)[:, -1]
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    written = model.generate(
        **given, max_new_tokens=TOKENS, do_sample=False, eos_token_id=[151643, 151645], pad_token_id=151643
    )
    wanted = written[0, given["input_ids"].shape[1] :].tolist()
    assert len(set(wanted)) > 3
    answer = held.answer(QUESTION, [shown], Sampling(TOKENS))
    tokenizer = held._tokenizer
    assert answer.text == tokenizer.decode(wanted, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
    assert answer.tokens == len(wanted) and answer.asked == given["input_ids"].shape[1]


def test_a_question_without_a_picture_is_answered_alike(pair):
    _, model, held = pair
    question = (Message("user", ("Say it in short commands: make the sky darker.",)),)
    ids = torch.tensor([held.tokens(question, [])])
    written = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=TOKENS,
        do_sample=False,
        eos_token_id=[151643, 151645],
    )
    wanted = held._tokenizer.decode(
        written[0, ids.shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    assert held.answer(question, [], Sampling(TOKENS)).text == wanted.strip() != ""


def test_a_full_device_says_which_settings_help(pair, monkeypatch):
    kind, _, held = pair

    def full(*_, **__):
        raise management.OOM_EXCEPTION("out of memory: tried to allocate 20 GiB")

    monkeypatch.setattr(management, "load_models_gpu", full)
    with pytest.raises(
        PlanError, match="ran out of memory.*tried to allocate 20 GiB.*; lower max_megapixels or max_tokens"
    ):
        held.answer(QUESTION, [picture((56, 56), SPECS[kind])], Sampling(2))


def test_the_picture_and_its_places_matter(pair):
    """Without three-axis positions, or with another picture, the reply differs: neither is lost on the way."""
    kind, _, held = pair
    shown = picture((252, 140), SPECS[kind])

    def last(picture, **changes):
        with torch.no_grad():
            embeds, places = held.embeds(held.tokens(QUESTION, [picture]), torch.device("cpu"))
            return held._logits(held.encoder.transformer.model(None, embeds=embeds, **{**places, **changes})[0])

    assert (last(shown) - last(1 - shown)).abs().max() > 1e-2
    assert (last(shown) - last(shown, position_ids=None)).abs().max() > 1e-2


def test_a_size_of_the_family_reaches_the_tower_as_it_is(pair):
    """The host resizes to multiples of its patches too; on the size that we chose it changes no pixel."""
    import comfy.text_encoders.qwen_vl as qwen_vl

    kind, _, _ = pair
    spec = SPECS[kind]
    shown = picture((333, 91), spec)
    _, grid = qwen_vl.process_qwen2vl_images(shown, patch_size=spec.factor // 2)
    assert grid.tolist() == [[1, shown.shape[1] // (spec.factor // 2), shown.shape[2] // (spec.factor // 2)]]


def test_what_a_user_writes_stays_words(pair):
    _, _, held = pair
    text = "a (red:1.5) cup embedding:style <|im_end|><|image_pad|> \\(x\\)"
    tokens = held.tokens((Message("user", (Part.IMAGE, text)),), [torch.zeros(1, 56, 56, 3)])
    ids = [token for token in tokens if not isinstance(token, dict)]
    assert len(tokens) - len(ids) == 1
    written = held._tokenizer.decode(ids)
    assert "a (red:1.5) cup embedding:style < |im_end|>< |image_pad|> \\(x\\)<|im_end|>" in written
    assert written.count("<|im_start|>assistant") == 1


def test_a_conversation_is_written_in_the_chat_format_of_the_family(pair):
    """The format of both makers' chat templates; Qwen2.5-VL's adds a system message where there is none."""
    kind, _, held = pair
    shown = "<|vision_start|><|image_pad|><|vision_end|>"
    added = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" if kind == "qwen2_5_vl" else ""
    turns = (
        Message("user", (Part.IMAGE, "one")),
        Message("assistant", ("two",)),
        Message("user", ("three",)),
    )
    text = (
        f"<|im_start|>user\n{shown}one<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n"
        "<|im_start|>user\nthree<|im_end|>\n<|im_start|>assistant\n"
    )
    assert held.chat(turns) == added + text
    assert held.chat((Message("system", ("be brief",)), *turns)) == f"<|im_start|>system\nbe brief<|im_end|>\n{text}"


def test_chance_comes_from_the_seed_alone(pair):
    kind, _, held = pair
    shown = picture((56, 56), SPECS[kind])
    before = torch.get_rng_state()
    first, other, again = (held.answer(QUESTION, [shown], Sampling(8, 1.0, seed)).text for seed in (1, 2, 1))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


def test_the_host_unloads_it_when_another_model_needs_the_room(pair):
    """By the host's own accounting: in its list while it plans, out of it once the room is asked for."""
    kind, _, held = pair
    held.answer(QUESTION, [picture((56, 56), SPECS[kind])], Sampling(2))
    assert held.clip.patcher in management.loaded_models()
    assert held.clip.patcher.loaded_size() > 0
    device = held.clip.patcher.load_device
    management.free_memory(1e32, device)
    assert held.clip.patcher not in management.loaded_models()
    assert held.clip.patcher.loaded_size() == 0
    assert held.answer(QUESTION, [picture((56, 56), SPECS[kind])], Sampling(2)).tokens == 2


def test_an_interruption_ends_a_reply_after_the_token_that_it_is_at(pair, monkeypatch):
    """The host looks for it with every layer; the reply is not caught on its way, and nothing is left behind."""
    kind, _, held = pair
    shown = picture((56, 56), SPECS[kind])
    whole = held.answer(QUESTION, [shown], Sampling(TOKENS))
    written = []

    def logits(states, own=held._logits):
        written.append(1)
        management.interrupt_current_processing(len(written) == 3)
        return own(states)

    with monkeypatch.context() as patched:
        patched.setattr(held, "_logits", logits)
        with pytest.raises(management.InterruptProcessingException):
            held.answer(QUESTION, [shown], Sampling(500))
    assert len(written) == 3
    assert not management.processing_interrupted()
    assert held.answer(QUESTION, [shown], Sampling(TOKENS)) == whole


def test_memory_of_an_answer_is_asked_for(pair, monkeypatch):
    """More picture and longer replies need more; the host itself counts nothing for a text encoder."""
    kind, _, held = pair
    asked = []
    loading = management.load_models_gpu
    monkeypatch.setattr(
        management,
        "load_models_gpu",
        lambda models, memory_required: asked.append(memory_required) or loading(models, memory_required),
    )
    for size, tokens in (((56, 56), 2), ((560, 560), 2), ((56, 56), 9)):
        held.answer(QUESTION, [picture(size, SPECS[kind])], Sampling(tokens))
    assert asked[1] > asked[0] and asked[2] > asked[0] > 0


# ---- loading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_shards_load_like_one_file_and_two_loads_are_one(kind, tmp_path):
    model = tiny.make(kind, words=FEW)
    folder = tiny.save(model, tmp_path / "sharded", shards=3)
    assert len(list(folder.glob("*.safetensors"))) > 1
    with tiny.tiny_host(kind, FEW):
        held = choose.load_planner(folder, reader="comfyui")
        assert choose.load_planner(folder, reader="comfyui") is held
        assert choose.load_planner(folder, "bf16", reader="comfyui") is not held
    again = held.encoder.transformer.state_dict()
    assert torch.equal(again["model.embed_tokens.weight"], model.get_input_embeddings().weight)
    assert held.spec is SPECS[kind]
    assert "ComfyUI" in held.label


@pytest.mark.parametrize(("kind", "dtype"), [("qwen2_5_vl", "fp32"), ("qwen3_vl", "fp16")])
def test_what_is_asked_for_is_computed_whatever_comfyui_prefers(kind, dtype, tmp_path, monkeypatch):
    """ComfyUI's command line asks for bf16 text encoders, and its device (as most GPUs) prefers bf16."""
    file = tiny.single_file(tiny.make(kind), tmp_path / "tiny.safetensors")
    monkeypatch.setattr(args, "bf16_text_enc", True)
    monkeypatch.setattr(management, "should_use_bf16", lambda *_, **__: True)
    with tiny.tiny_host(kind):
        asked, default = host.load(file, dtype, "default"), host.load(file, "default", "default")
    seen = {}

    def watch(name):
        def hook(module, given, out):
            seen[name] = {given[0].dtype, out.dtype}

        return hook

    for name, held in (("asked", asked), ("default", default)):
        held._model.layers[-1].mlp.register_forward_hook(watch(name))
        held.answer(QUESTION, [picture((56, 56), SPECS[kind])], Sampling(2))
    assert seen == {"asked": {TORCH_DTYPES[dtype]}, "default": {torch.bfloat16}}
    assert asked._model.layers[0].mlp.up_proj.weight.dtype == TORCH_DTYPES[dtype]


def test_several_images_are_seen_as_in_transformers(pair):
    kind, model, held = pair
    images = [picture(size, SPECS[kind], seed) for seed, size in enumerate(SIZES)]
    question = (Message("user", (Part.IMAGE, Part.IMAGE, "The first.", Part.IMAGE, "And the last?")),)
    given = library_inputs(kind, held, question, *images)
    with torch.no_grad():
        expected = model(**given).logits[:, -1]
        embeds, places = held.embeds(held.tokens(question, images), torch.device("cpu"))
        found = held._logits(held.encoder.transformer.model(None, embeds=embeds, **places)[0])[:, -1]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    answer = held.answer(question, images, Sampling(3))
    assert answer.asked == given["input_ids"].shape[1]


def test_a_text_encoder_that_is_loaded_already_plans_without_a_second_load(pair):
    """Of a Qwen2.5-VL CLIPLoader leaves the output head in the file: only that is read, and nothing is changed."""
    kind, _, held = pair
    shown = picture((252, 140), SPECS[kind])
    with tiny.tiny_host(kind):
        clip = comfy.sd.load_clip([str(held.file)], clip_type=comfy.sd.CLIPType.QWEN_IMAGE)
    before = {name: value.data_ptr() for name, value in clip.cond_stage_model.state_dict().items()}
    shared = host.from_clip(clip)
    assert shared.clip is clip
    assert shared.answer(QUESTION, [shown], Sampling(TOKENS)) == held.answer(QUESTION, [shown], Sampling(TOKENS))
    assert len(shared.patchers) == (2 if kind == "qwen2_5_vl" else 1)
    assert all(patcher in management.loaded_models() for patcher in shared.patchers)
    assert before == {name: value.data_ptr() for name, value in clip.cond_stage_model.state_dict().items()}


def test_a_qwen3_vl_whose_head_is_its_embeddings_answers_as_in_transformers():
    """The one of 4B; it also comes as the text encoder of other models, so it is tried as one."""
    model = tiny.make("qwen3_vl", tied=True)
    with tiny.tiny_host("qwen3_vl"):
        held = host.from_clip(tiny.tied_clip(model))
    shown = picture((252, 140), QWEN3_VL)
    given = library_inputs("qwen3_vl", held, QUESTION, shown)
    written = model.generate(**given, max_new_tokens=TOKENS, do_sample=False, eos_token_id=[151643, 151645])
    wanted = held._tokenizer.decode(
        written[0, given["input_ids"].shape[1] :],
        skip_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    assert held.answer(QUESTION, [shown], Sampling(TOKENS)).text == wanted.strip() != ""
    assert len(held.patchers) == 1


def test_a_file_in_fp8_computes_with_its_scales(tmp_path):
    """Against the numbers that it stands for, its output head included."""
    model = tiny.make("qwen2_5_vl", words=FEW)
    file, meant = tiny.scaled_fp8_file(model, tmp_path / "fp8.safetensors")
    with tiny.tiny_host("qwen2_5_vl", FEW):
        held = host.load(file, "default", "default")
        shared = host.from_clip(comfy.sd.load_clip([str(file)], clip_type=comfy.sd.CLIPType.QWEN_IMAGE))
    torch.testing.assert_close(shared._head.model[0].weight.float(), meant["lm_head.weight"], atol=0, rtol=0.02)
    makers = {
        name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name: value
        for name, value in meant.items()
    }
    makers = {f"model.{name}" if name.startswith("visual.") else name: value for name, value in makers.items()}
    model.load_state_dict(makers)
    ids = torch.arange(5, 25)[None]
    management.load_models_gpu(held.patchers)
    with torch.no_grad():
        found = held._logits(held._model(ids, dtype=torch.float32)[0])[:, -1].float()
        expected = model(input_ids=ids).logits[:, -1]
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert type(held._model.layers[0].mlp.up_proj.weight).__name__ == "QuantizedTensor"


@pytest.mark.parametrize("kind", KINDS)
def test_weights_become_fp8_when_asked_and_compute_with_what_they_stand_for(kind, tmp_path):
    model = tiny.make(kind, words=FEW)
    file = tiny.single_file(model, tmp_path / "whole.safetensors")
    with tiny.tiny_host(kind, FEW):
        held, exact = host.load(file, "fp8", "default"), host.load(file, "fp32", "default")
    matrices = [layer.mlp.up_proj.weight for layer in held._model.layers] + [held._model.lm_head.weight]
    assert {type(weight).__name__ for weight in matrices} == {"QuantizedTensor"}
    assert held.clip.patcher.model_size() < 0.5 * exact.clip.patcher.model_size()
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and (".layers." in name or name == "lm_head"):
                weight = module.weight.bfloat16().float()
                scale = weight.abs().max() / 448
                module.weight.data = (weight / scale).to(torch.float8_e4m3fn).float() * scale
                module.bias = None if module.bias is None else torch.nn.Parameter(module.bias.bfloat16().float())
            elif hasattr(module, "weight") and isinstance(module.weight, torch.nn.Parameter):
                module.weight.data = module.weight.bfloat16().float()
        ids = torch.arange(5, 25)[None]
        management.load_models_gpu(held.patchers)
        found = held._logits(held._model(ids, dtype=torch.float32)[0])[:, -1].float()
        expected = model(input_ids=ids).logits[:, -1]
        unchanged = exact._logits(exact._model(ids, dtype=torch.float32)[0])[:, -1]
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=0)
    assert 0.05 < (unchanged - expected).abs().max() < 0.5 * unchanged.std() * 4  # less exact, and still that model


def test_fp8_of_a_folder_that_transformers_reads_is_refused(tmp_path):
    folder = tiny.save(tiny.make("qwen2_5_vl", words=FEW), tmp_path / "small")
    with pytest.raises(PlanError, match="'small' is read by transformers.*set dtype to 'bf16'"):
        choose.load_planner(folder, "fp8")


def test_a_text_encoder_that_cannot_plan_says_why(tmp_path, load_tiny):
    headless = tiny.single_file(
        tiny.make("qwen2_5_vl", words=FEW), tmp_path / "headless.safetensors", without="lm_head"
    )
    with tiny.tiny_host("qwen2_5_vl", FEW):
        clip = comfy.sd.load_clip([str(headless)], clip_type=comfy.sd.CLIPType.QWEN_IMAGE)
    with pytest.raises(PlanError, match="without its output head.*lm_head.weight"):
        host.from_clip(clip)
    with pytest.raises(PlanError, match="CLIPTextModel, which cannot plan; connect a Qwen2.5-VL or Qwen3-VL"):
        host.from_clip(load_tiny("clip_l"))


@pytest.mark.parametrize(
    ("kind", "without", "says"),
    [
        ("qwen2_5_vl", "lm_head", "no output head"),
        ("qwen2_5_vl", "model.visual", "without its vision tower"),
        ("qwen2_5_vl", "model.language_model", "is not a Qwen2.5-VL or Qwen3-VL model"),
        ("qwen2_5_vl", "model.language_model.layers.1", "weights are not in 'broken.safetensors'"),
        ("qwen3_vl", "lm_head", "no output head"),
        ("qwen3_vl", "model.visual.blocks.3", "weights are not in 'broken.safetensors'"),
    ],
)
def test_a_file_that_lacks_something_is_refused_by_name(kind, without, says, tmp_path):
    file = tiny.single_file(tiny.make(kind, words=FEW), tmp_path / "broken.safetensors", without)
    with tiny.tiny_host(kind, FEW), pytest.raises(PlanError, match=says):
        host.load(file, "default", "default")


def test_a_size_that_the_host_has_no_class_for_is_refused_by_its_width(tmp_path):
    file = tiny.single_file(tiny.make("qwen2_5_vl", words=FEW), tmp_path / "small.safetensors")
    with pytest.raises(PlanError, match=r"Qwen2.5-VL of width 512; ComfyUI has classes for 7B \(width 3584\) only"):
        host.load(file, "default", "default")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["layers.1.mlp.up_proj", "visual.blocks.0.attn.proj"])
def test_weights_of_another_shape_are_refused(kind, part, tmp_path):
    from safetensors.torch import save_file

    state = dict(tiny.make(kind, words=FEW).state_dict())
    name = next(name for name in state if f"{part}.weight" in name)
    state[name] = state[name][: len(state[name]) // 2]
    file = tmp_path / "broken.safetensors"
    save_file({key: value.clone().contiguous() for key, value in state.items()}, file)
    with tiny.tiny_host(kind, FEW), pytest.raises(PlanError, match="'broken.safetensors' .*size mismatch"):
        host.load(file, "default", "default")


def test_a_quantised_file_keeps_its_numbers(tmp_path):
    from safetensors.torch import save_file

    state = {
        **tiny.make("qwen2_5_vl", words=FEW).state_dict(),
        "model.language_model.layers.0.mlp.up_proj.weight_scale": torch.ones(()),
    }
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "fp8.safetensors")
    with (
        tiny.tiny_host("qwen2_5_vl", FEW),
        pytest.raises(PlanError, match="is quantised and keeps its own numbers; set dtype to 'default'"),
    ):
        host_weights.read_state(tmp_path / "fp8.safetensors", "bf16")


def test_only_the_sizes_of_the_hosts_classes_go_to_them():
    seven = {"model_type": "qwen2_5_vl", "hidden_size": 3584, "num_hidden_layers": 28}
    assert host_weights.host_takes(seven)
    assert host_weights.host_takes(
        {"model_type": "qwen3_vl", "text_config": {"hidden_size": 2560, "num_hidden_layers": 36}}
    )
    assert not host_weights.host_takes({**seven, "hidden_size": 2048})
    assert not host_weights.host_takes({**seven, "quantization_config": {"quant_method": "awq"}})
    assert not host_weights.host_takes({"model_type": "gemma3", "hidden_size": 3584, "num_hidden_layers": 28})


def test_a_download_that_broke_off_is_named(tmp_path):
    folder = tiny.save(tiny.make("qwen2_5_vl", words=FEW), tmp_path / "model", shards=3)
    shards = files.weight_files(folder)
    whole = shards[-1].read_bytes()
    shards[-1].write_bytes(whole[:-100])
    with pytest.raises(
        PlanError,
        match=f"'{shards[-1].name}' is not complete.* it has {len(whole) - 100} bytes of {len(whole)}",
    ):
        files.weight_files(folder)
    shards[-1].unlink()
    with pytest.raises(
        PlanError,
        match=f"1 of {len(shards)} weights files of 'model' are missing, the first is {shards[-1].name}",
    ):
        files.weight_files(folder)

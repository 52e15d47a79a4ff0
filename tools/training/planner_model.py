"""The toy world's planner: a small Qwen2.5-VL with its own tokenizer; its folder, written and read.

    python tools/training/planner_model.py --folder out/toyworld_planner
    python tools/training/planner_model.py --folder out/so_far --run out/planner     a training so far

RePlan Load Planner reads that folder. A patch is 8 x 8 pixels and a token of an image 16 x 16, so a scene of 128 x 128
is seen at its own size, as 64 tokens, and a box is written in the scene's own pixels. Every text can be written (the
tokenizer goes down to bytes). The words of the toy world, each number up to 128 and what stands between the parts of
every plan are a token each: a reply of one region is some fifteen steps long instead of sixty.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load

if not __package__:  # run as a script
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from bench import import_pack

    import_pack()

from replan.planner.plan import KEEP_UNCHANGED
from replan.tools.toyworld.drawing import COLOURS, PATTERNS, SHAPES
from replan.tools.toyworld.edits import TEMPLATES
from replan.tools.toyworld.requests import WHICH
from replan.tools.training import planner_vocabulary as vocabulary
from replan.tools.training.run import CHECKPOINT, TrainingError, submodule_weights, weights_of

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
END, TURN_START, TURN_END, VISION_START, VISION_END, IMAGE, VIDEO = range(len(SPECIAL))
PATCH, MERGE = 8, 2
PIECES = 451  # pieces that the tokenizer learns: each word of the toy world becomes one
LARGEST_NUMBER = 128  # the highest number that is one token; it brings the bracket or comma before it along
NUMBERS = tuple(f"{mark}{number}" for mark in ("[", ", ") for number in range(LARGEST_NUMBER + 1))
PHRASES = (
    f'<gen_image>{KEEP_UNCHANGED}</gen_image><region>[{{"bbox_2d": ', '], "hint": "', '"}, {"bbox_2d": ',
    '"}]</region>',
)  # fmt: skip
SMALLEST, LARGEST = 64 * 64, 512 * 512  # pixels of the image it sees
# Turns between marks, the image where the conversation has it; no system message of its own.
CHAT = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}{{ '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
CHECKPOINT_FILE = "model.safetensors"  # of a folder that transformers wrote
TOKENIZER_FILE = "tokenizer.json"
EMBEDDING = "model.embed_tokens.weight"
_EMBEDDING = "model.language_model.embed_tokens.weight"  # as the model itself calls it
OUTPUT_HEAD = "lm_head.weight"  # the family ties it to the embedding, so a file leaves it out


class Sizes(NamedTuple):
    """Widths and depths; the default has about five million parameters."""

    width: int = 256
    layers: int = 5
    heads: int = 4
    key_heads: int = 2
    inner: int = 640
    vision_width: int = 128
    vision_layers: int = 4
    vision_heads: int = 4
    vision_inner: int = 384
    pieces: int = PIECES
    more: int = 0  # words and phrases of the lessons

    @property
    def tokens(self) -> int:
        return self.pieces + len(NUMBERS) + len(PHRASES) + self.more


def make_tokenizer(pieces: int = PIECES, lessons: bool = False):
    """A byte-level tokenizer with the words of the toy world and of plans; the same for the same number of `pieces`.

    Behind its `pieces` lie NUMBERS, then PHRASES. lessons: behind them the words and phrases of all lessons, with the
    pack's templates (planner_vocabulary.py); what the smaller one reads keeps its tokens.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # A word with the space before it, one digit, or other signs: tags and JSON stay apart from what they hold.
    split = Regex(r" ?[A-Za-z]+|\d| ?[^\sA-Za-z\d]+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(split, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=pieces, special_tokens=[AddedToken(word, special=True) for word in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(_texts(), trainer)
    if tokenizer.get_vocab_size() != pieces:
        raise ValueError(f"the toy world's words give {tokenizer.get_vocab_size()} pieces, not {pieces}")
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*NUMBERS, *PHRASES)])
    if lessons:
        # What the first texts hold stays as it was learnt, in one piece or in several.
        first = {word for text in _texts() for word in vocabulary.words_in(text)}
        first |= {f" {form.split()[0]}" for forms in TEMPLATES.values() for form in forms}
        more = [word for word in vocabulary.words() if word not in first]
        tokenizer = vocabulary.with_more(tokenizer, more, vocabulary.phrases())
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[TURN_END], pad_token=SPECIAL[END],
        additional_special_tokens=list(SPECIAL[1:]),
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": SPECIAL[IMAGE], "video_token": SPECIAL[VIDEO]},
    )  # fmt: skip


def _texts():
    """What the tokenizer learns its words from: every sentence form with every thing, at both ends of a sentence."""
    yield from ("user", "assistant")
    things = [f"{colour} {shape}" for colour, shape in itertools.product(COLOURS, (*SHAPES, "object"))]
    forms = [form for forms in TEMPLATES.values() for form in forms]
    values = (*COLOURS, *SHAPES, *PATTERNS)
    for number, thing in enumerate(things):
        for form in forms:
            for which in ("the", "every", *(f"the {word}" for word in WHICH)):
                yield form.format(which=f"{which} {thing}", value=values[number % len(values)]) + " and"


def make_processor(tokenizer=None):
    """Tokenizer (default: without the lessons), image sizes and chat template together, as a Qwen2.5-VL processor."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    sizes = {
        "patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2,
        "size": {"shortest_edge": SMALLEST, "longest_edge": LARGEST},
    }  # fmt: skip
    return Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**sizes),
        tokenizer or make_tokenizer(),
        Qwen2VLVideoProcessor(**sizes),
        chat_template=CHAT,
    )


def make_model(seed: int = 0, sizes: Sizes = Sizes()):  # noqa: B008  a NamedTuple is immutable
    """The model with random weights from `seed`, in fp32, without touching any global generator's state."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    half = sizes.width // sizes.heads // 2
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": sizes.tokens, "hidden_size": sizes.width, "intermediate_size": sizes.inner,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads, "num_key_value_heads": sizes.key_heads, "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1000.0, "mrope_section": _interleaved_sections(half),
            },
            "bos_token_id": END, "eos_token_id": TURN_END, "pad_token_id": END, "tie_word_embeddings": True,
        },
        vision_config={
            "depth": sizes.vision_layers, "hidden_size": sizes.vision_width, "intermediate_size": sizes.vision_inner,
            "num_heads": sizes.vision_heads, "patch_size": PATCH, "spatial_merge_size": MERGE, "temporal_patch_size": 2,
            # No windows: they would cut objects in two, and a scene has 256 patches only.
            "window_size": 4 * PATCH * MERGE, "fullatt_block_indexes": list(range(sizes.vision_layers)),
            "out_hidden_size": sizes.width,
        },
        image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=VISION_START, vision_end_token_id=VISION_END,
        tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    _order_numbers(model.get_input_embeddings().weight, sizes.pieces)
    model.generation_config.update(eos_token_id=[TURN_END, END], pad_token_id=END, do_sample=False)
    return model.eval()


def _interleaved_sections(half: int) -> list[int]:
    """Which of the rotary frequencies tell time, row and column: one each in turn, from the fastest to the slowest.

    The family gives rows the middle and columns the slowest ones, which do not turn at all over the eight columns of a
    scene: left could not be told from right. With a base so small that they turn, nothing is left that stands still, by
    which a word can find the token of its colour wherever it lies. transformers takes a list of any length in turns of
    three; older releases lay two of them end to end.
    """
    return [1] * half + [0] * (-half % 3)


def _order_numbers(words: torch.Tensor, first: int) -> None:
    """Begin with neighbouring numbers alike: waves over half of their dimensions, which need not be learnt then."""
    waves = words.shape[1] // 4
    angles = (
        torch.arange(LARGEST_NUMBER + 1)[:, None]
        * math.pi
        / LARGEST_NUMBER
        * torch.logspace(0, math.log2(LARGEST_NUMBER / 8), waves, 2)
    )
    ordered = torch.cat([angles.cos(), angles.sin()], 1) * words.std() * 2
    with torch.no_grad():
        for start in (first, first + LARGEST_NUMBER + 1):
            words[start : start + LARGEST_NUMBER + 1, : 2 * waves] = ordered


def save(model, processor, folder: Path, dtype: torch.dtype = torch.float16) -> Path:
    """Write the weights in `dtype` (one .safetensors file), config, tokenizer, processor and chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: value.dtype for name, value in model.named_parameters()}
    model.to(dtype).save_pretrained(folder)
    model.to(next(iter(kept.values())))
    processor.save_pretrained(folder)
    return folder


def lesson_processor():
    """The processor of a planner that learns all lessons."""
    return make_processor(make_tokenizer(lessons=True))


def lesson_sizes(tokenizer) -> Sizes:
    """The planner's sizes with as many tokens as a tokenizer has."""
    return Sizes(more=len(tokenizer) - Sizes().tokens)


def planner_weights(place: Path, average: bool = False) -> dict[str, torch.Tensor]:
    """The planner's weights in fp32: of a run's folder (`average`: the ones it would publish) or of a written one.

    With however many words and phrases it knows. Raises TrainingError for a folder that is neither, or whose weights
    are cut off or of another model.
    """
    if (place / CHECKPOINT).is_file():
        found = submodule_weights(weights_of(place, average), "planner")
    else:
        try:
            written = load((place / CHECKPOINT_FILE).read_bytes())
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"{place} holds no planner ({type(error).__name__}: {error}); "
                f"name a run's folder with {CHECKPOINT}, or a planner's with {CHECKPOINT_FILE}"
            ) from None
        head = {OUTPUT_HEAD: written[EMBEDDING]} if EMBEDDING in written else {}
        found = {_module_name(name): value.float() for name, value in {**head, **written}.items()}
    model = make_model(sizes=_sizes_of(found))
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    given = {name: getattr(value, "shape", None) for name, value in found.items()}
    if wanted != given:
        name = next(name for name in {**wanted, **given} if wanted.get(name) != given.get(name))
        raise TrainingError(
            f"{place} is of another model than planner_model.py makes: {name} is {_shape_text(given.get(name))}, "
            f"wanted {_shape_text(wanted.get(name))}"
        )
    return found


def load_planner(place: Path):
    """The model with the weights that a run would publish, or has published; ready to plan."""
    weights = planner_weights(place, average=True)
    model = make_model(sizes=_sizes_of(weights))
    model.load_state_dict(weights)
    return model.eval()


def load_processor(place: Path):
    """The processor of a written folder, or the one that a run's planner is taught with."""
    if not (place / TOKENIZER_FILE).is_file():
        return lesson_processor()
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(str(place), local_files_only=True)


def start_weights(place: Path, processor) -> dict[str, torch.Tensor]:
    """A planner's weights to go on from with the tokenizer of `processor`; as `planner_weights`."""
    weights = planner_weights(place)
    if (place / TOKENIZER_FILE).is_file():
        known = load_processor(place).tokenizer
        return vocabulary.moved_weights(weights, known, processor.tokenizer, (_EMBEDDING, OUTPUT_HEAD))
    if len(weights[_EMBEDDING]) != len(processor.tokenizer):
        raise TrainingError(
            f"{place} is of a run with {len(weights[_EMBEDDING])} tokens and there are {len(processor.tokenizer)} now; "
            "start from the planner's folder that the run has written, which says what its tokens are"
        )
    return weights


def _sizes_of(weights: dict[str, torch.Tensor]) -> Sizes:
    """The planner's sizes with as many tokens as the weights have rows for."""
    tokens = len(weights[_EMBEDDING]) if _EMBEDDING in weights else 0
    return Sizes(more=max(0, tokens - Sizes().tokens))


def _module_name(name: str) -> str:
    """What the model itself calls a weight; transformers writes the names of the family's published files."""
    if name.startswith("model."):
        return name.replace("model.", "model.language_model.", 1)
    return f"model.{name}" if name.startswith("visual.") else name


def _shape_text(shape) -> str:
    return "not there" if shape is None else " x ".join(map(str, shape))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("out/toyworld_planner"), help="where to write")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    parser.add_argument("--run", type=Path, help="take the averaged weights of this training's folder instead")
    args = parser.parse_args()
    processor = lesson_processor()
    if args.run:
        try:
            model = load_planner(args.run)
        except TrainingError as error:
            sys.exit(f"planner_model.py: {error}")
    else:
        model = make_model(args.seed, lesson_sizes(processor.tokenizer))
    save(model, processor, args.folder)
    count = sum(value.numel() for value in model.parameters())
    size = sum(file.stat().st_size for file in args.folder.iterdir())
    print(f"{args.folder}: {count / 1e6:.1f} million parameters, {size / 2**20:.1f} MiB in all")


if __name__ == "__main__":
    main()

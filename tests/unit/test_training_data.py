"""What a planner is trained on: every form of records to conversations, and what is left out, counted and said."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from replan.planner.asking.templates import LAYOUTS, load_template
from replan.planner.models.interface import spec_of
from replan.tools.batches.items import BatchError
from replan.tools.iv_edit.parquet import python_with_pyarrow
from replan.tools.iv_edit.records import Source
from replan.tools.training.data import (
    FILTERED,
    TOO_LONG,
    UNUSABLE,
    Asking,
    load_training,
    main,
    token_counter,
)
from replan.tools.training.rewards import UnknownTask, compute_score_unified

ROOT = Path(__file__).resolve().parents[2]
PLANNER = ROOT / "tools" / "toyworld" / "weights" / "toyworld_planner"


def draw(folder: Path, *names: str, size=(112, 56)) -> None:
    for name in names:
        Image.new("RGB", size, (90, 40, 20)).save(folder / name)


def table(folder: Path, *rows: dict) -> Source:
    file = folder / "records.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Source(file)


def iv_edit(number: int, image="a.png", **more) -> dict:
    """A record of IV-Edit's training set, its details nested as the published rewards read them."""
    details = {"editing_instruction": f"make cup {number} red", "referring_expression": f"cup {number}"}
    extra = {"image_id": number, "instruction_details": details, **more}
    return {"image": image, "prompt": f"make cup {number} red", "answer": "", "extra_info": json.dumps(extra)}


def reply(box) -> str:
    regions = json.dumps([{"bbox_2d": box, "hint": "a red cup"}])
    think = "The cup stands on the left; it turns red and all else stays as it is."
    return f"<think>{think}</think><gen_image>keep all else unchanged</gen_image><region>{regions}</region>"


def test_iv_edits_training_records_become_conversations(tmp_path):
    draw(tmp_path, "a.png")
    loaded = load_training(table(tmp_path, iv_edit(7), iv_edit(8)), "edit_region_planning")
    first, second = loaded.records
    assert load_training(table(tmp_path, iv_edit(7), iv_edit(8)), "edit_region_planning", limit=1).records == [first]
    assert (first.number, first.id, second.number, second.id) == (0, "7", 1, "8")
    assert (first.image, first.counts_in) == (tmp_path / "a.png", (112, 56))
    (turn,) = first.messages
    image, text = turn["content"]
    assert (turn["role"], image, text["type"]) == ("user", {"type": "image"}, "text")
    assert text["text"].startswith("You plan edits of an image.") and text["text"].endswith("\nmake cup 7 red")
    assert "112 pixels wide and 56 pixels high" in text["text"]
    given = first.reward_input("x")
    assert given["extra_info"]["instruction_details"]["referring_expression"] == "cup 7"
    assert str(loaded).endswith("left out: none")


def test_a_record_is_rewarded_for_its_own_image(tmp_path):
    draw(tmp_path, "a.png")
    (record,) = load_training(table(tmp_path, iv_edit(7)), "text_refinement_edit").records
    inside, outside = compute_score_unified(
        [record.reward_input(reply(box)) for box in ([2, 2, 20, 20], [130, 2, 150, 9])]
    )
    assert inside.total == pytest.approx(0.905)
    assert outside.parts["region"] == pytest.approx(-0.5)


def test_a_row_for_trl_has_its_columns(tmp_path):
    draw(tmp_path, "a.png")
    row = load_training(table(tmp_path, iv_edit(7)), "text_refinement_edit").records[0].row()
    assert row["prompt"][0]["role"] == "user" and row["image"] == str(tmp_path / "a.png")
    assert row["task_name"] == "text_refinement_edit" and "messages" not in row
    assert json.loads(json.dumps(row))["number"] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_image_goes_where_the_layout_has_it(layout, tmp_path):
    draw(tmp_path, "a.png")
    loaded = load_training(table(tmp_path, iv_edit(7)), "text_refinement_edit", Asking(layout=layout))
    kinds = [(turn["role"], [part["type"] for part in turn["content"]]) for turn in loaded.records[0].messages]
    assert (
        kinds
        == {
            "inference": [("user", ["image", "text"])],
            "training": [("user", ["text", "image", "text"])],
            "system": [("system", ["text"]), ("user", ["image", "text"])],
        }[layout]
    )


WRITE = """
import json, sys
import pyarrow as pa, pyarrow.parquet
row = json.loads(sys.argv[1])
row["image"] = {"bytes": open(row["image"], "rb").read(), "path": None}
pa.parquet.write_table(pa.Table.from_pylist([row]), sys.argv[2])
"""


@pytest.mark.full
def test_parquet_is_read_as_it_is_published(tmp_path):
    """By a Python with pyarrow, made on first use."""
    draw(tmp_path, "a.png")
    row = iv_edit(7, str(tmp_path / "a.png"))
    command = [python_with_pyarrow(), "-c", WRITE, json.dumps(row), tmp_path / "train-00000.parquet"]
    subprocess.run(command, check=True)
    loaded = load_training(Source(tmp_path, unpacked=tmp_path / "out", split="train"), "text_refinement_edit")
    assert (loaded.records[0].id, loaded.records[0].image.suffix) == ("7", ".png")


def test_photos_with_a_text_beside_each_train_stage_2(tmp_path):
    draw(tmp_path, "b.png", "a.png")
    (tmp_path / "a.txt").write_text("make it night", encoding="utf-8")
    loaded = load_training(Source(tmp_path), "edit_region_planning")
    assert [record.instruction for record in loaded.records] == ["make it night"]
    assert [(one.kind, one.why) for one in loaded.refused] == [(UNUSABLE, "b.txt, its instruction, is not there")]


def found(folder: Path, solution, size=(120, 60)):
    draw(folder, "a.png", size=size)
    return table(folder, {"id": "v", "problem": "the cups", "solution": solution, "image": "a.png"})


def test_detection_records_count_as_the_model_sees_the_image(tmp_path):
    """120x60 is seen as 112x56; the published training compares with pixels of the file."""
    objects = json.dumps([{"bbox_2d": [15, 15, 30, 30], "point_2d": [60, 30], "label": "cup"}])
    (record,) = load_training(found(tmp_path, objects), "detection").records
    assert json.loads(record.answer) == [{"bbox_2d": [14, 14, 28, 28], "point_2d": [56, 28], "label": "cup"}]
    assert record.messages[0]["content"][1]["text"].endswith("\nthe cups")
    relative = Asking(spec=spec_of("qwen3_vl"), most_pixels=10**6)
    (record,) = load_training(found(tmp_path, objects), "detection", relative).records
    assert json.loads(record.answer)[0]["bbox_2d"] == [125, 250, 250, 500]
    assert record.counts_in == (1000, 1000)


@pytest.mark.parametrize(
    "solution",
    [
        "",
        "the left one",
        "{}",
        "[7]",
        '[{"label": "cup"}]',
        '[{"bbox_2d": [1, 2]}]',
        "7",
        # The reward would end a training by these.
        '[{"bbox_2d": [30, 30, 10, 10]}]',
        '[{"bbox_2d": [5, 5, 5.2, 9]}]',
        '[{"bbox_2d": [true, "2", 30, 40]}]',
        '[{"bbox_2d": [1, 2, 30, NaN]}]',
        '[{"bbox_2d": [1, 2, 3e300, 40]}]',
    ],
)
def test_a_detection_record_without_objects_is_left_out(solution, tmp_path):
    with pytest.raises(BatchError, match="is no list of objects with bbox_2d"):
        load_training(found(tmp_path, solution), "detection")
    nothing = load_training(found(tmp_path, "[]"), "detection").records[0]
    assert nothing.answer == "[]"


def test_what_is_left_out_is_counted_and_said(tmp_path):
    draw(tmp_path, "a.png", "cut.png")
    draw(tmp_path, "long.png", size=(4000, 10))
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-30])
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    outside = tmp_path.parent / "outside.png"
    Image.new("RGB", (8, 8)).save(outside)
    rows = [
        iv_edit(1), iv_edit(1), iv_edit(2, status="filtered"), iv_edit(3, status="filtered"), iv_edit(4, ""),
        iv_edit(5, "gone.png"), iv_edit(6, "cut.png"), iv_edit(7, "text.png"), iv_edit(8, "../outside.png"),
        iv_edit(9, str(outside)), iv_edit(10, "long.png"), {**iv_edit(11), "prompt": "x" * 20_000},
        {**iv_edit(12), "prompt": {"text": "red"}}, {**iv_edit(13), "prompt": True},
    ]  # fmt: skip
    loaded = load_training(table(tmp_path, *rows), "text_refinement_edit")
    assert [record.id for record in loaded.records] == ["1"]
    why = {one.row: one.why for one in loaded.refused}
    assert why[2] == "row 1 has the id '1' already"
    assert [one.row for one in loaded.refused if one.kind == FILTERED] == [3, 4]
    assert why[5] == "it has no image"
    assert "is not there" in why[6]
    assert "cut.png cannot be read as an image" in why[7]
    assert "is no image" in why[8]
    assert "lies outside of" in why[9] and "lies outside of" in why[10]
    assert "200" in why[11]
    assert "20000 characters" in why[12]
    assert "its instruction is no text but" in why[13] and "'true'" in why[14]
    said = str(loaded)
    assert "1 records of" in said and "2 marked as filtered" in said and "11 that cannot be used" in said
    assert "cut.png cannot be read as an image (image file is truncated" in said
    assert "row 3" not in said  # upstream leaves them out too; their number is enough


def test_nothing_to_train_on_and_an_unknown_task_are_errors(tmp_path):
    with pytest.raises(BatchError, match="nothing to train on.*1 marked as filtered"):
        load_training(table(tmp_path, iv_edit(2, status="filtered")), "text_refinement_edit")
    with pytest.raises(UnknownTask, match="'edit' has no reward"):
        load_training([], "edit")
    with pytest.raises(BatchError, match="the layout is one of"):
        load_training([], "text_refinement_edit", Asking(layout="below"))


def test_an_image_lies_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    Image.new("RGB", (112, 56)).save(tmp_path / "a.jpg", exif=exif)
    (record,) = load_training(table(tmp_path, iv_edit(7, "a.jpg")), "text_refinement_edit").records
    assert record.counts_in == (56, 112)


def test_16_bits_a_colour_are_8_as_comfyui_loads_them(tmp_path):
    Image.fromarray(np.full((56, 112), 25_700, np.uint16)).save(tmp_path / "a.png")
    (record,) = load_training(table(tmp_path, iv_edit(7)), "text_refinement_edit").records
    assert record.opened().getpixel((0, 0)) == (100, 100, 100)


def test_prompts_that_are_too_long_are_left_out_by_the_models_own_count(tmp_path):
    """The processor of the toy world's planner: 128 x 128 pixels are 64 tokens of the prompt."""
    transformers = pytest.importorskip("transformers")
    processor = transformers.AutoProcessor.from_pretrained(PLANNER)
    draw(tmp_path, "a.png", "b.png", size=(128, 128))
    short, long = iv_edit(1), {**iv_edit(2, "b.png"), "prompt": "make the red square left of the star blue " * 40}
    template = Asking(load_template("own", "Plan the edit."))
    count = token_counter(processor)
    both = load_training(table(tmp_path, short, long), "text_refinement_edit", template, count_tokens=count)
    counts = [count(record) for record in both.records]
    assert 64 < counts[0] < counts[1]
    loaded = load_training(
        table(tmp_path, short, long), "text_refinement_edit", template, count_tokens=count, longest=counts[0]
    )
    assert [record.id for record in loaded.records] == ["1"]
    (left_out,) = loaded.refused
    assert left_out.kind == TOO_LONG and f"has {counts[1]} tokens" in left_out.why
    assert "1 with a prompt that is too long" in str(loaded)


def test_the_command_writes_what_would_be_taken(tmp_path, capsys):
    draw(tmp_path, "a.png")
    source = table(tmp_path, iv_edit(7), iv_edit(8, status="filtered"))
    assert main([str(source.path), "--out", str(tmp_path / "out"), "--limit", "5"]) == 0
    assert "1 records of" in capsys.readouterr().out
    (line,) = (tmp_path / "out" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["id"] == "7"
    assert main([str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--limit", "0"), "a whole number from 1"),
        (("--limit", "-1"), "a whole number from"),
        (("--longest", "0"), "a whole number from 1"),
        (("--most-pixels", "0"), "a whole number from 1"),
        (("--model-type", "llama"), "invalid choice"),
        (("--template", "binary.txt"), "--template binary.txt cannot be read: it is no UTF-8 text"),
        (("--template", "none.txt"), "--template none.txt cannot be read: No such file"),
        (("--processor", "none"), "none has no processor that can be loaded (there is no such folder)"),
        (("--processor", "."), ". has no processor that can be loaded"),
        (("--out", "binary.txt"), "binary.txt"),
    ],
)
def test_arguments_that_cannot_be_used_end_with_one_sentence(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path, "a.png")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\0")
    source = table(tmp_path, iv_edit(7))
    try:
        status = main([str(source.path), "--out", "out", *arguments])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / "binary.txt").stat().st_size == 3

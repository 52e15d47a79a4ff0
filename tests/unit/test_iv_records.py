"""Records of every known form, and what is refused of them, with a reason."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from replan.tools.batches.items import BatchError
from replan.tools.iv_edit.forms import FORMS, form_of
from replan.tools.iv_edit.parquet import unpack
from replan.tools.iv_edit.records import Source, main, read_records, write_records

ROOT = Path(__file__).resolve().parents[2]


def draw(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 * number, 90, 20)).save(folder / name)


def lines(folder: Path, *rows: dict, name: str = "records.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def only(source: Source):
    (record,) = source
    assert not record.fault, record.fault
    return record


EXTRA = {
    "image_id": 17,
    "referring_expression": "the left cup",
    "task_type": "Replacement",
    "qwen_targets": [[1, 2, 5, 6]],
}
ROWS = {
    "records": {"id": "a", "name": "a", "image": "a.png", "instruction": "make it red", "task_type": "Add"},
    "iv_edit": {
        "image": "a.png", "prompt": "make it red", "answer": "<region>[]</region>", "extra_info": json.dumps(EXTRA),
        "image_id": 99,
    },
    "magicbrush": {
        "img_id": "123", "turn_index": 2, "source_img": "a.png", "mask_img": "b.png", "instruction": "make it red",
        "target_img": "c.png",
    },
    "emu_edit": {
        "instruction": "make it red", "image": "a.png", "task": "color", "split": "test", "idx": 5, "hash": "f0",
        "input_caption": "a cup", "output_caption": "a red cup", "edited_image": "c.png", "model": "emu",
    },
    "humanedit": {
        "IMAGE_ID": "u7", "EDITING_TYPE": "Replace", "CORE": 1, "MASK": 1, "EDITING_INSTRUCTION": "make it red",
        "OUTPUT_DESCRIPTION": "a red cup", "INPUT_IMG": "a.png", "MASK_IMG": "b.png", "OUTPUT_IMG": "c.png",
    },
    "editworld": {"instuction": "make it red", "original_img_path": "sets/x/a.png", "target_img_path": "sets/x/c.png"},
    "reason50k": {
        "id": "p-3", "category": "Physical", "src_image": "a.png", "tgt_image": "c.png", "instruction": "make it red",
        "target_caption": "a red cup", "objects": ["cup"],
    },
    "vision_reasoner": {
        "id": "v1", "problem": "make it red", "solution": '[{"bbox_2d": [1, 2, 5, 6]}]', "image": "a.png",
    },
    "photos": {"image": "a.png", "instruction": "make it red", "referring": "the cup"},
}  # fmt: skip
WANTED = {
    "records": {"id": "a", "task_type": "Add"},
    "iv_edit": {
        "id": "17", "referring": "the left cup", "answer": "<region>[]</region>", "task_type": "Replacement",
        "boxes": ((1.0, 2.0, 5.0, 6.0),),
    },
    "magicbrush": {"id": "123-2", "mask": "b.png", "target": "c.png"},
    "emu_edit": {"id": "5", "task_type": "color", "caption_after": "a red cup", "target": ""},
    "humanedit": {"id": "u7", "task_type": "Replace", "mask": "b.png", "target": "c.png", "caption_after": "a red cup"},
    "editworld": {"target": "c.png"},
    "reason50k": {"id": "p-3", "task_type": "Physical", "target": "c.png", "caption_after": "a red cup"},
    "vision_reasoner": {"id": "v1", "answer": '[{"bbox_2d": [1, 2, 5, 6]}]'},
    "photos": {"id": "a", "referring": "the cup"},
}  # fmt: skip


@pytest.mark.parametrize("form", ROWS)
def test_each_form_is_told_by_its_columns_and_read(form, tmp_path):
    draw(tmp_path, "a.png", "b.png", "c.png")
    source = Source(lines(tmp_path, ROWS[form]))
    assert source.name == form
    record = only(source)
    assert (record.instruction, Path(record.image)) == ("make it red", tmp_path / "a.png")
    for field, value in WANTED[form].items():
        found = getattr(record, field)
        assert (Path(found).name if field in ("mask", "target") and found else found) == value, field


def test_every_form_says_what_was_verified_and_is_tried_here():
    assert all(form.verified for form in FORMS.values())
    assert set(FORMS) == {*ROWS, "reasonedit"} and form_of(["x"]) == ""


def test_reasonedit_folders_pair_images_masks_and_lines_in_order(tmp_path):
    category = tmp_path / "1-Left-Right"
    draw(
        tmp_path,
        "1-Left-Right/001.png",
        "1-Left-Right/002.png",
        "1-Left-Right/001_mask.jpg",
        "1-Left-Right/002_mask.jpg",
    )
    (category / "Left_Right_text.txt").write_text(
        "Change the left cat CLIP: a dog\nRemove the right cat CLIP: grass\n", encoding="utf-8"
    )
    source = Source(tmp_path)
    first, second = source
    assert source.name == "reasonedit" and (first.id, second.id) == ("1-Left-Right-1", "1-Left-Right-2")
    assert (second.instruction, second.caption_after, second.task_type) == (
        "Remove the right cat", "grass", "1-Left-Right",
    )  # fmt: skip
    assert Path(second.image).name == "002.png" and Path(second.mask).name == "002_mask.jpg"
    draw(tmp_path, "1-Left-Right/003.png")
    with pytest.raises(BatchError, match="3 images and 2 lines"):
        Source(tmp_path)


def test_photos_with_a_text_beside_each_are_records(tmp_path):
    draw(tmp_path, "a.png", "a_test.JPG", "c.png")
    (tmp_path / "a.txt").write_text("\ufeffmake it red\n", encoding="utf-8")
    (tmp_path / "a_test.txt").write_text("make it blue", encoding="utf-8")
    (tmp_path / "c.txt").write_text("", encoding="utf-8")
    draw(tmp_path, "d.png")
    source = Source(tmp_path)
    first, second, empty, alone = source
    assert source.name == "photos"
    assert (first.instruction, Path(first.image).name, first.fault) == ("make it red", "a.png", "")
    assert (second.id, second.instruction) == ("a_test.JPG", "make it blue")
    assert empty.fault == "it has no instruction"
    assert alone.fault == "d.txt, its instruction, is not there"
    (tmp_path / "none").mkdir()
    with pytest.raises(BatchError, match="no parquet file; no images"):
        Source(tmp_path / "none")


def test_a_training_record_may_keep_its_instruction_in_its_details(tmp_path):
    draw(tmp_path, "a.png")
    details = {"editing_instruction": "make it red", "referring_expression": "the left cup"}
    extra = json.dumps({"image_id": 3, "instruction_details": details})
    record = only(Source(lines(tmp_path, {"image": "a.png", "prompt": "", "extra_info": extra})))
    assert (record.id, record.instruction, record.referring) == ("3", "make it red", "the left cup")


def test_editworld_objects_by_sample_name_give_the_ids(tmp_path):
    draw(tmp_path, "a.png", "c.png")
    file = tmp_path / "img_txt.json"
    file.write_text(json.dumps({"sample0": ROWS["editworld"]}), encoding="utf-8")
    assert only(Source(file)).id == "sample0"


def test_csv_and_fields_of_ones_own(tmp_path):
    draw(tmp_path, "a.png")
    with (tmp_path / "mine.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["number", "file", "what"], ["1", "a.png", "make it red, please"]])
    with pytest.raises(BatchError, match="number, file, what.*--field image=COLUMN"):
        Source(tmp_path / "mine.csv")
    source = Source(tmp_path / "mine.csv", columns={"id": "number", "image": "file", "instruction": "what"})
    assert (only(source).id, only(source).instruction) == ("1", "make it red, please")
    with pytest.raises(BatchError, match="no such field"):
        Source(tmp_path / "mine.csv", columns={"picture": "file"})


# ---- bad input


def bad(tmp_path, *rows, **options):
    draw(tmp_path, "a.png")
    return list(Source(lines(tmp_path, *({"image": "a.png", "instruction": "x", **row} for row in rows)), "records"))


def test_the_second_of_two_equal_ids_is_refused_and_names_the_first(tmp_path):
    first, second, third = bad(tmp_path, {"id": "x"}, {"id": "x"}, {"id": "y"})
    assert not first.fault and not third.fault and second.fault == "row 1 has the id 'x' already"


def test_ids_that_differ_by_case_alone_get_folders_that_differ(tmp_path):
    ids = [record.id for record in bad(tmp_path, {"id": "Cat"}, {"id": "cat"}, {"id": "CAT"})]
    assert len({one.casefold() for one in ids}) == 3 and ids[0] == "Cat"


@pytest.mark.parametrize("name", ["../up", "/up/down", "..\\..\\up", "C:\\x", "a\0b", "CON", "x" * 300, ".hidden"])
def test_an_id_that_is_no_folder_name_is_made_one_and_told(name, tmp_path):
    (record,) = bad(tmp_path, {"id": name})
    assert record.name == name and record.id != name and not record.fault
    assert len(record.id) <= 100 and not set(record.id) & set("/\\:\0") and not record.id.startswith(".")
    assert record.id in record.notes[0]


@given(st.lists(st.text(max_size=12), min_size=1, max_size=8))
def test_no_ids_share_a_folder_and_none_leaves_its_parent(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("ids")
    found = [one for one in bad(folder, *({"id": name} for name in names)) if not one.fault]
    assert len({one.id.casefold() for one in found}) == len(found)
    for one in found:
        assert (folder / one.id).resolve().parent == folder.resolve()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"image": "gone.png"}, "'gone.png' is not there"),
        ({"image": "../outside.png"}, "outside of.*--images"),
        ({"image": "/elsewhere/a.png"}, "outside of"),
        ({"image": "text.png"}, "is no image"),
        ({"image": "empty.png"}, "is empty"),
        ({"image": ""}, "no image"),
        ({"image": "a\0.png"}, "cannot be read"),
        ({"image": "x" * 5000}, "cannot be read"),
        ({"image": 7}, "is not there"),
        ({"instruction": "  "}, "no instruction"),
        ({"instruction": "gr\ufffdn"}, "not UTF-8"),
    ],
)
def test_a_record_that_cannot_be_used_says_why(row, said, tmp_path):
    inside = tmp_path / "set"
    draw(tmp_path, "outside.png", "set/a.png")
    (inside / "text.png").write_text("no image", encoding="utf-8")
    (inside / "empty.png").touch()
    (record,) = bad(inside, {"id": "1", **row})
    assert re.search(said, record.fault), record.fault


@pytest.mark.skipif(os.name == "nt", reason="needs rights there")
def test_a_link_out_of_the_folder_is_refused(tmp_path):
    draw(tmp_path, "outside.png", "set/a.png")
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "outside.png")
    (record,) = bad(tmp_path / "set", {"id": "1", "image": "link.png"})
    assert "outside of" in record.fault


def test_images_may_lie_elsewhere_when_the_user_says_so(tmp_path):
    draw(tmp_path, "photos/a.png")
    (tmp_path / "set").mkdir()
    file = lines(tmp_path / "set", {"id": "1", "name": "1", "image": "a.png", "instruction": "x"})
    assert only(Source(file, images=tmp_path / "photos")).image == str(tmp_path / "photos" / "a.png")


def test_a_mask_or_target_that_is_missing_is_left_out_and_told(tmp_path):
    (record,) = bad(tmp_path, {"id": "1", "mask": "gone.png", "boxes": [[5, 5, 1, 1]]})
    assert not record.fault and not record.mask and not record.boxes
    assert "boxes" in record.notes[0] and "mask 'gone.png' is not there" in record.notes[1]


def test_broken_lines_cells_and_filtered_records_leave_the_others_alone(tmp_path):
    draw(tmp_path, "a.png")
    good = json.dumps({**ROWS["iv_edit"], "extra_info": {"image_id": 1}})
    filtered = json.dumps({**ROWS["iv_edit"], "status": "filtered"})
    file = tmp_path / "t.jsonl"
    file.write_text(f'{{"image"\n[1]\n{good}\n{filtered}\n', encoding="utf-8")
    faults = [record.fault for record in Source(file)]
    assert "no JSON" in faults[0] and "no JSON object" in faults[1] and not faults[2] and "filtered" in faults[3]
    (tmp_path / "t.csv").write_text("id,name,image,instruction\n1,1,a.png,red, blue\n", encoding="utf-8")
    with pytest.raises(BatchError, match="no record that can be read: it has 5 cells"):
        Source(tmp_path / "t.csv")


@pytest.mark.parametrize("extra", ["{", "[]", '"text"', "null", "[[[[", "{}"])
def test_an_extra_info_that_is_none_falls_back_to_the_column(extra, tmp_path):
    draw(tmp_path, "a.png")
    record = only(Source(lines(tmp_path, {**ROWS["iv_edit"], "extra_info": extra})))
    assert record.id == "99" and not record.referring


def test_records_are_written_with_what_was_refused_and_read_back(tmp_path, capsys):
    draw(tmp_path, "a.png")
    rows = [{"id": "1", "name": "1", "image": "a.png", "instruction": "x"}] * 2
    rows.append({"id": "2", "name": "2", "image": "a.png", "instruction": "\ud800", "boxes": [[0, 0, 4, 4]]})
    used = write_records(Source(lines(tmp_path, *rows)), tmp_path / "run", say=print)
    assert read_records(tmp_path / "run") == used and [one.id for one in used] == ["1", "2"]
    assert "row 2, '1', is left out: row 1 has the id '1' already" in capsys.readouterr().out
    refused = (tmp_path / "run" / "records" / "refused.jsonl").read_text(encoding="utf-8")
    assert json.loads(refused)["row"] == 2
    with pytest.raises(BatchError, match="run records.py"):
        read_records(tmp_path / "other")
    assert list(Source(tmp_path / "run")) == used, "a run's records are a source again, as they are"
    assert write_records(Source(tmp_path / "run"), tmp_path / "run", 1) == used[:1]
    assert read_records(tmp_path / "run") == used


def test_the_command_says_what_is_wrong_in_one_line(tmp_path):
    command = [sys.executable, ROOT / "tools" / "iv_edit" / "records.py", tmp_path / "gone", "--out", tmp_path / "run"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 2 and done.stderr == f"records.py: {tmp_path / 'gone'}: there is no such file or folder\n"
    assert main([str(tmp_path), "--out", str(tmp_path), "--field", "x"]) == 2


# ---- parquet


WRITE = """
import json, pathlib, sys
import pyarrow as pa, pyarrow.parquet
rows = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
for row in rows:
    row["image"] = {"bytes": pathlib.Path(row["image"]).read_bytes(), "path": None}
pa.parquet.write_table(pa.Table.from_pylist(rows), sys.argv[2])
"""


@pytest.mark.full
def test_parquet_is_unpacked_once_with_its_images(tmp_path):
    from replan.tools.iv_edit import parquet

    draw(tmp_path, "a.png", "b.jpg")
    rows = [{**ROWS["iv_edit"], "image": str(tmp_path / name), "extra_info": json.dumps({"image_id": n})}
            for n, name in enumerate(("a.png", "b.jpg"))]  # fmt: skip
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    for name in ("test-0.parquet", "train-0.parquet"):
        command = [parquet.python_with_pyarrow(), "-c", WRITE, tmp_path / "rows.json", tmp_path / name]
        subprocess.run(command, check=True)
    source = Source(tmp_path, split="test", unpacked=tmp_path / "out")
    first, second = source
    assert source.name == "iv_edit" and (first.id, second.id) == ("0", "1")
    assert Path(first.image).read_bytes() == (tmp_path / "a.png").read_bytes() and second.image.endswith(".jpg")
    before = (tmp_path / "out" / "rows.jsonl").stat().st_mtime_ns
    unpack([tmp_path / "test-0.parquet"], tmp_path / "out")
    assert (tmp_path / "out" / "rows.jsonl").stat().st_mtime_ns == before
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(BatchError, match="cannot be read as parquet"):
        Source(tmp_path / "bad.parquet", unpacked=tmp_path / "bad")


# ---- what would be read wrong, or end the tool


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_line_breaks_of_any_kind_in_a_text_stay_in_it(tmp_path, sign):
    draw(tmp_path, "a.png")
    source = Source(lines(tmp_path, {"id": f"a{sign}b", "image": "a.png", "instruction": f"red{sign}blue"}))
    used = write_records(source, tmp_path / "run", say=lambda text: None)
    assert read_records(tmp_path / "run") == used and used[0].instruction == f"red{sign}blue"


@pytest.mark.parametrize("contents", [b"{half\n", b'"text"\n', b'{"name": "no id"}\n', b"\xff\xfe\n", b'{"boxes": 5}'])
def test_records_that_something_else_wrote_are_named_with_their_line(tmp_path, contents):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "records.jsonl").write_bytes(contents)
    with pytest.raises(BatchError, match=r"records\.jsonl"):
        read_records(tmp_path)


@pytest.mark.parametrize("image", [".", "/", "..", "", "./"])
def test_an_image_without_a_name_is_a_fault_of_its_row(tmp_path, image):
    draw(tmp_path, "a.png")
    rows = {"image": image, "instruction": "x"}, {"image": "a.png", "instruction": "x"}
    first, second = Source(lines(tmp_path, *rows))
    assert first.fault and first.id and not second.fault


@pytest.mark.parametrize("boxes", [[[10**400, 1, 2, 3]], 5, [[1, 2, 3]], [["a"] * 4], {"bbox": [1, 2, 3, 4]}, [None]])
def test_boxes_that_are_none_are_left_out_with_a_note(tmp_path, boxes):
    draw(tmp_path, "a.png")
    record = only(
        Source(lines(tmp_path, {"id": "a", "name": "a", "image": "a.png", "instruction": "x", "boxes": boxes}))
    )
    assert record.boxes == () and "left out" in record.notes[0]


def test_a_table_of_records_is_read_as_strictly_as_one_of_a_batch(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    file = tmp_path / "list.csv"
    file.write_text(' image , instruction \na.png,fine\nb.png,"never closed\na.png,x\n', encoding="utf-8")
    assert [bool(record.fault) for record in Source(file)] == [False, True]
    file.write_text("image,instruction,instruction\na.png,one,two\n", encoding="utf-8")
    with pytest.raises(BatchError, match="more than once"):
        Source(file)
    file.write_bytes("image,instruction\na.png,x\n".encode("utf-16"))
    with pytest.raises(BatchError, match="save it as UTF-8"):
        Source(file)

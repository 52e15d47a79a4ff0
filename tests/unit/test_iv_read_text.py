"""Which texts are wanted where, and when a text that was read is the one: what surrounds the reader of texts."""

import pytest
from PIL import Image
from replan.planner.plan import Region, RegionPlan
from replan.tools.iv_edit.read_text import Wanted, check, is_read, plan_for, wanted_texts
from replan.tools.iv_edit.records import Record

LEFT, RIGHT = (0.0, 0.0, 200.0, 100.0), (400.0, 300.0, 600.0, 400.0)


def plan_of(*hints: str) -> RegionPlan:
    pairs = enumerate(zip(hints, (LEFT, RIGHT), strict=False), 1)
    regions = (Region(f"r{number}", box, hint) for number, (hint, box) in pairs)
    return RegionPlan((640, 480), regions=tuple(regions))


@pytest.mark.parametrize(
    ("instruction", "plan", "wanted"),
    [
        ("make the sign say 'OPEN'", None, [("OPEN", "", ())]),
        ("make it red", plan_of("a red hat"), []),
        ("replace 'SHUT' with 'OPEN'", plan_of("a hat"), [("OPEN", "", (LEFT,))]),
        ("fix both signs", plan_of("a sign 'A 1'", "a sign 'B 2'"), [("A 1", "r1", (LEFT,)), ("B 2", "r2", (RIGHT,))]),
        # A text of the instruction that a hint quotes is not sought a second time.
        ("write 'open' and 'NEW'", plan_of("a sign 'OPEN'"), [("OPEN", "r1", (LEFT,)), ("NEW", "", (LEFT,))]),
        # Boxes of a record come with the instruction as their hint: it may stand in any of them.
        ("write 'OPEN'", plan_of("write 'OPEN'", "write 'OPEN'"), [("OPEN", "", (LEFT, RIGHT))]),
    ],
)
def test_a_text_is_sought_where_a_hint_asks_for_it_else_in_any_region(instruction, plan, wanted):
    assert wanted_texts(instruction, plan) == [Wanted(*one) for one in wanted]


@pytest.mark.parametrize(
    ("text", "lines", "right"),
    [
        ("OPEN", ["OPEN"], True),
        ("Grand Opening", ["GRAND", "OPENING"], True),
        ("Grand Opening", ["GrandOpening"], True),
        ("50% off!", ["50% off!"], True),
        ("\u4eca\u65e5\u6253\u6298\uff01", ["\u4eca\u65e5 \u6253\u6298!"], True),
        ("OPEN", ["OPFN"], False),
        ("OPEN", ["REOPENED"], False),
        ("OPEN", ["OP", "and", "EN"], False),
        ("No. 5", ["No 5"], False),
        ("OPEN", [], False),
    ],
)
def test_only_case_white_space_and_the_width_of_letters_make_no_difference(text, lines, right):
    assert is_read(text, lines) is right


def test_each_place_is_read_once_with_a_margin_and_the_right_place_counts():
    sizes = []

    def read(image):
        sizes.append(image.size)
        return ["SHUT"] if image.getpixel((0, 0)) == (0, 0, 0) else ["OPEN", "NOW"]

    image = Image.new("RGB", (640, 480))
    image.paste((255, 255, 255), (320, 240, 640, 480))
    both = (LEFT, RIGHT)
    rows = check(image, [Wanted("open now", "", both), Wanted("OPEN", "r1", (LEFT,)), Wanted("CLOSED", "", both)], read)
    assert sizes == [(240, 120), (240, 120)]
    assert [row["text_exact"] for row in rows] == [True, False, False]
    assert [row["text_read"] for row in rows] == [["OPEN", "NOW"], ["SHUT"], ["SHUT", "OPEN", "NOW"]]
    assert check(image, [], read) == [] and len(sizes) == 2


def test_the_records_own_boxes_come_first_at_the_size_of_the_result(tmp_path):
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    record = Record("1", "1", 1, str(tmp_path / "a.png"), "write 'A'", boxes=((10.0, 20.0, 30.0, 40.0),))
    assert plan_for(record, tmp_path, (200, 160)).regions[0].box == (20, 40, 60, 80)
    # Another shape: nobody knows where the boxes are, so the whole image is read.
    assert plan_for(record, tmp_path, (160, 200)) is None

"""What a person changed in a plan, in words."""

from dataclasses import replace

from replan.planner.plan import Region, RegionMask, RegionPlan
from replan.planner.plans.differences import differences

A, B = Region("a", (0, 0, 9, 9), "hint of a"), Region("b", (1, 1, 5, 5), "hint of b")
BEFORE = RegionPlan((600, 400), "a cup", (A, B))


def test_each_change_is_a_line_and_the_same_plan_has_none():
    after = BEFORE.with_regions([Region("c", (2, 2, 4, 4), "new"), replace(A, box=(1, 0, 10, 9.25), hint="other")])
    assert differences(BEFORE, BEFORE) == []
    assert differences(BEFORE, after) == [
        "c added: new",
        "a box: [0, 0, 9, 9] -> [1, 0, 10, 9.2]",
        'a hint: "hint of a" -> "other"',
        "b deleted: hint of b",
    ]


def test_order_marks_times_and_size():
    assert differences(BEFORE, BEFORE.with_regions([B, A])) == ["regions are in another order"]
    changed = replace(A, enabled=False, end=0.5, mask=RegionMask((1, 1), (0, 1)), negative_hint="no")
    assert differences(BEFORE, replace(BEFORE, image_size=(300, 200), regions=(changed,))) == [
        "image size 600x400 -> 300x200",
        'a negative hint: "" -> "no"',
        "a active: 0-1 -> 0-0.5",
        "a mask changed",
        "a switched off",
        "b deleted: hint of b",
    ]


def test_what_does_not_decide_the_edit_is_no_difference():
    assert differences(BEFORE, replace(BEFORE, reasoning="thought more", extra={"x": 1})) == []

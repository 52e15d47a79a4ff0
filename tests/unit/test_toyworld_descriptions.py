"""Descriptions of toy scenes, the edits that alignment scores are measured on, and the tables."""

import numpy as np
import pytest
from replan.tools.toyworld import alignment_benchmark
from replan.tools.toyworld.alignment_edits import DRAWN, RULES, drawn, task_of
from replan.tools.toyworld.descriptions import NOTHING, TEXTS, described_plan, object_text, scene_text
from replan.tools.toyworld.edits import REMOVE, SHRINK
from replan.tools.toyworld.scenes import HELD_OUT_SEEDS
from replan.tools.toyworld.scoring import score

TASKS = [task_of(3, index) for index in range(10)]


def test_every_object_has_a_text_of_its_own_and_each_is_known():
    assert len(set(TEXTS)) == len(TEXTS) == 1 + 2 * 2 * 8 * 7
    for task in TASKS:
        assert {object_text(thing) for thing in task.scene.objects} <= set(TEXTS)
        assert set(scene_text(task.scene).splitlines()) <= set(TEXTS)
    assert object_text(None) == scene_text(TASKS[0].scene.with_objects(())) == NOTHING


def test_a_plan_describes_the_scene_as_it_should_be():
    kinds = set()
    for task in TASKS:
        plan = described_plan(task)
        assert plan.extra["scene_after"].count("\n") + 1 == len(task.wanted.objects)
        for (identity, one), region in zip(task.instructions, plan.regions, strict=True):
            kinds.add(one.kind)
            said = region.extra["description_after"]
            assert (said == NOTHING) == (one.kind == REMOVE)
            assert ("small" in said) == (one.kind == SHRINK)
            assert one.value in ("plain", *said.split()) or one.kind in (REMOVE, SHRINK)
            assert region.hint == one.text
            assert region.id == f"o{identity}"
    assert len(kinds) == 5


def test_drawn_edits_are_of_the_quality_that_their_names_say():
    assert all(task.scene.seed in HELD_OUT_SEEDS for task in TASKS)
    for task in TASKS:
        found = drawn(task)
        assert set(DRAWN[:3]) <= set(found) <= set(DRAWN)
        weighted = {name: score(task, pixels).weighted for name, pixels in found.items()}
        assert weighted["wanted"] == 1
        assert weighted["no_edit"] <= 1 / 3
        assert all(value < 1 for name, value in weighted.items() if name != "wanted")
        assert np.array_equal(found["wanted"], task.wanted.pixels)


def rows(*weighted, scores=None):
    """One scene of four edits under the rules, with one score of each; the others are its opposite."""
    return [
        {
            "scene": 0, "edit": name, "weighted": value, "alignment": score, "alignment_fused": -score,
            "scene_score": score, "crops": -score, "fused": -score, "regions": [[value > 0.5, value]],
        }
        for name, value, score in zip(RULES, weighted, scores or weighted, strict=True)
    ]  # fmt: skip


def test_the_table_says_correlation_gain_and_what_closer_tells():
    text = alignment_benchmark.tables(rows(0.1, 0.2, 0.7, 1.0))
    assert "| alignment | 1.000 | 1.000 |" in text
    assert "| crops | -1.000 | -1.000 |" in text
    assert "| random | 0.500 | |" in text
    assert "| alignment | 1.000 | +0.500 |" in text
    assert "| crops | 0.100 | -0.400 |" in text
    assert "| oracle | 1.000 | +0.500 |" in text
    assert "4 rendered regions, 2 of which became what was asked: area under the curve 1.000" in text
    two = rows(0.1, 0.2, 0.7, 1.0) + [{**row, "scene": 1} for row in rows(0.4, 0.4, 0.4, 0.4)]
    assert "| alignment | 0.700 ± 0.300 | +0.250 ± 0.250 |" in alignment_benchmark.tables(two)


@pytest.mark.parametrize("words", [["--scenes", "0"], ["--steps", "0"]])
def test_the_command_refuses_what_cannot_be(words, capsys):
    with pytest.raises(SystemExit):
        alignment_benchmark.main(words)
    assert "give at least one scene and one step" in capsys.readouterr().err

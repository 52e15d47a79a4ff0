"""The tables of the redo benchmark, and what its command refuses."""

import numpy as np
import pytest
from replan.tools.toyworld import redo_benchmark
from replan.tools.toyworld.alignment_edits import task_of
from replan.tools.toyworld.redo_edits import EDITS, exact_scores


def edit(done, closer):
    """An edit whose measures are all its share of regions done."""
    share = sum(done) / len(done)
    return {**dict.fromkeys(redo_benchmark.MEASURES, share), "done": done, "closer": closer}


def row(scene, **changed):
    edits = dict.fromkeys((*EDITS, "patch_exact", "patch_closer"), edit([True, False], [0.9, 0.1])) | changed
    return {"scene": scene, "edits": edits, "failed_closer": [False, True]}


def test_the_tables_compare_scene_by_scene_and_follow_each_region():
    worse = edit([False, False], [0.2, 0.8])
    rows = [row(0, redo_exact=edit([True, True], [0.9, 0.9]), redo_closer=worse), row(1, redo_closer=worse)]
    lines = {line.split(":")[0].strip("| "): line for line in redo_benchmark.tables(rows).splitlines()}
    assert "2 scenes, 4 regions" in lines
    assert "| 0.750 ± 0.250 | +0.250 ± 0.250 |" in lines["redo_exact"]
    assert "| 0.000 ± 0.000 | -0.500 ± 0.000 |" in lines["redo_closer"]
    # Kept where the score that was asked rose: the same score as that of best of two.
    assert lines["redo_exact_kept"].endswith("| 0.750 ± 0.250 | +0.250 ± 0.250 |")
    assert lines["redo_closer_kept"].endswith("| 0.500 ± 0.000 | +0.000 ± 0.000 |")
    text = redo_benchmark.tables(rows)
    assert "| redo_exact minus best_of_two_exact | +0.250 ± 0.250 | +0.250 ± 0.250 |" in text
    assert "| done | 2 | 0 | 2 | 0 | 2 | 2 |" in text
    assert "| failed | 2 | 2 | 1 | 0 | 0 | 0 |" in text


def test_of_two_images_the_second_is_taken_only_where_it_scores_higher():
    other = edit([True, True], [0.4, 0.4])
    found = row(0, second_try=other)
    assert redo_benchmark.taken(found, "best_of_two_exact") is other
    assert redo_benchmark.taken(found, "best_of_two_closer") is found["edits"]["first"]
    assert redo_benchmark.taken(row(0), "best_of_two_exact")["done"] == [True, False]


def test_boxes_of_the_second_image_are_put_into_the_first():
    first, second = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)
    image = redo_benchmark.patched(first, second, [(1.0, 0.0, 3.0, 2.0)])
    assert image[:2, 1:3].all() and image.sum() == 12 and not first.any()


def test_the_exact_scores_name_the_regions_of_the_plan():
    task = task_of(3, 1)
    untouched, wanted = (exact_scores(task, scene.pixels) for scene in (task.scene, task.wanted))
    assert list(wanted.regions) == [region.id for region in task.plan.regions]
    assert (untouched.image["done"], wanted.image["done"], wanted.region_main) == (0, 1, "done")


@pytest.mark.parametrize("words", [["--scenes", "0"], ["--steps", "0"]])
def test_the_command_refuses_what_cannot_be(words, capsys):
    with pytest.raises(SystemExit):
        redo_benchmark.main(words)
    assert "give at least one scene and one step" in capsys.readouterr().err

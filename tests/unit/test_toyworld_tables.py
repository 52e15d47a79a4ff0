"""Tables of the benchmark's figures: nothing is compared that was measured on other scenes or weights."""

import json

import pytest
from replan.tools.toyworld import tables


def measured(effects, **also):
    figures = {
        "target": 1.0,
        "effect": sum(effects) / len(effects),
        "consistency_psnr": 30.06,
        "outside_changed": 0.0,
        "lookalikes_changed": None,
    }
    more = {
        "overall": 1.0,
        "weighted": 1.0,
        "seconds": 1.26,
        "tasks": "one",
        "effect_by_scene": effects,
        "effect_by_kind": {},
    }
    return {**figures, **more, **also}


def written(file, methods, **also):
    """What the benchmark would write, of four scenes."""
    file.write_text(
        json.dumps({"scenes": 4, "seed": 0, "steps": 20, "weights": "abc", "methods": methods, **also}),
        encoding="utf-8",
    )
    return str(file)


def rows(capsys):
    return {line.split("|")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "|" in line}


HALF = [0.0, 0.5, 0.5, 1.0]


def test_tables_hold_every_method_and_leave_out_what_is_not_there():
    one = measured(HALF, effect_by_scene=[], effect_by_kind={"remove": 1.0})
    results = {"scenes": 4, "methods": {"a": one, "b": {**one, "effect_by_kind": {"shrink": 0.0}}}}
    assert tables.scores(results).splitlines()[2] == "| a | 1.000 | 0.500 | 30.1 | 0.000 | - | 1.000 | 1.000 | 1.3 |"
    assert tables.kinds(results).splitlines()[2:] == ["| a | 1.000 | - |", "| b | - | 0.000 |"]


def test_methods_are_compared_scene_by_scene(tmp_path, capsys):
    """Each scene gains the same, so the difference has no spread although both means have one."""
    one = written(tmp_path / "one.json", {"a": measured(HALF)})
    two = written(tmp_path / "two.json", {"b": measured([0.0, 0.5, 0.5, 0.0]), "c": measured([0.25, 0.75, 0.75, 1.0])})
    assert tables.main([one, two, "--against", "a"]) == 0
    said = rows(capsys)
    assert "0.500 ± 0.204" in said["a"] and said["a"].endswith("|  |")
    assert said["b"].endswith("| -0.250 ± 0.250 |")  # means 0.5 and 0.25, one scene of four apart
    assert said["c"].endswith("| +0.188 ± 0.062 |")


def test_methods_on_other_tasks_are_not_compared(tmp_path, capsys):
    """Scenes of the same number may hold other tasks: three regions instead of one."""
    file = written(tmp_path / "one.json", {"a": measured(HALF), "b": measured(HALF, tasks="another")})
    assert tables.main([file, "--against", "a"]) == 0
    assert rows(capsys)["b"].endswith("| other tasks |")


def test_some_methods_and_kinds(tmp_path, capsys):
    file = written(tmp_path / "one.json", {name: measured(HALF, effect_by_kind={"remove": 1.0}) for name in "abc"})
    assert tables.main([file, "--methods", " c, a ,", "--kinds"]) == 0
    assert list(rows(capsys)) == ["Effect", "---", "c", "a"]


def test_a_run_that_was_stopped_is_told(tmp_path, capsys):
    assert tables.main([written(tmp_path / "one.json", {"a": measured(HALF)}, stopped="interrupted")]) == 0
    assert "stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("also", "said"),
    [
        ({"scenes": 5, "methods": {"b": measured([*HALF, 1.0])}}, "has scenes 5, the files before it 4"),
        ({"weights": "def"}, "has weights def"),
        ({"planner": {}}, "has planned True"),
        ({"methods": {"a": measured(HALF)}}, "has 'a', which a file before it has too"),
        ({"methods": {}}, "does not hold the figures"),
        ({"methods": {"b": measured(HALF, target="0.5")}}, "does not hold the figures"),
        ({"methods": {"b": measured(HALF, effect=True)}}, "does not hold the figures"),
        (
            {"methods": {"b": measured(HALF, effect_by_scene=[0.5, float("nan"), 0.5, 1.0])}},
            "does not hold the figures",
        ),
        ({"methods": {"b": measured(HALF, effect_by_scene=HALF[1:])}}, "does not hold the figures"),
        ({"methods": {"b": measured(HALF, effect_by_scene=[])}}, "a comparison needs two scenes"),
    ],
)
def test_files_that_cannot_stand_together_are_told(tmp_path, capsys, also, said):
    good = written(tmp_path / "good.json", {"a": measured(HALF)})
    bad = written(tmp_path / "bad.json", **{"methods": {"b": measured(HALF)}, **also})
    assert tables.main([good, bad, "--against", "a"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("tables.py: ") and said in lines[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("no JSON", "is no JSON"),
        ("[]", "does not hold the figures"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_what_is_no_result_is_told(tmp_path, capsys, text, said):
    file = tmp_path / "file.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    assert tables.main([str(file)]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--methods", ","], "names no method"),
        (["--methods", "z"], "no method called 'z'"),
        (["--against", "z"], "no method called 'z'"),
    ],
)
def test_methods_that_are_not_there_are_told(tmp_path, capsys, options, said):
    assert tables.main([written(tmp_path / "one.json", {"a": measured(HALF)}), *options]) == 1
    assert said in capsys.readouterr().err

"""The toy world's published weights: checked by hash, published whole, put where ComfyUI's loaders look."""

import json

import pytest
from replan.tools.host_server import link
from replan.tools.toyworld import weights
from replan.tools.toyworld.weights import HASHES, WeightsError, checked
from replan.tools.training.exported import publish, publish_folder
from replan.tools.training.train import main


def test_weights_are_what_the_repository_says(tmp_path):
    trained = tmp_path / weights.EDITOR
    trained.write_bytes(b"weights")
    publish([trained], tmp_path / "w")
    assert checked(weights.EDITOR, tmp_path / "w").read_bytes() == b"weights"
    (tmp_path / "w" / weights.EDITOR).write_bytes(b"weight")
    with pytest.raises(WeightsError, match=r"cut off or changed \(6 bytes\)"):
        checked(weights.EDITOR, tmp_path / "w")
    (tmp_path / "w" / weights.EDITOR).unlink()
    with pytest.raises(WeightsError, match="is missing"):
        checked(weights.EDITOR, tmp_path / "w")
    (tmp_path / "w" / HASHES).write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(WeightsError, match="does not say"):
        checked(weights.EDITOR, tmp_path / "w")


def a_planner(folder, content=b"weights"):
    folder.mkdir(parents=True)
    for name in (*weights.PLANNER_FILES, "chat_template.jinja"):
        (folder / name).write_bytes(content)
    return folder


def test_a_planners_folder_is_published_whole_and_every_file_is_checked(tmp_path):
    kept = tmp_path / "w"
    assert not weights.planner_published(kept)
    kept.mkdir()
    with pytest.raises(WeightsError, match="toyworld_planner is missing; restore it .* or train it"):
        weights.checked_planner(kept)
    publish([a_planner(tmp_path / "run" / weights.PLANNER)], kept)
    assert weights.checked_planner(kept) == kept / weights.PLANNER
    (kept / weights.PLANNER / "chat_template.jinja").write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"chat_template.jinja has the SHA-256 .* cut off or changed \(5 bytes\)"):
        weights.checked_planner(kept)
    again = a_planner(tmp_path / "later" / weights.PLANNER, b"better")
    (again / "chat_template.jinja").unlink()
    publish([again], kept)
    assert sorted(file.name for file in weights.checked_planner(kept).iterdir()) == sorted(weights.PLANNER_FILES)
    (kept / weights.PLANNER / "model.safetensors").write_bytes(b"bette")
    with pytest.raises(WeightsError, match="cut off or changed"):
        weights.checked_planner(kept)
    (kept / weights.PLANNER / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="model.safetensors is missing"):
        weights.checked_planner(kept)


def test_a_planner_of_ones_own_is_put_where_the_nodes_look(tmp_path):
    own = a_planner(tmp_path / "run" / weights.PLANNER)
    models = tmp_path / "models"
    for place in (own, own.parent):
        assert weights.ensure_planner(models, place) == (weights.PLANNER, weights.TEMPLATE)
    (models / "LLM" / weights.PLANNER / "leftover.json").write_bytes(b"{}")
    weights.ensure_planner(models, own)
    assert sorted(file.name for file in (models / "LLM" / weights.PLANNER).iterdir()) == sorted(
        file.name for file in own.iterdir()
    )
    assert (models / "replan_templates" / weights.TEMPLATE).read_text(encoding="utf-8") == "{{instruction}}"
    (own / "config.json").unlink()
    with pytest.raises(WeightsError, match="holds no planner"):
        weights.ensure_planner(models, own)


def test_what_is_published_was_read_first(tmp_path, capsys):
    """A cut file, or one of another model, must not take the place of a good one."""
    kept, run = tmp_path / "w", tmp_path / "run"
    run.mkdir()
    good = (weights.WEIGHTS / weights.CODEC).read_bytes()
    (run / weights.CODEC).write_bytes(good)
    assert publish_folder(run, kept) == 0
    bad = {
        weights.CODEC: (good[:5000], b"", (weights.WEIGHTS / weights.TEXTS).read_bytes()),
        weights.EDITOR: (good, (weights.WEIGHTS / weights.EDITOR).read_bytes()[:5000]),
        weights.TEXTS: (good, b"x"),
    }
    for name, contents in bad.items():
        for content in contents:
            (run / name).write_bytes(content)
            assert publish_folder(run, kept) == 1
            assert "is no trained" in (said := capsys.readouterr().err) or "not the weights" in said
        (run / name).unlink()
    (run / weights.PLANNER).mkdir()
    for name in weights.PLANNER_FILES:
        (run / weights.PLANNER / name).write_bytes(b"xx")
    assert publish_folder(run, kept) == 1
    assert "holds no planner" in capsys.readouterr().err
    assert sorted(file.name for file in kept.iterdir()) == [HASHES, weights.CODEC]
    assert checked(weights.CODEC, kept).read_bytes() == good


def test_publishing_never_eats_what_it_publishes(tmp_path):
    kept = tmp_path / "w"
    publish([a_planner(tmp_path / "run" / weights.PLANNER)], kept)
    before = {file: file.read_bytes() for file in kept.rglob("*") if file.is_file()}
    (tmp_path / "link").mkdir()
    link(kept / weights.PLANNER, tmp_path / "link" / weights.PLANNER)
    nested = a_planner(tmp_path / "nested" / weights.PLANNER)
    (nested / "more").mkdir()
    file_for_folder = tmp_path / "file" / weights.PLANNER
    file_for_folder.parent.mkdir()
    file_for_folder.write_bytes(b"")
    for folder in (tmp_path / "link" / weights.PLANNER, kept / weights.PLANNER, nested, file_for_folder):
        with pytest.raises(WeightsError):
            publish([folder], kept)
        assert {file: file.read_bytes() for file in kept.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("content", ["", "[]", "null", '{"toyworld_editor.safetensors": 5}', "{"])
def test_hashes_that_are_none_are_told(tmp_path, content):
    (tmp_path / HASHES).write_text(content, encoding="utf-8")
    (tmp_path / weights.EDITOR).write_bytes(b"weights")
    with pytest.raises(WeightsError, match="hashes.json .* restore it"):
        checked(weights.EDITOR, tmp_path)
    own = tmp_path / "own" / weights.EDITOR
    own.parent.mkdir()
    own.write_bytes(b"better")
    with pytest.raises(WeightsError, match="hashes.json"):
        publish([own], tmp_path)
    assert (tmp_path / weights.EDITOR).read_bytes() == b"weights"


def test_a_folder_of_weights_that_is_not_there_is_told(tmp_path):
    with pytest.raises(WeightsError, match="there is no folder"):
        checked(weights.EDITOR, tmp_path / "none")


def test_the_committed_files_stay_small():
    total = sum(file.stat().st_size for file in weights.WEIGHTS.rglob("*") if file.is_file())
    assert total < 25 * 2**20


def test_publishing_needs_something_finished(tmp_path, capsys):
    assert main(["publish", "--folder", str(tmp_path)]) == 1
    assert "finish a training first" in capsys.readouterr().err
    (tmp_path / weights.PLANNER).mkdir()
    assert main(["publish", "--folder", str(tmp_path)]) == 1
    assert "holds no planner" in capsys.readouterr().err

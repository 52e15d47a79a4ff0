"""The contact sheet of the toy world is a picture, the same from the same seed, from one command."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from replan.tools.toyworld.sheets import main, world_sheet

ROOT = Path(__file__).resolve().parents[2]


def test_the_command_writes_a_picture(tmp_path):
    file = tmp_path / "new" / "sheet.png"
    command = [
        sys.executable,
        "tools/toyworld/sheets.py",
        "--seed",
        "7",
        "--tasks",
        "2",
        "--programs",
        "1",
        "--out",
        str(file),
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    with Image.open(file) as picture:
        assert picture.tobytes() == world_sheet(7, tasks=2, programs=1).tobytes()


def test_another_seed_gives_another_sheet():
    assert world_sheet(1, tasks=1, programs=0).tobytes() != world_sheet(2, tasks=1, programs=0).tobytes()


@pytest.mark.parametrize(
    "wrong, said", [(["--size", "100"], "multiple of 16"), (["--tasks", "0", "--programs", "0"], "shows nothing")]
)
def test_what_cannot_be_shown_is_refused_before_any_file_is_written(tmp_path, capsys, wrong, said):
    with pytest.raises(SystemExit):
        main([*wrong, "--out", str(tmp_path / "sheet.png")])
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_place_that_takes_no_picture_is_told(tmp_path, capsys):
    for name in ("sheet", "sheet.psd"):  # the second is read by Pillow, and not written
        with pytest.raises(SystemExit):
            main(["--out", str(tmp_path / name)])
        assert "no image that can be written" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["--tasks", "1", "--programs", "0", "--out", str(tmp_path / "file" / "sheet.png")]) == 1
    assert "cannot be written" in capsys.readouterr().err

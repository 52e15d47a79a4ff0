"""The check for a machine with a GPU: its folder is complete, its run survives what breaks, its measure bites.

None of this has a GPU: what is shown is that the parts run and that a fault is seen and kept.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from argparse import Namespace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))
from gpu import absent, child, pack, report, run  # noqa: E402
from gpu.parts import PARTS, Part  # noqa: E402

COMFYUI = Path(os.environ.get("REPLAN_COMFYUI") or ROOT / ".host" / "comfyui-0.30")


# The folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("carry") / "gpu_check"
    pack.make(made, COMFYUI, wheels=False)
    return made


def test_the_folder_lists_every_file_it_holds(folder):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    assert set(files) == {*manifest["files"], "manifest.json"}
    assert all(hashlib.sha256(files[name].read_bytes()).hexdigest() == sum_ for name, sum_ in manifest["files"].items())
    assert abs(manifest["bytes"] - sum(file.stat().st_size for file in files.values())) < 8
    assert manifest["bytes"] < 4 * pack.MIB  # the wheels are 20


def test_the_folder_has_the_pack_its_tools_and_comfyui_without_large_tokenizers(folder):
    for name in ("__init__.py", "attention/wrappers.py", "nodes/rules.py", "planner/plan.py", "tools/gpu_check.py",
                 "tools/gpu/exact.py", "tools/bench_step.py", "tests/reference.py", "tests/host/dense.py"):  # fmt: skip
        assert (folder / "replan" / name).is_file(), name
    with zipfile.ZipFile(folder / "comfyui.zip") as archive:
        names = archive.namelist()
        assert all(info.file_size < 2 * pack.MIB for info in archive.infolist())
    assert {"nodes.py", "execution.py", "comfy/sd.py", "comfy_extras/nodes_flux.py"} <= set(names)
    tokenizers = {name.rsplit("/", 1)[0] for name in names if "tokenizer" in name and not name.endswith(".py")}
    assert tokenizers == {pack.TOKENIZER}
    assert not any(name.startswith(("blueprints/", "comfy_api_nodes/", "tests/")) for name in names)


def test_a_folder_over_the_limit_is_refused_with_its_largest_files(tmp_path):
    with pytest.raises(pack.PackError, match=r"more than 1; the largest: comfyui.zip"):
        pack.make(tmp_path / "large", COMFYUI, limit=pack.MIB, wheels=False)


def test_a_folder_with_other_files_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(pack.PackError, match="holds other files"):
        pack.make(tmp_path, COMFYUI, wheels=False)
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_torch_and_what_comes_with_it_is_not_carried(tmp_path):
    needed = pack.needed(COMFYUI / "requirements.txt")
    names = {pack.canonical(line.split("=")[0].split(">")[0]) for line in needed}
    assert {"einops", "safetensors", "transformers"} <= names
    assert not names & {*pack.GIVEN, *pack.LEFT_OUT}


@pytest.mark.full
def test_pip_installs_the_wheels_for_python_312_on_linux_without_a_network(tmp_path):
    """And the folder with them keeps the limit. Fetching needs the package registry."""
    folder = tmp_path / "gpu_check"
    manifest = pack.make(folder, COMFYUI)
    assert manifest["bytes"] <= pack.LIMIT
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-index", "--find-links",
         folder / "wheels", "--target", tmp_path / "site", *pack.pip_options("3.12", pure=False), *manifest["wheels"]],
        capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wanted = {
        pack.canonical(line.split(";")[0].split("[")[0].split("<")[0].split(">")[0].split("=")[0].split("!")[0].strip())
        for wheel in (folder / "wheels").iterdir()
        for line in pack.requirements_of(wheel)
        if ";" not in line
    }
    assert wanted <= {*manifest["wheels"], *pack.GIVEN, *pack.LEFT_OUT}


def test_a_placeholder_can_be_imported_and_says_its_name_when_it_is_used(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    assert absent.fill_in(["json", "no_such_library"]) == ["no_such_library"]
    import no_such_library
    from no_such_library.container import Reader

    class Mine(Reader):
        pass

    with pytest.raises(ImportError, match="no_such_library.play was called, but no_such_library is not installed"):
        no_such_library.play("film.mp4")
    for name in [name for name in sys.modules if name.startswith("no_such_library")]:
        del sys.modules[name]


# The run

CHILD = """
import argparse, json, os, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("command")
parser.add_argument("--events")
parser.add_argument("--parts", nargs="+")
args, _ = parser.parse_known_args()

def write(**event):
    with open(args.events, "a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\\n")

write(event="machine", facts={"torch": "none"})
for part in args.parts:
    write(event="begin", part=part, seconds=0.5 if part == "hangs" else 60)
    write(event="row", part=part, row={"figure": 1.5, "ok": part != "wrong"})
    print("== part " + part + "\\nthe last words of " + part, flush=True)
    if part == "dies":
        os._exit(9)
    if part == "hangs":
        time.sleep(600)
    write(event="end", part=part, error="Traceback: no" if part == "raises" else None)
"""


@pytest.fixture
def results(tmp_path, monkeypatch) -> dict:
    """A run of parts that fail in every way, each in the real starting process."""
    command = tmp_path / "child.py"
    command.write_text(CHILD, encoding="utf-8")
    names = ("well", "dies", "raises", "hangs", "wrong")
    monkeypatch.setattr(run, "COMMAND", command)
    monkeypatch.setattr(run, "GRACE", 0.3)
    monkeypatch.setattr(run, "PARTS", [Part(name, "", 60, host=() if name != "wrong" else ("x",)) for name in names])
    args = Namespace(out=tmp_path, minutes=5, small=True, parts=list(names))
    begun = time.monotonic()
    run.Runner(args, sys.executable, COMFYUI, None, tmp_path).run()
    assert time.monotonic() - begun < 60
    return json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))


def test_what_broke_keeps_its_rows_and_the_next_part_runs(results):
    parts = {part["name"]: part for part in results["parts"]}
    assert results["finished"] and results["machine"] == {"torch": "none"}
    assert {name: part["status"] for name, part in parts.items()} == {
        "well": "passed", "dies": "crashed with status 9", "raises": "error", "hangs": "timed out", "wrong": "failed",
    }  # fmt: skip
    assert all(part["rows"][0]["figure"] == 1.5 for part in parts.values())
    assert parts["dies"]["error"] == "dies\nthe last words of dies"
    assert parts["raises"]["error"] == "Traceback: no"
    text = report.markdown(results)
    assert "| dies | **crashed with status 9** | 1 | 0 | 0 |" in text
    assert "| well | passed |" in text and "the last words of dies" in text


def test_a_run_whose_time_is_over_says_what_it_left_out(tmp_path):
    args = Namespace(out=tmp_path, minutes=0, small=True, parts=["exact"])
    (part,) = run.Runner(args, sys.executable, COMFYUI, None, tmp_path).run()["parts"]
    assert part["status"] == "left out: the run's time was over"


def test_every_part_names_a_function_that_exists():
    for part in PARTS:
        module, name = part.function.split(":")
        source = (ROOT / "tools" / "gpu" / f"{module}.py").read_text(encoding="utf-8")
        assert f"\ndef {name}(check: Check" in source, part.name
    assert sum(part.seconds for part in PARTS) < 1.6 * 60 * run.MINUTES


# What it measures


@pytest.fixture
def check(tmp_path) -> tuple[child.Check, list[dict]]:
    events: list[dict] = []
    check = child.Check(events.append, True, time.time() + 300, tmp_path)
    check.begin("exact", 300)
    return check, events


def test_the_smallest_part_runs_and_finds_ours_exact(check):
    from gpu import exact

    check, events = check
    exact.families(check, ["flux"], [torch.float32])
    rows = [event["row"] for event in events if event["event"] == "row"]
    assert [row["family"] for row in rows] == ["flux"]
    assert all(row["ok"] and row["difference"] < 1e-5 < 0.05 < row["effect"] for row in rows), rows


def test_rules_that_are_not_those_asked_for_are_noticed():
    import region_models
    from gpu.compare import Setting, compare
    from replan.attention.rules import make_rules
    from replan.attention.wrappers import add_region_rules

    other = add_region_rules(region_models.build("flux"), make_rules("isolated_regions")[0], 1)
    row = compare(Setting("flux", torch.float32), lambda: region_models.build("flux"), other)
    assert not row["ok"] and row["difference"] > 1e-3


def test_a_case_that_raises_becomes_a_row_and_one_too_late_is_left_out(check):
    check, events = check

    def fault() -> dict:
        raise RuntimeError("no kernel")

    check.case(fault, family="flux")
    check.begin("exact", -1)
    check.case(dict, family="qwen")
    failed, late = (event["row"] for event in events if event["event"] == "row")
    assert failed["error"] == "RuntimeError: no kernel" and "in fault" in failed["traceback"]
    assert late["left_out"] == "the part's time was over"


def test_packing_groups_for_one_launch_gives_what_a_mask_gives():
    """The kernel is CUDA's; here a loop over the sequences takes its place."""
    import bench_attention as bench

    generator = torch.Generator().manual_seed(0)
    atom_sees = torch.rand(5, 5, generator=generator) > 0.4
    atom_sees |= torch.eye(5, dtype=torch.bool)
    atom = torch.randint(0, 5, (40,), generator=generator)
    q, k, v = (torch.randn(1, 2, 40, 8, generator=generator) for _ in range(3))

    def loop(queries, keys, values, query_ends, key_ends, most_queries, most_keys):
        parts = []
        for a, b, c, d in zip(query_ends, query_ends[1:], key_ends, key_ends[1:], strict=False):
            assert b - a <= most_queries and d - c <= most_keys
            rows = [x.transpose(0, 1) for x in (queries[a:b], keys[c:d], values[c:d])]
            parts.append(torch.nn.functional.scaled_dot_product_attention(*rows).transpose(0, 1))
        return torch.cat(parts)

    found = bench.varlen_method(atom, atom_sees, q, k, v, loop)()
    expected = bench.attend(q, k, v, atom_sees[atom][:, atom])
    assert (found - expected).abs().max() < 1e-6

"""Batches without a server: tables, ids, results that appear whole, resuming, locks, shards, configuration."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from replan.tools.batches.config import Keys, headers_in, put_into, read_config, server_of
from replan.tools.batches.editing import Editor, _worse
from replan.tools.batches.items import BatchError, Item, ItemError, Source, plan_text, safe_id
from replan.tools.batches.places import Edited, PromptError, ServerError
from replan.tools.batches.results import DiskFull, FolderLock, Results
from replan.tools.batches.run import Run, duration
from replan.tools.batches.workflow import Filling, Workflow

ROOT = Path(__file__).resolve().parents[2]
PNG = b"\x89PNG\r\n\x1a\n"

GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "cat.png"}},
    "2": {"class_type": "RePlanLoadPlanner", "inputs": {"model_name": "m", "dtype": "default"}},
    "3": {
        "class_type": "RePlanPlanner",
        "inputs": {"planner": ["2", 0], "image": ["1", 0], "instruction": "a hat", "template": "auto", "seed": 5},
    },
    "4": {"class_type": "RePlanPlanPreview", "inputs": {"plan": ["3", 0], "image": ["1", 0]}},
    "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "x"}},
}


def workflow(tmp_path: Path, graph: dict = GRAPH, name: str = "edit_api.json") -> Workflow:
    file = tmp_path / name
    file.write_text(json.dumps(graph), encoding="utf-8")
    return Workflow(file)


def table(tmp_path: Path, text: str, name: str = "list.csv") -> Source:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return Source(file)


def images(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).write_bytes(PNG)
    return tmp_path


def item(name: str = "a", **values) -> Item:
    return Item(1, safe_id(name), name, {"image": "a.png", **values}, "", Path())


# ---- redo


def scores(main: str, value: float, **done: float) -> dict:
    regions = {name: {"edited": share} for name, share in done.items()}
    return {"by": "x", "image": {main: value}, "regions": regions, "main": main, "region_main": "edited"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        # The main score of a redo is of the failed regions alone, and what the first edit did counts as outside.
        (scores("edited_and_kept", 0.5, a=1, b=0), scores("edited_and_kept", 0.4, b=1), ""),
        (scores("edited_and_kept", 0.1, a=1, b=0.3), scores("edited_and_kept", 0.4, b=0.2), "edited of the x fell"),
        (scores("edited_and_kept", 0.5, a=0), scores("edited_and_kept", 0.4, a=1), "edited_and_kept of the x fell"),
        (scores("weighted", 4, a=1, b=0), scores("weighted", 3, b=1), "weighted of the x fell from 4 to 3"),
        (scores("weighted", 4), scores("alignment", 0.1), ""),
        (scores("edited_and_kept", 0.5, a=1), scores("edited_and_kept", 0.4, b=1), ""),
    ],
)
def test_a_redo_is_dropped_where_a_score_of_both_fell(before, after, said):
    found = _worse([after], [before])
    assert found.startswith(said) and bool(found) == bool(said)


# ---- ids


@pytest.mark.parametrize("name", ["a", "cat_01", "00123.5", "Zürich", "two words", "猫"])
def test_an_id_that_is_a_folder_name_everywhere_stays(name):
    assert safe_id(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "../up", "..", ".", "/etc/passwd", "C:\\Windows", "c:x", "a/b", "a\\b", "\0", "a\0b", "CON", "con.txt", "NUL",
        "aux", "COM1", "lpt9.log", "x" * 300, "é" * 300, "trailing.", ".hidden", "a\nb", "a*?b", "\ud800", "\u202eabc",
        "errors.jsonl", "", "e\u0301",
    ],
)  # fmt: skip
def test_any_other_id_becomes_one_new_folder_name(name, tmp_path):
    safe = safe_id(name)
    assert safe != name and safe == safe_id(name)
    folder = tmp_path / safe
    folder.mkdir()
    assert folder.resolve().parent == tmp_path.resolve() and [one.name for one in tmp_path.iterdir()] == [safe]
    assert len(safe.encode()) <= 100 and not safe.startswith(".") and not set(safe) & set('<>:"/\\|?*\0\n')
    assert safe.split(".")[0].upper() not in ("CON", "NUL", "AUX", "COM1", "LPT9")


def test_different_unsafe_ids_stay_different():
    names = ["../a", "..\\a", "/a", "a/", "_a/", "a" * 200, "a" * 201, "con", "CON", "\0", "\1"]
    assert len({safe_id(name).casefold() for name in names}) == len(names)


def test_ids_that_differ_by_case_alone_get_folders_that_differ(tmp_path):
    source = table(tmp_path, "image,id\na.png,Cat\na.png,cat\na.png,CAT\n")
    ids = [one.id for one in source.items()]
    assert len({one.casefold() for one in ids}) == 3 and ids[0] == "Cat"


def test_the_second_row_of_an_id_is_refused_and_names_the_first(tmp_path):
    source = table(tmp_path, "image,id\na.png,x\nb.png,y\nc.png,x\n")
    assert [one.fault for one in source.items()] == [
        "", "", "row 1 has the id 'x' already; give each row an id of its own",
    ]  # fmt: skip


# ---- tables and folders


def test_a_table_gives_values_by_column_and_paths_from_its_own_folder(tmp_path):
    images(tmp_path, "a.png")
    source = table(tmp_path, '\ufeffImage,Instruction,id\na.png,"make it red, please",first\n')
    (one,) = source.items()
    assert (one.id, one.values["instruction"], one.folder) == ("first", "make it red, please", tmp_path)


def test_json_lines_take_plans_as_objects_texts_and_files(tmp_path):
    plan = {"image_size": [8, 8], "regions": []}
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    rows = [{"image": "a.png", "plan": plan}, {"image": "a.png", "plan": json.dumps(plan)}]
    rows.append({"image": "a.png", "plan": "plan.json", "seed": 3})
    source = table(tmp_path, "\n".join(map(json.dumps, rows)), "list.jsonl")
    assert [json.loads(plan_text(one)) for one in source.items()] == [plan] * 3


def test_one_bad_row_is_its_own_fault_and_the_others_go_on(tmp_path):
    text = '{"image": "a.png", "id": "a"}\n{"image": \n["a"]\n{"id": "b"}\n{"image": "a.png", "id": "c"}\n'
    faults = [one.fault for one in table(tmp_path, text, "list.jsonl").items()]
    assert faults[0] == faults[4] == ""
    assert "no JSON" in faults[1] and "no JSON object" in faults[2] and "no image" in faults[3]


def test_a_csv_row_with_too_many_cells_or_another_encoding_says_so(tmp_path):
    (tmp_path / "list.csv").write_bytes("image,instruction\na.png,red, blue\nb.png,gr\xfcn\n".encode("latin-1"))
    first, second = Source(tmp_path / "list.csv").items()
    assert "3 cells" in first.fault and "UTF-8" in second.fault


def test_rows_without_an_id_keep_theirs_when_rows_are_moved(tmp_path):
    first = {one.values["instruction"]: one.id for one in table(tmp_path, "image,instruction\na,x\na,y\n").items()}
    second = {one.values["instruction"]: one.id for one in table(tmp_path, "image,instruction\na,y\na,x\n").items()}
    assert first == second and len(set(first.values())) == 2


def test_a_folder_gives_its_images_with_the_texts_beside_them(tmp_path):
    images(tmp_path, "b.png", "a.jpg", "a.png", "c.webp")
    (tmp_path / "b.txt").write_text("make it red\n", encoding="utf-8")
    (tmp_path / "c.plan.json").write_text("{}", encoding="utf-8")
    (tmp_path / "notes.md").write_text("", encoding="utf-8")
    found = {one.id: dict(one.values) for one in Source(tmp_path).items()}
    assert sorted(found) == ["a.jpg", "a.png", "b", "c"]
    assert found["b"]["instruction"] == "make it red" and found["c"]["plan"] == "{}"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [("list.csv", "picture\na.png\n", "name one of them 'image'"), ("list.csv", "", "holds no row"),
     ("list.xlsx", "", "no folder and no table"), ("list.jsonl", "{image\n{b\n", "row 1: the line is no JSON"),
     ("list.csv", "image,instruction,instruction\na.png,b.png,c\n", "more than once"),
     ("list.csv", "image,Image,x\na.png,b.png,c\n", "more than once")],
)  # fmt: skip
def test_what_is_no_table_is_refused(name, text, said, tmp_path):
    with pytest.raises(BatchError, match=said):
        table(tmp_path, text, name)


def test_shards_share_the_items_and_know_ids_of_the_others(tmp_path):
    source = table(tmp_path, "image,id\n" + "".join(f"a.png,{n}\n" for n in range(10)) + "a.png,0\n")
    parts = [[(one.name, bool(one.fault)) for one in source.items((part, 3))] for part in (1, 2, 3)]
    assert sorted(sum(parts, [])) == sorted([(str(n), False) for n in range(10)] + [("0", True)])


# ---- what an item fills


def test_inputs_are_found_by_class_and_filled(tmp_path):
    images(tmp_path, "a.png")
    filling = Filling(workflow(tmp_path), {"image", "instruction", "seed"})
    job = filling.job(Item(1, "a", "a", {"image": "a.png", "instruction": "red", "seed": "7"}, "", tmp_path))
    assert job.prompt["3"]["inputs"]["instruction"] == "red" and job.prompt["3"]["inputs"]["seed"] == 7
    assert job.uploads == [(("1", "image"), PNG, ".png")] and job.seeds == {"3.seed": 7}
    assert GRAPH["3"]["inputs"]["seed"] == 5
    assert job.prompt["5"] == {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}}


def test_several_image_nodes_need_a_title_and_the_error_says_how(tmp_path):
    graph = {**GRAPH, "9": {"class_type": "LoadImage", "inputs": {"image": "style.png"}}}
    with pytest.raises(BatchError, match=r"several nodes.*node 1.*node 9.*--set 1.image=image"):
        Filling(workflow(tmp_path, graph), {"image"})
    titled = {**graph, "1": {**GRAPH["1"], "_meta": {"title": "Image"}}}
    assert [place.node for place, _ in Filling(workflow(tmp_path, titled), {"image"}).places] == ["1"]
    chosen = Filling(workflow(tmp_path, graph), {"image", "look"}, ["9.image=look", "1.image=image"])
    assert [(place.node, column) for place, column in chosen.places] == [("9", "look"), ("1", "image")]


def test_a_column_without_a_place_is_refused_with_the_candidates(tmp_path):
    with pytest.raises(BatchError, match=r'column "plan".*--set NODE.INPUT=plan.*RePlanPlanner \(node 3\).instruction'):
        Filling(workflow(tmp_path), {"image", "plan"})


def test_an_instruction_beside_a_plan_may_stay_words_in_the_record(tmp_path):
    graph = {**GRAPH, "3": {"class_type": "RePlanPlanFromText", "inputs": {"text": "", "image": ["1", 0]}}}
    filling = Filling(workflow(tmp_path, graph), {"image", "instruction", "plan"})
    assert [column for _, column in filling.places] == ["image", "plan"] and filling.unused == ["instruction"]
    with pytest.raises(BatchError, match='column "instruction"'):
        Filling(workflow(tmp_path, graph), {"image", "instruction"})


@pytest.mark.parametrize(
    ("chosen", "said"),
    [("3.steps=seed", "no input 'steps'"), ("Nope.x=seed", "no such node"), ("3.image=seed", "comes from node 1"),
     ("3.seed", "NODE.INPUT=COLUMN"), ("3.seed=other", "one of the columns")],
)  # fmt: skip
def test_a_set_that_fits_nothing_says_what_there_is(chosen, said, tmp_path):
    with pytest.raises(BatchError, match=said):
        Filling(workflow(tmp_path), {"image", "seed"}, [chosen])


def test_a_saved_workflow_is_told_from_the_api_format(tmp_path):
    with pytest.raises(BatchError, match=r"Export \(API\)"):
        workflow(tmp_path, {"nodes": [], "links": []})
    with pytest.raises(BatchError, match="no workflow in API format"):
        workflow(tmp_path, {"1": {"inputs": {}}})


def test_titles_do_not_change_the_workflows_hash_and_values_do(tmp_path):
    plain = workflow(tmp_path).digest
    assert workflow(tmp_path, {**GRAPH, "1": {**GRAPH["1"], "_meta": {"title": "x"}}}).digest == plain
    assert workflow(tmp_path, {**GRAPH, "2": {**GRAPH["2"], "inputs": {}}}).digest != plain


@pytest.mark.parametrize("image", ["gone.png", "\0", "x" * 300, ""])
def test_an_image_that_cannot_be_read_is_that_items_fault(image, tmp_path):
    filling = Filling(workflow(tmp_path), {"image"})
    with pytest.raises(ItemError, match="not there|no file name|is a folder"):
        filling.job(Item(1, "a", "a", {"image": image}, "", tmp_path))


def described(node_class):
    """What a ComfyUI that has the pack says of a class, as far as it is read."""
    outputs = {"RePlanPlanner": ["plan", "global_prompt", "reasoning", "reply", "report", "answer"]}.get(node_class, [])
    kinds = {"RePlanPlanner": ["REGION_PLAN", *["STRING"] * 5], "RePlanJudge": ["REPLAN_SCORES", "FLOAT"]}
    return {"output": kinds.get(node_class, []), "output_name": outputs}


def test_plan_reply_and_scores_are_previewed_for_the_record(tmp_path):
    graph = {**GRAPH, "6": {"class_type": "RePlanJudge", "inputs": {"planner": ["2", 0], "plan": ["3", 0]}}}
    filling = Filling(workflow(tmp_path, graph), {"image"})
    filling.record_texts(described)
    shown = {what: filling.graph[key]["inputs"]["source"] for key, what in filling.texts.items()}
    assert shown["reply"] == ["3", 3] and shown["scores"] == ["6", 0]
    written = filling.graph[shown["plan"][0]]
    assert written == {"class_type": "RePlanPlanToText", "inputs": {"plan": ["3", 0], "format": "json"}}


def test_a_comfyui_without_the_workflows_nodes_is_refused(tmp_path):
    filling = Filling(workflow(tmp_path), {"image"})
    with pytest.raises(BatchError, match="lacks the nodes RePlanPlanner that"):
        filling.record_texts(lambda name: {} if name == "RePlanPlanner" else described(name))


# ---- what is kept


def test_a_result_appears_whole_with_its_record_first(tmp_path):
    results = Results(tmp_path)
    results.begin()
    results.save(item(), {"final_result.png": PNG}, {"id": "a", "error": None})
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == ["final_result.png", "result.json"]
    assert results.done(item())["id"] == "a"
    with pytest.raises(ItemError, match="the result of the id 'a'"):
        results.done(item()._replace(name="b"))


def test_what_a_killed_run_left_half_written_goes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".final_result.png.1.part").write_bytes(b"half")
    results = Results(tmp_path)
    assert results.done(item()) is None
    results.save(item(), {"final_result.png": PNG}, {})
    assert not list((tmp_path / "a").glob(".*"))


LIMITED = """
import json, resource, sys
sys.path.insert(0, {tools!r})
from bench import import_pack
import_pack()
from pathlib import Path
from replan.tools.batches.items import Item, ItemError
from replan.tools.batches.results import Results
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
results = Results(Path(sys.argv[1]))
results.begin()
one = Item(1, "a", "a", {{"image": "a.png"}}, "", Path())
try:
    results.save(one, {{"final_result.png": b"x" * 10000}}, {{"id": "a"}})
except ItemError as error:
    print(error)
    results.fail(one, {{"id": "a", "error": str(error)}})
"""


@pytest.mark.skipif(os.name == "nt", reason="has no such limit")
def test_a_result_that_finds_no_room_leaves_no_half_file_and_says_why(tmp_path):
    code = LIMITED.format(tools=str(ROOT / "tools"))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert "larger than a file may be" in done.stdout
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["result.json"]
    assert "larger than" in json.loads((tmp_path / "a" / "result.json").read_text(encoding="utf-8"))["error"]
    assert "larger than" in (tmp_path / "errors.jsonl").read_text(encoding="utf-8")


def test_a_full_disk_stops_the_batch_with_its_reason(tmp_path, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    results = Results(tmp_path)
    with pytest.raises(DiskFull, match="the disk is full"):
        results.save(item(), {"final_result.png": PNG}, {})
    assert not (tmp_path / "a").exists()


# ---- locks


def test_a_second_run_on_a_folder_is_refused_and_names_the_first(tmp_path):
    with FolderLock(tmp_path), pytest.raises(BatchError, match=f"process {os.getpid()} "):
        FolderLock(tmp_path).__enter__()
    with FolderLock(tmp_path):
        pass


def test_shards_of_one_number_of_parts_share_a_folder_and_no_others(tmp_path):
    with FolderLock(tmp_path, (1, 2)), FolderLock(tmp_path, (2, 2)):
        for shard in ((1, 2), (1, 1), (2, 3)):
            with pytest.raises(BatchError, match="another batch"):
                FolderLock(tmp_path, shard).__enter__()
    with FolderLock(tmp_path):
        pass


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT / 'tools')!r}); from bench import import_pack; import_pack()\n"
        "from replan.tools.batches.results import FolderLock; from pathlib import Path\n"
        "lock = FolderLock(Path(sys.argv[1])); lock.__enter__(); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout.readline().strip() == "held"
    with pytest.raises(BatchError, match=f"process {process.pid} "):
        FolderLock(tmp_path).__enter__()
    process.kill()
    process.wait()
    with FolderLock(tmp_path):
        assert json.loads((tmp_path / ".batch-1-of-1.lock").read_bytes())["pid"] == os.getpid()


# ---- runs: places that fail, and the order of things


class Place:
    """Stands for a server in tests of the loop alone; fails as it is told."""

    depth = 2

    def __init__(self, name="one", load=0, faults=()):
        self.name = self.about = name
        self.load, self.faults, self.edited, self.up = load, list(faults), [], True

    def busy(self):
        if not self.up:
            raise ServerError("gone")
        return self.load

    def run(self, job, timeout):
        if self.faults:
            fault = self.faults.pop(0)
            if fault:
                raise fault
        self.edited.append(job)
        return Edited([PNG], {}, 0.0)

    def cancel(self):
        pass


def go(tmp_path, places, count=6, **options):
    images(tmp_path, "a.png")
    source = table(tmp_path, "image,id\n" + "".join(f"a.png,{n}\n" for n in range(count)))
    results = Results(tmp_path / "out")
    results.begin()
    said = []
    editor = Editor(Filling(workflow(tmp_path), {"image"}), results)
    run = Run(source.items(), count, places, editor, say=said.append, **options)
    run.run()
    return run, said


def test_a_failed_item_is_tried_again_and_its_reason_kept(tmp_path):
    ran = PromptError("KSampler (node 3): out of memory", "KSampler", "traceback")
    run, said = go(tmp_path, [Place(faults=[ran, None, ran, ran, ran, ran])], count=2, retries=2)
    assert (run.counts.done, run.counts.failed) == (1, 1) and run.counts.again >= 2
    (line,) = (tmp_path / "out" / "errors.jsonl").read_text(encoding="utf-8").splitlines()
    assert "out of memory (tried 3 times)" in json.loads(line)["error"]


def test_a_prompt_that_is_refused_is_not_tried_again(tmp_path):
    run, _ = go(tmp_path, [Place(faults=[PromptError("LoadImage: bad", "LoadImage")])], count=2)
    assert (run.counts.done, run.counts.failed, run.counts.again) == (1, 1, 0)


def test_a_reason_is_told_once_for_rows_in_a_row_and_written_for_each(tmp_path):
    bad = PromptError("UNETLoader (node 6): no such model\nVAELoader (node 8): no such model", "UNETLoader")
    run, said = go(tmp_path, [Place(faults=[bad] * 3)], count=3)
    assert run.counts.failed == 3 and sum("no such model" in line for line in said) == 1
    assert sum(line.endswith("as the row that failed before it") for line in said) == 2
    lines = (tmp_path / "out" / "errors.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["error"] for line in lines] == [str(bad)] * 3


def test_items_of_a_lost_place_go_to_the_others(tmp_path):
    lost, other = Place("lost", faults=[ServerError("gone")] * 9), Place("other", load=1)
    run, said = go(tmp_path, [lost, other], retries=5)
    assert (run.counts.done, run.counts.failed) == (6, 0) and len(other.edited) == 6
    assert any("lost does not answer (gone)" in line for line in said)


def test_the_least_busy_place_is_asked_first(tmp_path):
    busy, idle = Place("busy", load=50), Place("idle")
    go(tmp_path, [busy, idle], count=1)
    assert not busy.edited and len(idle.edited) == 1


def test_a_run_without_any_place_gives_up_and_fails_nothing(tmp_path):
    place = Place()
    place.up = False
    run, _ = go(tmp_path, [place], patience=0)
    assert "no ComfyUI has answered" in run.stopped and run.counts.left == 6 and not run.counts.failed


def test_a_place_that_stays_away_does_not_keep_a_finished_run(tmp_path):
    away = Place("away")
    away.up = False
    begun = time.monotonic()
    run, _ = go(tmp_path, [Place(), away])
    assert run.counts.done == 6 and not run.stopped and time.monotonic() - begun < 20


def test_ctrl_c_keeps_what_is_on_its_way_and_the_next_run_takes_the_rest(tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process begins without

    class Interrupted(Place):
        def run(self, job, timeout):
            if len(self.edited) == 2:
                signal.raise_signal(signal.SIGINT)
            return super().run(job, timeout)

    first = Interrupted()
    run, said = go(tmp_path, [first])
    assert run.stopped == "stopped by Ctrl-C" and 3 <= run.counts.done < 6 and not run.counts.failed
    assert len(list((tmp_path / "out").glob("*/final_result.png"))) == run.counts.done == len(first.edited)
    second = Place()
    after, _ = go(tmp_path, [second])
    assert (after.counts.done, after.counts.kept) == (6 - run.counts.done, run.counts.done)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_done_is_not_done_again(tmp_path):
    go(tmp_path, [Place()])
    (tmp_path / "out" / "3" / "final_result.png").unlink()
    place = Place()
    run, _ = go(tmp_path, [place])
    assert (run.counts.done, run.counts.kept) == (1, 5) and len(place.edited) == 1


@pytest.mark.timed
def test_ten_thousand_items_take_no_memory_and_under_a_millisecond_each(tmp_path):
    images(tmp_path, "a.png")
    (tmp_path / "edit_api.json").write_text(json.dumps(GRAPH), encoding="utf-8")
    rows = "".join(f"a.png,make number {n} red\n" for n in range(10_000))
    (tmp_path / "list.csv").write_text("image,instruction\n" + rows, encoding="utf-8")
    command = [sys.executable, ROOT / "tools" / "batch.py", tmp_path / "edit_api.json", tmp_path / "list.csv"]
    done = subprocess.run(
        [*command, "--dry-run"], capture_output=True, text=True, encoding="utf-8", check=True, timeout=120
    )
    assert "10000 items could be edited, 0 could not" in done.stdout
    each, grown = done.stdout.splitlines()[-1].split(" ms an item, ")
    assert float(each) < 1.0
    assert float(grown.split()[0]) < 3.0


# ---- configuration


@pytest.fixture
def batch(monkeypatch, capsys):
    """The command `tools/batch.py`: its status, and what it printed."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    from batch import main

    return lambda *arguments: (main([*map(str, arguments)]), *capsys.readouterr())


def test_a_configuration_file_gives_options_and_the_command_line_wins(batch, tmp_path):
    images(tmp_path, "a.png", "b.png", "c.png")
    workflow(tmp_path)
    config = {"workflow": str(tmp_path / "edit_api.json"), "source": str(tmp_path), "limit": 1, "dry-run": True}
    (tmp_path / "batch.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "batch.yaml").write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in config.items()), "utf-8")
    for name in ("batch.json", "batch.yaml"):
        assert "1 items could be edited" in batch("--config", tmp_path / name)[1]
    assert "2 items could" in batch("--config", tmp_path / "batch.json", "--limit", 2)[1]


@pytest.mark.parametrize(
    "text",
    [
        '{"headers": {"Authorization": "Bearer sk-verysecret"}, "nope": 1}',
        '{"headers": {"Authorization": "Bearer sk-verysecret"}, "limit": "sk-verysecret"}',
        '{"headers": {"Authorization": "Bearer sk-verysecret"',
        '{"headers": "sk-verysecret"}',
        '{"api_key": "sk-verysecret"}',
        '{"servers": "http://me:sk-verysecret@localhost:1/?token=sk-verysecret"}',
    ],
)
def test_no_message_about_a_configuration_shows_a_key(text, batch, tmp_path):
    images(tmp_path, "a.png")
    workflow(tmp_path)
    for name in ("batch.json", "batch.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        given = (tmp_path / "edit_api.json", tmp_path, "--out", tmp_path / "out", "--config", tmp_path / name)
        status, out, err = batch(*given)
        assert status == 2 and "batch.py:" in err
        assert "verysecret" not in out + err


def test_a_password_leaves_the_address_and_every_text(tmp_path):
    keys = Keys()
    url, headers = server_of('https://me:p%22ss"word@host:8188/comfy/', {"X-Key": "Bearer abcdefgh-1"}, keys)
    assert url == "https://host:8188/comfy" and headers["Authorization"].startswith("Basic ")
    told = json.dumps({"error": 'p"ss"word', "more": "abcdefgh-1", "at": "p%22ss%22word"})
    assert not any(key in keys.hide(told) for key in ("ss", "abcdefgh"))
    results = Results(tmp_path, hide=keys.hide)
    results.begin()
    results.fail(item(), {"id": "a", "error": "refused: abcdefgh-1"})
    assert "abcdefgh" not in "".join(file.read_text(encoding="utf-8") for file in tmp_path.rglob("*.json*"))


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b"])
def test_a_shard_that_is_none_is_refused(shard, batch, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        batch(tmp_path, tmp_path, "--out", tmp_path, "--shard", shard)
    assert "I from 1 to N" in capsys.readouterr().err


def test_time_left_reads_as_people_say_it():
    assert [duration(s) for s in (5, 130, 4000, 200_000)] == ["5 s", "2 min", "1 h 7 min", "2 days 7 h"]


# ---- tables that would be read wrong


def test_a_quote_that_is_never_closed_takes_no_rows_with_it(tmp_path):
    source = table(tmp_path, 'id,image,instruction\na,a.png,fine\nb,b.png,"never closed\nc,c.png,x\n')
    assert [bool(one.fault) for one in source.items()] == [False, True]
    assert "quote a cell whole" in list(source.items())[1].fault
    halved = table(tmp_path, 'id,image,instruction\na,a.png,"Hello" she said\nb,b.png,x\n')
    assert [bool(one.fault) for one in halved.items()] == [True, False]


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_named(tmp_path, name, encoding):
    text = "image,instruction\na.png,x\n" if name.endswith("csv") else '{"image": "a.png"}\n'
    (tmp_path / name).write_bytes(text.encode(encoding))
    with pytest.raises(BatchError, match="save it as UTF-8"):
        Source(tmp_path / name)


# ---- options that would be read wrong, and keys


ALIASES = (
    "[&a [1, 1, 1, 1, 1, 1], &b [*a, *a, *a, *a, *a, *a], &c [*b, *b, *b, *b, *b, *b], &d [*c, *c, *c, *c, *c, *c]]"
)


@pytest.mark.parametrize(
    "text",
    ["out: 2001-99-99", f"limit: {'9' * 5000}", "[" * 5000, f"servers: {ALIASES}", f"set: {ALIASES}", "set: &a [*a]",
     "timeout: .nan", "timeout: -1", "patience: .inf", "threshold: 50", "threshold: .nan", "actors: 0", "out: [[1]]"],
)  # fmt: skip
def test_a_value_that_no_option_can_have_is_refused_before_anything_is_done(tmp_path, text, monkeypatch):
    pytest.importorskip("yaml")
    monkeypatch.syspath_prepend(ROOT / "tools")
    from batch import options

    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BatchError, match="no YAML|cannot have that value") as refused:
        put_into(options(), read_config(tmp_path / "c.yaml"), tmp_path / "c.yaml", ())
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer secret\u2192key"}, {"X": "secretkey\0"}, {"X": "secret\nkey"}, {"Bad name": "secretkey"},
     {"": "secretkey"}, {"X:": "secretkey"}],
)  # fmt: skip
def test_a_header_that_cannot_be_sent_is_refused_and_its_value_not_shown(headers):
    with pytest.raises(BatchError, match="--config: ") as refused:
        headers_in({"headers": headers})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("key", ["12345678", "true", "null", "image", "[]{}:"])
def test_results_stay_json_whatever_a_key_looks_like(tmp_path, key):
    keys = Keys()
    keys.add(key)
    results = Results(tmp_path, hide=keys.hide)
    results.begin()
    record = {"row": 12345678, "plan": None, "fine": True, "error": f"refused: {key}", "columns": {}, "l": []}
    results.save(item(), {"final_result.png": PNG}, record)
    read = json.loads((tmp_path / "a" / "result.json").read_text(encoding="utf-8"))
    assert read["plan"] is None and "***" in read["error"] and key not in read["error"]


@pytest.mark.parametrize("contents", ['{"workflow": "mine"}', '{"workflow": [1]}', "[]", "null", '{"half', ""])
def test_a_result_that_something_else_wrote_down_is_kept_and_ends_nothing(tmp_path, contents):
    images(tmp_path, "a.png")
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "final_result.png").write_bytes(PNG)
    (tmp_path / "out" / "a" / "result.json").write_text(contents, encoding="utf-8")
    editor = Editor(Filling(workflow(tmp_path), {"image"}), Results(tmp_path / "out"))
    run = Run(iter([item()]), 1, [], editor, say=lambda text: None)
    assert run._next() is None and run.counts.kept == 1


@pytest.mark.skipif(sys.platform == "win32", reason="holds the lock by fcntl")
@pytest.mark.parametrize("junk", ["", "null", "[]", '{"half', '{"pid": 1}'])
def test_a_lock_that_says_nothing_of_its_run_is_still_a_lock(tmp_path, junk):
    import fcntl

    (tmp_path / ".batch-1-of-2.lock").write_text(junk, encoding="utf-8")
    with (tmp_path / ".batch-1-of-2.lock").open("a+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BatchError, match="another batch writes into"):
            FolderLock(tmp_path).__enter__()
    with FolderLock(tmp_path):
        pass

"""Tables of judged edits against numbers worked out by hand, and pages on which people vote."""

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from replan.evaluation.scores import QUESTIONS
from replan.tools.batches.items import BatchError
from replan.tools.iv_edit import preference, published
from replan.tools.iv_edit.figures import COLUMNS, as_upstream, mean_of, means, of_means, paired, totals
from replan.tools.iv_edit.records import read_records
from replan.tools.iv_edit.report import main, methods_of, read_method, summary
from replan.tools.iv_edit.tables import markdown


def row(target, effect, consistency, quality):
    return {"target": target, "effect": effect, "consistency": consistency, "quality": quality}


def run_of(tmp_path: Path, **methods) -> Path:
    """A run's folder. methods: by name, the answers of each record; None: no image, (): an image, not judged."""
    kinds = [("Spatial", "Add"), ("Spatial", "Delete"), ("Feature", "Add"), ("", "Add")]
    Image.new("RGB", (4, 4)).save(tmp_path / "before.png")
    records = [
        {"id": str(n), "name": str(n), "row": n, "image": str(tmp_path / "before.png"), "instruction": f"do <b>{n}</b>",
         "referring_type": kinds[n][0], "task_type": kinds[n][1]} for n in range(4)
    ]  # fmt: skip
    (tmp_path / "records").mkdir()
    text = "".join(json.dumps(one) + "\n" for one in records)
    (tmp_path / "records" / "records.jsonl").write_text(text, encoding="utf-8")
    for name, rows in methods.items():
        for number, answers in enumerate(rows):
            if answers is not None:
                edited(tmp_path / name / str(number), answers, len(name))
    return tmp_path


def edited(folder: Path, answers, shade: int) -> None:
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(folder / "final_result.png")
    if answers != ():
        digest = hashlib.sha256((folder / "final_result.png").read_bytes()).hexdigest()
        told = {"scores": {"image": answers}, "provider": "openai", "model": "m", "image_sha256": digest}
        (folder / "judge.json").write_text(json.dumps(told), encoding="utf-8")


# ---- numbers


def test_weighted_of_the_published_example():
    found = totals(row(target=5, effect=3, consistency=5, quality=4))
    assert found["weighted"] == pytest.approx(3.35) and found["overall"] == pytest.approx(4.25)
    assert found["weighted_paper"] == pytest.approx((5 + 3 + 4 + 0.6 * 5) / 4)


def test_a_total_needs_all_four_answers_and_upstreams_way_counts_zero():
    part = {"target": 5, "consistency": 5, "quality": 4}
    assert set(totals(part)) == {"target", "consistency", "quality"}
    zeros = as_upstream(part)
    assert (zeros["effect"], zeros["overall"], zeros["weighted"]) == (0, 14 / 4, 5 / 4)
    assert set(as_upstream({}).values()) == {0.0}


def test_mean_and_standard_error_by_hand():
    assert mean_of([1, 3, 5]) == (3, pytest.approx(2 / math.sqrt(3)), 3)
    assert mean_of([2]) == (2, None, 1) and mean_of([]) == (None, None, 0)
    assert str(mean_of([1, 3, 5])) == "3.00 ± 1.15" and str(mean_of([])) == "-"


def test_the_mean_of_rows_is_not_the_formula_on_means():
    rows = [totals(row(5, 5, 5, 5)), totals(row(1, 1, 1, 1))]
    columns = means(rows)
    # rows: 5 and (1 + 1 + 0.2 + 0.2) / 4 = 0.6; on the means: (3 + 3 + 0.6 * 3 + 0.6 * 3) / 4 = 2.4
    assert columns["weighted"].value == pytest.approx(2.8) and of_means(columns) == pytest.approx(2.4)


def test_published_weighted_lies_just_above_the_codes_formula_on_published_means():
    for name, values in published.TABLE.items():
        columns = {key: mean_of([value]) for key, value in zip(published.COLUMNS, values, strict=True)}
        assert 0.01 <= columns["weighted"].value - of_means(columns) <= 0.105, name
        assert of_means(columns, "paper") > columns["weighted"].value, name


numbers = st.lists(st.floats(0, 5), min_size=2, max_size=20)


@given(numbers, st.floats(-3, 3))
def test_a_shift_moves_the_mean_and_leaves_its_error(values, shift):
    one, other = mean_of(values), mean_of([value + shift for value in values])
    assert other.value == pytest.approx(one.value + shift, abs=1e-9)
    assert other.error == pytest.approx(one.error, abs=1e-9)


@given(numbers)
def test_the_error_of_everything_twice_is_the_known_share(values):
    count = len(values)
    share = math.sqrt((count - 1) / (2 * count - 1))
    assert mean_of(values * 2).error == pytest.approx(mean_of(values).error * share, abs=1e-9)


scale = st.sampled_from([1.0, 3.0, 5.0])
answers = st.fixed_dictionaries({}, optional={name: scale for name in QUESTIONS})


@given(
    st.dictionaries(st.text(max_size=3), answers, max_size=8), st.dictionaries(st.text(max_size=3), answers, max_size=8)
)
def test_a_difference_is_over_records_that_both_have_and_turns_with_its_sides(one, other):
    one, other = ({name: totals(row) for name, row in rows.items()} for rows in (one, other))
    for column in COLUMNS:
        there, back = paired(one, other, column), paired(other, one, column)
        both = sum(column in row and column in other.get(name, {}) for name, row in one.items())
        assert there.mean.count == back.mean.count == both
        assert (there.better, there.worse) == (back.worse, back.better)
        if both:
            assert there.mean.value == pytest.approx(-back.mean.value, abs=1e-12)


@given(answers)
def test_upstreams_way_never_gives_more_than_a_full_row_and_equals_it_where_all_is_answered(given):
    ours, theirs = totals(given), as_upstream(given)
    for name, value in ours.items():
        assert theirs[name] == pytest.approx(value)
    assert set(theirs) == {*QUESTIONS, "overall", "weighted", "weighted_paper"}


# ---- tables


def test_tables_hold_the_means_groups_and_differences_worked_out_by_hand(tmp_path):
    plain = [row(5, 3, 1, 2), row(1, 1, 1, 1), row(5, 5, 3, 4), None]
    replan = [row(5, 3, 5, 4), row(5, 5, 5, 5), {"target": 5, "effect": 5, "quality": 3}, ()]
    run = run_of(tmp_path, plain=plain, replan=replan)
    records = read_records(run)
    methods = [read_method(name, folder, records) for name, folder in methods_of(run).items()]
    found = summary(methods, records, "plain")
    told = found["methods"]["plain"]
    # Weighted by row: (5 + 3 + .6 * 2 + .6 * 1) / 4 = 2.45, (1 + 1 + .2 + .2) / 4 = 0.6, (5 + 5 + 4 + 3) / 4 = 4.25
    assert told["columns"]["weighted"] == pytest.approx(
        {"mean": 7.3 / 3, "n": 3, "error": math.sqrt(6.661667 / 6)}, abs=1e-6
    )
    assert told["columns"]["overall"]["mean"] == pytest.approx((2.75 + 1 + 4.25) / 3)
    assert told["left_out"] == {"no image": 1} and told["complete"] == 3
    assert told["by"]["referring_type"]["Spatial"]["overall"] == pytest.approx({"mean": 1.875, "error": 0.875, "n": 2})
    assert told["by"]["task_type"]["Add"]["overall"]["mean"] == pytest.approx((2.75 + 4.25) / 2)
    told = found["methods"]["replan"]
    assert told["without_answer"] == {"consistency": 1} and told["left_out"] == {"not judged": 1}
    assert (told["complete"], told["judged"], told["columns"]["target"]["n"]) == (2, 3, 3)
    change = {one["score"]: one for one in found["paired"]}
    assert {(one["method"], one["against"]) for one in found["paired"]} == {("replan", "plain")}
    assert (change["target"]["mean"], change["target"]["n"], change["target"]["better"]) == (pytest.approx(4 / 3), 3, 1)
    # Overall of the two records that both have whole: 4.25 - 2.75 and 5 - 1
    assert change["overall"] == pytest.approx(
        {"method": "replan", "against": "plain", "score": "overall", "mean": 2.75, "error": 1.25, "n": 2, "better": 2,
         "worse": 0, "standard_errors": 2.2}
    )  # fmt: skip


def test_the_page_says_what_has_no_answer_and_names_published_numbers_as_published(tmp_path, capsys):
    run = run_of(tmp_path, plain=[row(5, 3, 1, 2), row(1, 1, 1, 1)], other=[row(5, 5, 5, 5), {"target": 5}])
    assert main([str(run), "--published"]) == 0
    text = (run / "report.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    assert "| other | 1 | 5.00 | 5.00 ± 0.00 (n = 2) | 5.00 | 5.00 | 5.00 | 5.00 | 5.00 |" in text
    assert "| other | 2 | 0 | 1 | 1 | 1 | 2 |" in text
    assert "published: RePlan" in text and "not measured here" in text
    main([str(run)])
    assert "published" not in (run / "report.md").read_text(encoding="utf-8").lower().replace("published code", "")
    assert main([str(run), "--against", "nobody"]) == 2 and "no such method" in capsys.readouterr().err


def test_two_judges_in_one_table_are_told(tmp_path):
    run = run_of(tmp_path, plain=[row(5, 3, 1, 2)], other=[row(5, 5, 5, 5)])
    file = run / "other" / "0" / "judge.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"m"', '"n"'), encoding="utf-8")
    records = read_records(run)
    methods = [read_method(name, folder, records) for name, folder in methods_of(run).items()]
    assert "several judges" in markdown(summary(methods, records))


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda place: Image.new("RGB", (5, 5)).save(place / "final_result.png"), "judged before the image changed"),
        (lambda place: (place / "judge.json").write_text("{", encoding="utf-8"), "cannot be read"),
        (lambda place: (place / "judge.json").write_text("[1]", encoding="utf-8"), "cannot be read"),
        (lambda place: (place / "judge.json").unlink(), "not judged"),
        (lambda place: (place / "final_result.png").unlink(), "no image"),
    ],
)
def test_scores_that_cannot_be_trusted_do_not_count(harm, why, tmp_path):
    run = run_of(tmp_path, plain=[row(5, 3, 1, 2), row(5, 5, 5, 5)])
    harm(run / "plain" / "0")
    method = read_method("plain", run / "plain", read_records(run))
    assert set(method.rows) == {"1"} and why in method.others["0"]


def test_measures_stand_in_the_report_until_an_image_changes(tmp_path, capsys):
    run = run_of(tmp_path, plain=[row(5, 3, 1, 2), row(1, 1, 1, 1)])
    images = {
        name: hashlib.sha256((run / "plain" / name / "final_result.png").read_bytes()).hexdigest() for name in "01"
    }
    rows = {"0": {"clip_i": 0.5}, "1": {"clip_i": 0.7}}
    together = {"fid": {"value": 12.5, "n": 2, "encoder": "e"}}
    told = {"records": rows, "images": images, "encoders": {"clip_i": "c"}, "together": together}
    (run / "plain" / "metrics.json").write_text(json.dumps(told), encoding="utf-8")
    assert main([str(run)]) == 0
    assert "| plain | 0.6000 ± 0.1000 (n = 2) | 12.5000 (n = 2) |" in capsys.readouterr().out
    Image.new("RGB", (5, 5)).save(run / "plain" / "1" / "final_result.png")
    assert main([str(run)]) == 2
    assert "was measured before 1 images changed (1); run metrics.py again" in capsys.readouterr().err


def test_what_upstreams_own_judge_wrote_is_read(tmp_path):
    run = run_of(tmp_path, theirs=[(), ()])
    told = {
        "quality": {"quality_score": 4}, "target_following": {"target_score": 5}, "effect": {"effect_score": 3},
        "consistency": {"consistency_score": None},
    }  # fmt: skip
    file = run / "theirs" / "0" / "gemini_evaluation_result.json"
    file.write_text(json.dumps({"evaluation": {"dimensional_evals": told}}), encoding="utf-8")
    method = read_method("theirs", run / "theirs", read_records(run))
    assert method.rows["0"] == {"quality": 4, "target": 5, "effect": 3} and method.lost["0"] == ("consistency",)


def test_upstreams_way_of_counting_is_a_choice(tmp_path):
    run = run_of(tmp_path, plain=[row(5, 5, 5, 5), {"target": 5}, None, ()])
    assert main([str(run), "--as-upstream"]) == 0
    found = json.loads((run / "report.json").read_text(encoding="utf-8"))["methods"]["plain"]["columns"]
    assert found["target"]["mean"] == 2.5 and found["overall"]["mean"] == (5 + 1.25) / 4


def test_options_come_from_a_configuration_file_too(tmp_path, capsys):
    run = run_of(tmp_path, plain=[row(5, 3, 1, 2)], other=[row(5, 5, 5, 5)])
    file = tmp_path / "report.json5.json"
    file.write_text(json.dumps({"run": str(run), "against": "plain", "published": True}), encoding="utf-8")
    assert main(["--config", str(file)]) == 0
    assert "other - plain" in capsys.readouterr().out
    file.write_text(json.dumps({"api_key": "secret"}), encoding="utf-8")
    assert main(["--config", str(file)]) == 2
    assert "secret" not in capsys.readouterr().err


# ---- regions and texts


def test_regions_and_texts_are_shares_of_records_and_only_of_the_image_that_is_there(tmp_path):
    run = run_of(tmp_path, plain=[row(5, 3, 1, 2), row(5, 5, 5, 5), ()])
    regions = [{"r1": {"done": 1.0, "kept": 1.0}, "r2": {"done": 0.0}}, {"r1": {"done": 1.0}}]
    for number, answers in enumerate(regions):
        file = run / "plain" / str(number) / "judge.json"
        data = json.loads(file.read_text(encoding="utf-8"))
        data["scores"]["regions"] = answers
        file.write_text(json.dumps(data), encoding="utf-8")
    for number, exact in enumerate((True, False, True)):
        place = run / "plain" / str(number)
        digest = hashlib.sha256((place / "final_result.png").read_bytes()).hexdigest() if number < 2 else "another"
        text = json.dumps({"text_exact": exact, "by": "rapidocr", "image_sha256": digest})
        (place / "text.json").write_text(text, encoding="utf-8")
    records = read_records(run)
    found = summary([read_method("plain", run / "plain", records)], records)
    told = found["methods"]["plain"]
    assert told["regions"]["done"] == pytest.approx({"mean": 0.75, "error": 0.25, "n": 2})
    assert (told["regions"]["kept"]["mean"], told["regions"]["kept"]["n"]) == (1, 1)
    assert told["text"] == {"mean": 0.5, "error": 0.5, "n": 2, "by": "rapidocr"}
    text = markdown(found)
    assert "| plain | 0.75 ± 0.25 (n = 2) | 1.00 (n = 1) | - (n = 0) |" in text
    assert "| plain | 0.50 ± 0.50 (n = 2) |" in text


# ---- preference


def page_of(tmp_path, seed=0):
    run = run_of(tmp_path, plain=[()] * 4, replan=[()] * 4)
    out = tmp_path / f"page{seed}"
    folders = methods_of(run)
    return run, out, preference.make(read_records(run), folders, out, seed)


def test_a_page_tells_nobody_which_edit_is_whose(tmp_path):
    _, out, count = page_of(tmp_path)
    text = (out / "index.html").read_text(encoding="utf-8")
    assert count == 4 and text.count("<section") == 4
    for told in (text, " ".join(file.name for file in out.iterdir())):
        assert "plain" not in told and "replan" not in told
    assert "http" not in text and "do &lt;b&gt;" in text and "<b>" not in text
    key = json.loads(preference.key_of(out).read_text(encoding="utf-8"))
    for name, pair in key["pairs"].items():
        for side in ("left", "right"):
            given = tmp_path / pair[side] / pair["id"] / "final_result.png"
            assert (out / f"{name}_{side}.png").read_bytes() == given.read_bytes()


def test_the_order_follows_from_the_seed(tmp_path):
    run, out, _ = page_of(tmp_path)
    first = preference.key_of(out).read_text(encoding="utf-8")
    records, folders = read_records(run), methods_of(run)
    preference.make(records, folders, out, 0)
    assert preference.key_of(out).read_text(encoding="utf-8") == first
    sides = set()
    for seed in range(1, 9):
        preference.make(records, folders, out, seed)
        pairs = json.loads(preference.key_of(out).read_text(encoding="utf-8"))["pairs"]
        sides |= {(pair["id"], pair["left"]) for pair in pairs.values()}
    assert len(sides) == 8, "each record has each method on the left for some seed"


def test_votes_are_read_back_and_others_pages_votes_refused(tmp_path, capsys):
    _, out, _ = page_of(tmp_path)
    key = json.loads(preference.key_of(out).read_text(encoding="utf-8"))
    for_replan = {name: "left" if pair["left"] == "replan" else "right" for name, pair in key["pairs"].items()}
    votes = {"page": key["page"], "votes": {**for_replan, "p0001": "same"}}
    found = preference.read(key, [votes])
    assert found["counts"] == {"plain": 0, "replan": 3, "same": 1}
    assert found["share"] == pytest.approx(3.5 / 4) and found["error"] == pytest.approx(0.125)
    others = [{"page": key["page"], "votes": {"p0002": for_replan["p0002"]}}] * 8
    again = preference.read(key, [votes, *others])
    assert (again["votes"], again["pairs"]) == (12, 4)
    assert (again["share"], again["error"]) == (found["share"], found["error"]), "votes on one pair are one"
    (tmp_path / "votes.json").write_text(json.dumps(votes), encoding="utf-8")
    assert preference.main(["read", str(preference.key_of(out)), str(tmp_path / "votes.json")]) == 0
    assert "replan was preferred in 0.88 ± 0.12 of 4 pairs, by 4 votes" in capsys.readouterr().out
    for wrong in ({"page": "x", "votes": {}}, [], {"page": key["page"], "votes": {"p9": "left"}},
                  {"page": key["page"], "votes": {"p0001": "plain"}}):  # fmt: skip
        with pytest.raises(BatchError, match="page"):
            preference.read(key, [wrong])


def test_no_pair_no_page(tmp_path):
    run = run_of(tmp_path, plain=[(), None], replan=[None, ()])
    with pytest.raises(BatchError, match="no record has an image of both"):
        preference.make(read_records(run), methods_of(run), tmp_path / "page")


# ---- what is no score, and pages that are alike


@pytest.mark.parametrize("bad", [math.nan, math.inf, 7, -1, 0])
def test_an_answer_off_the_scale_is_none_and_spoils_no_mean(tmp_path, bad):
    run = run_of(tmp_path, plain=[row(5, bad, 5, 4), row(5, 3, 5, 4), None, None])
    method = read_method("plain", run / "plain", read_records(run))
    assert method.lost == {"0": ("effect",)} and "effect" not in method.rows["0"]
    found = summary([method], read_records(run))
    assert found["methods"]["plain"]["columns"]["effect"] == {"mean": 3.0, "error": None, "n": 1}
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    "scores", [[], "x", {"image": row(5, 3, 5, 4), "regions": {"r1": {"done": "yes", "kept": None}}}]
)
def test_scores_of_another_shape_end_no_report(tmp_path, scores):
    run = run_of(tmp_path, plain=[row(5, 3, 5, 4), row(5, 3, 5, 4), None, None])
    file = run / "plain" / "0" / "judge.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "scores": scores}), encoding="utf-8")
    assert main([str(run)]) == 0


def test_a_measure_that_is_nan_is_left_out(tmp_path):
    run = run_of(tmp_path, plain=[row(5, 3, 5, 4), row(5, 3, 5, 4), None, None])
    told = {"records": {"0": {"clip_t": math.nan}, "1": {"clip_t": 0.5}}, "encoders": {"clip_t": "e"}, "images": {},
            "together": {"fid": {"value": math.nan, "n": 2, "encoder": "e"}}}  # fmt: skip
    (run / "plain" / "metrics.json").write_text(json.dumps(told), encoding="utf-8")
    assert main([str(run)]) == 0
    found = json.loads((run / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert found["metrics"]["plain"] == {"clip_t": {"mean": 0.5, "error": None, "n": 1, "encoder": "e"}}


def test_results_from_elsewhere_take_no_name_that_is_there(tmp_path):
    run = run_of(tmp_path, plain=[row(5, 3, 5, 4), None, None, None])
    for name in ("plain", ""):
        with pytest.raises(BatchError, match="choose another name"):
            methods_of(run, [f"{name}={run / 'plain'}"])


def test_votes_on_one_page_do_not_count_on_another_with_the_same_seed(tmp_path):
    all_there = [row(5, 3, 5, 4)] * 4
    run = run_of(tmp_path, plain=all_there, replan=all_there, third_one=all_there)
    keys = []
    for number, (first, second) in enumerate((("plain", "replan"), ("plain", "third_one"), ("plain", "replan"))):
        folders = {name: run / name for name in (first, second)}
        preference.make(read_records(run), folders, tmp_path / f"page{number}")
        keys.append(json.loads((tmp_path / f"page{number}.key.json").read_text(encoding="utf-8")))
    assert keys[0]["page"] == keys[2]["page"] != keys[1]["page"]
    with pytest.raises(BatchError, match="no votes of page"):
        preference.read(keys[1], [{"page": keys[0]["page"], "votes": {"p0001": "left"}}])


@pytest.mark.parametrize("key", [[], {}, "x", {"page": "p", "votes": {}}])
def test_a_file_that_is_no_key_is_refused(key):
    with pytest.raises(BatchError, match="no key of a page"):
        preference.read(key, [])


def test_an_instruction_is_text_on_a_page_and_never_html(tmp_path):
    run = run_of(tmp_path, plain=[row(5, 3, 5, 4)] * 4, replan=[row(5, 3, 5, 4)] * 4)
    file = run / "records" / "records.jsonl"
    evil = "</p><script>alert(1)</script>{total}\" onload='x' &amp; <img src=x onerror=y>"
    rows = [json.loads(line) | {"instruction": evil} for line in file.read_text(encoding="utf-8").splitlines()]
    file.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    preference.make(read_records(run), {name: run / name for name in ("plain", "replan")}, tmp_path / "page")
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert page.count("<script>") == 1 and "<img src=x" not in page and "onload='" not in page and "{total}" in page


def test_a_console_without_the_signs_ends_no_tool(tmp_path):
    run = run_of(tmp_path, plain=[row(5, 3, 5, 4), row(1, 3, 5, 4), None, None])
    tool = Path(__file__).resolve().parents[2] / "tools" / "iv_edit" / "report.py"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, str(tool), str(run)], capture_output=True, encoding="ascii", env=environment)
    assert done.returncode == 0, done.stderr[-500:]
    assert "\\xb1" in done.stdout

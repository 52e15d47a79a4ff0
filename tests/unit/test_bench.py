"""The benchmark's results have the agreed shape, and its report says when a target is missed."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
import bench
import bench_report

ATTENTION = {
    "tokens", "regions", "plain_no_hints", "plain", "grouped", "dense", "flex", "grouped_extra_mib", "dense_extra_mib",
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    sizes = ["--sides", "6", "--regions", "3", "--overlaps", "5", "--hints", "4,20", "--rounds", "2"]
    assert (
        bench.main(["--here", "--device", "cpu", "--only", "attention", "--no-flex", *sizes, "--json", str(file)]) == 0
    )
    return json.loads(file.read_text(encoding="utf-8"))


def test_results_have_the_agreed_keys(results):
    assert set(results) == {"machine", "attention", "step", "report", "import"}
    assert results["step"] == results["report"] == []
    assert len(results["attention"]) == 4
    for row in results["attention"]:
        assert set(row) >= ATTENTION
        assert row["tokens"] == 2 * 36 + 256 + row["regions"] * row["hint_tokens"]
        assert row["flex"] is None
        for name in ("plain_no_hints", "plain", "grouped", "dense"):
            assert 0 < row[name] < 5


def test_what_is_timed_computes_the_same(results):
    assert all(row["largest_difference"] < 1e-5 for row in results["attention"])


def test_the_dense_mask_and_its_copy_as_floats_are_seen_in_the_memory(results):
    for row in results["attention"]:
        assert row["kept_dense_bytes"] == row["tokens"] ** 2
        assert row["dense_extra_mib"] * 2**20 >= 4 * row["tokens"] ** 2


def test_a_ratio_is_the_median_of_the_ratios_of_each_round():
    from bench_timing import Rounds

    ran = Rounds({"a": [1.0, 20.0, 3.0], "b": [1.0, 10.0, 1.0]})
    assert ran.ratio("a", "b") == 2.0
    assert ran.median("a") == 3.0
    assert ran.ratio("a", "flex") is None and ran.median("flex") is None


def test_the_worst_row_decides_whether_a_target_is_met(results):
    rows = [{**row, "tokens": 5000, "overlap": False, "groups": 7} for row in results["attention"][:2]]
    rows[0]["regions"] = rows[1]["regions"] = 3
    for row, ratio in zip(rows, (1.01, 1.2), strict=True):
        row["ratios"] = {**row["ratios"], "grouped/plain": ratio, "dense/grouped": 1.3}
    found = {target.what: target for target in bench_report.targets({**results, "attention": rows})}
    assert found["grouped / plain, 3 separate regions"].worst == 1.2
    assert found["grouped / plain, 3 separate regions"].met is False
    assert found["grouped / plain, 16 separate regions"].met is None
    assert found["dense / grouped, separate regions"].met is True


def test_the_tables_have_a_row_for_each_measurement(results):
    step = {
        "family": "flux", "regions": 3, "tokens": 5000, "hint_tokens": 256, "layers": {"depth": 1}, "rounds": 2,
        "plain": 0.5, "rules": 0.51, "ratio": 1.02,
    }  # fmt: skip
    text = bench_report.markdown({**results, "step": [step]})
    for table in text.split("\n\n")[3:6:2]:
        assert len(table.splitlines()) == 2 + len(results["attention"])
    assert "| flux | 1 | 5,000 | 3 | 256 | 500 | 510 | 1.02 |" in text

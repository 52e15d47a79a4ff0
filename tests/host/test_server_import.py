"""The pack adds next to nothing to the start of ComfyUI: `python tools/bench.py --only import` says how much."""

import sys

from replan.tools.bench_import import import_once

# What only a run needs; each is large, or loads what is large.
WITH_THE_FIRST_RUN = {
    "replan.attention.override",
    "replan.attention.wrappers",
    "replan.evaluation.alignment",
    "replan.evaluation.judge",
    "replan.planner.models.folder_model",
    "replan.planner.models.host",
    "replan.planner.replies.json_texts",
}


def test_importing_the_pack_and_all_its_nodes_loads_no_package_and_no_part_that_a_run_needs(comfyui_dir):
    found = import_once(comfyui_dir)
    assert found.nodes > 0
    packages = {name.split(".")[0] for name in found.modules} - {"replan", *sys.stdlib_module_names}
    assert not packages, "packages that ComfyUI has not loaded"
    assert "replan.nodes.judge" in found.modules
    assert not WITH_THE_FIRST_RUN & set(found.modules)

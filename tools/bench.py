"""What region rules cost: `python tools/bench.py`, about half an hour; `--quick`, under 3 minutes on two cores.

Attention under the rules is timed in turn with its alternatives in one process, then one whole model step of each
family with and without rules, then, on the CPU, an edit report and the pack's import. Sets up ComfyUI if need be. With
a CUDA device it uses the sizes of the real models, else few heads. docs/benchmark.md says what each figure means.

Examples:  python tools/bench.py --quick --json bench.json
           python tools/bench.py --markdown             tables for the docs, after the run
           python tools/bench.py --from bench.json --markdown
           python tools/bench.py --threads 1 --clock cpu   on a machine with other work
           python tools/bench.py --try _CALL=20            another threshold in attention/grouping.py
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import bench_report as report
from host_setup import HOME, ROOT, add_arguments, comfyui_version, host_from, python_of

QUICK_SECONDS = 165.0
STEP_SHARE = 0.38  # of the quick run's time
FULL_FLEX_SECONDS, QUICK_FLEX_SECONDS = 120.0, 30.0


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="fewer cases, and fewer rounds when time runs out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/benchmark.md at the end")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="report earlier results, measure nothing"
    )
    parser.add_argument("--only", choices=("attention", "step", "report", "import"), help="leave the other parts out")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="seconds of the wall or of the process"
    )
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each method (default: 15)")
    parser.add_argument(
        "--sides", type=_numbers, metavar="N,..", help="patches along a side of the image (L is about twice its square)"
    )
    parser.add_argument("--regions", type=_numbers, metavar="N,..", help="numbers of separate regions")
    parser.add_argument("--overlaps", type=_numbers, metavar="N,..", help="numbers of overlapping regions")
    parser.add_argument(
        "--hints", type=_numbers, metavar="N,..", help="tokens of a hint: 24 is trimmed, 256 Flux.1's padding"
    )
    parser.add_argument(
        "--try",
        dest="tried",
        type=_constants,
        metavar="NAME=N,..",
        default={},
        help="other thresholds than those in attention/grouping.py",
    )
    parser.add_argument("--no-flex", action="store_true", help="leave FlexAttention out")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # this Python has everything
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _constants(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in (part.split("=") for part in text.split(","))}


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    args = options().parse_args(arguments)
    if args.source:
        results = json.loads(args.source.read_text(encoding="utf-8"))
    elif args.here:
        results = Bench(args).run()
    else:
        host = host_from(args)
        return subprocess.call([str(host.python), __file__, "--here", *arguments], env=host.environment())
    if args.json and not args.source:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print("\n".join(report.target_lines(results)), flush=True)
    if args.markdown:
        print("\n" + report.markdown(results))
    return 0


class Bench:
    """One run, in the process that has torch and ComfyUI."""

    def __init__(self, args: argparse.Namespace):
        self.begun = time.perf_counter()
        # Both are read when torch is loaded. A thread that waits for another spins, and on a machine with other work
        # that holds up the very thread it waits for, so many short calls look far slower than one long one.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would report a missing GPU
        import_pack()
        import torch
        from bench_timing import Clock

        self.args = args
        if args.threads:
            torch.set_num_threads(args.threads)
        cuda = torch.cuda.is_available() if args.device == "auto" else args.device == "cuda"
        self.device = torch.device("cuda" if cuda else "cpu")
        self.clock = Clock(self.device, args.clock)
        self.comfyui = Path(os.environ.get("REPLAN_COMFYUI") or ROOT / ".host" / "comfyui-0.30")
        self.heads, self.width, self.dtype = (24, 128, torch.bfloat16) if cuda else (4, 64, torch.float32)
        from replan.attention import grouping

        for name, value in args.tried.items():
            if not isinstance(getattr(grouping, name, None), (int, float)):
                sys.exit(f"--try: attention/grouping.py has no number {name}")
            setattr(grouping, name, value)

    def run(self) -> dict:
        import torch

        results: dict = {"machine": self.machine(), "attention": [], "step": [], "report": [], "import": []}
        print(report.machine_line(results["machine"]), flush=True)
        if self.args.only in (None, "attention"):
            for row in self.attention():
                results["attention"].append(row)
                print(report.attention_line(row), flush=True)
        if self.args.only in (None, "step"):
            for row in self.steps():
                results["step"].append(row)
                print(report.step_line(row), flush=True)
        if self.args.only in (None, "report"):
            from bench_evaluation import measure
            from bench_timing import Clock

            for row in measure(Clock(torch.device("cpu"), self.args.clock), self.args.rounds, 5.0):
                results["report"].append(row)
                print(report.report_line(row), flush=True)
        if self.args.only in (None, "import"):
            import bench_import

            for row in bench_import.measure(self.comfyui, 3 if self.args.quick else 9):
                results["import"].append(row)
                print(report.import_line(row), flush=True)
        return results

    def left(self) -> float:
        """Seconds that are left of a quick run."""
        if not self.args.quick:
            return float("inf")
        return max(0.0, QUICK_SECONDS - (time.perf_counter() - self.begun))

    def machine(self) -> dict:
        import torch
        from replan.attention import grouping

        return {
            "cpu": f"{os.cpu_count()}-core CPU ({_cpu_name()})",
            "gpu": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None,
            "device": self.device.type,
            "system": platform.platform(terse=True),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "comfyui": comfyui_version(self.comfyui),
            "threads": torch.get_num_threads(),
            "dtype": str(self.dtype).removeprefix("torch."),
            "heads": self.heads,
            "head_dim": self.width,
            "thresholds": {
                name: value
                for name, value in vars(grouping).items()
                if name.isupper() and isinstance(value, (int, float))
            },
            "clock": self.args.clock,
            "omp_wait_policy": os.environ["OMP_WAIT_POLICY"],
            "quick": self.args.quick,
            "date": datetime.date.today().isoformat(),
        }

    def cases(self) -> list:
        """The attention calls to time. Long hints at the larger size cost minutes each, so there are few."""
        from bench_attention import Case

        args, gpu = self.args, self.device.type == "cuda"
        main = 512 if gpu else 256
        sides = args.sides or ([64] if gpu else [46] if args.quick else [46, 66])
        regions = [1, 3, 8, 16, 32] if args.regions is None else args.regions
        overlaps = ([32] if args.quick else [16, 32]) if args.overlaps is None else args.overlaps
        # With 64 tokens a hint, 8 regions on a GPU make the 9,216 tokens of the target.
        hints = args.hints or ([24, 64, 256] if gpu else [24, 256])
        cases = [
            Case(side, count, overlap, hint, main)
            for side in sides
            for hint in hints
            for overlap, counts in ((False, regions), (True, overlaps))
            for count in counts
        ]
        if args.hints is None and not gpu:
            short = {3} if args.quick else {3, 8}
            long = [case for case in cases if case.hint > 64 and (args.quick or case.side > 50)]
            cases = [case for case in cases if case not in long or (case.regions in short and not case.overlap)]
        return cases

    def attention(self):
        from bench_attention import Shape, flex_problem, measure

        shape = Shape(self.heads, self.width, self.dtype, self.device)
        cases = self.cases()
        later = 0.0 if self.args.only else STEP_SHARE * self.left()
        for number, case in enumerate(cases):
            cost = case.tokens**2 / sum(other.tokens**2 for other in cases[number:])
            # Compiling takes 10 to 30 s for each length, so a quick run does it once.
            flex = not self.args.no_flex and (not self.args.quick or (case.regions == 3 and case.hint < 64))
            problem = (
                flex_problem(case.tokens, shape, QUICK_FLEX_SECONDS if self.args.quick else FULL_FLEX_SECONDS)
                if flex
                else None
            )
            if problem:
                print(f"FlexAttention is left out at {case.tokens} tokens: {problem}", flush=True)
            yield measure(
                case, shape, self.clock, self.args.rounds, (self.left() - later) * cost,
                flex=flex and not problem, no_masks=not self.args.quick,
            )  # fmt: skip

    def steps(self):
        import logging

        import bench_step

        logging.disable(logging.WARNING)
        bench_step.import_host(self.comfyui, self.device.type == "cpu")
        real = self.device.type == "cuda"
        side = (self.args.sides or ([64] if real else [46]))[0]
        counts = [
            count
            for count in ([3] if self.args.quick else [3, 8, 16])
            if not self.args.regions or count in self.args.regions
        ]
        for number, family in enumerate(bench_step.FAMILIES):
            model, layers = bench_step.make_model(family, self.device, real)
            limit = self.left() / (len(bench_step.FAMILIES) - number)
            yield from bench_step.measure(family, model, layers, counts, side, self.clock, self.args.rounds, limit)
            del model
            bench_step.forget_models()


def import_pack(needs: str = "") -> None:
    """Make this checkout importable as the package `replan`, whatever its folder is called.

    needs: a module that ComfyUI's Python has; a command that was started by another one ends with what to do.
    """
    if needs and importlib.util.find_spec(needs) is None:
        sys.exit(
            f"{Path(sys.argv[0]).name} needs ComfyUI's Python, and this one has no {needs}. Start it with "
            f"{python_of(HOME / 'venv')} (`python tools/host_setup.py` makes that), or with the Python of your ComfyUI"
        )
    if "replan" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "replan", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["replan"] = module
    spec.loader.exec_module(module)


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())

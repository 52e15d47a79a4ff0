"""Train a planner by GRPO: `python tools/training/grpo.py --config tools/training/grpo/toy_stage1.yaml --model BASE`.

A YAML file holds a stage's settings: those of tools/training/grpo/options.py and TRL's GRPOConfig. What the command
line names counts more. The same command goes on where it was stopped. TRL comes into an environment below .host/ on
first use, unless this Python has it. docs/training.md has more.

    python tools/training/grpo.py --config tools/training/grpo/toy_stage1.yaml --model out/base --output_dir out/one
    accelerate launch --config_file tools/training/grpo/fsdp2.yaml tools/training/grpo.py --config ... --model ...
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the folder of this script has a package of its name
from bench import import_pack  # noqa: E402

import_pack()


def main() -> int:
    if importlib.util.find_spec("trl") is None:
        from replan.tools.batches.items import BatchError
        from replan.tools.own_environment import run_there
        from replan.tools.training.grpo.environment import NAME, PACKAGES

        try:
            return run_there(__file__, sys.argv[1:], NAME, PACKAGES, beside=True)
        except BatchError as error:
            print(f"grpo.py: {error}", file=sys.stderr)
            return 2
    from replan.tools.training.grpo.stage import main as train

    return train(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

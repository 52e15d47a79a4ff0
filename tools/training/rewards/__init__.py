"""What a reply of the planner earns in training (GRPO): pure functions of texts and scores, without torch.

    tags -> editing, detection -> planning -> router

`compute_score_unified` routes by `task_name`, as `stage1_reward` does for one reply without its image; the others are
their parts. `published=True` computes what the published
code does, to the digit; the default mends what docs/training.md lists. `for_verl.py` is what verl and EasyR1 load.
"""

from .detection import detection_reward
from .editing import edit_reward, generation_reward
from .planning import Judged, image_reward, judge_score, planning_reward
from .router import TASKS, UnknownTask, compute_score_unified, stage1_reward
from .value import Reward, reply_text

__all__ = [
    "TASKS", "Judged", "Reward", "UnknownTask", "compute_score_unified", "detection_reward", "edit_reward",
    "generation_reward", "image_reward", "judge_score", "planning_reward", "reply_text", "stage1_reward",
]  # fmt: skip

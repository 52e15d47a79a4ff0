"""These rewards for verl and EasyR1, which load this file by its path.

verl:    custom_reward_function.path=.../for_verl.py custom_reward_function.name=compute_score
EasyR1:  worker.reward.reward_function=.../for_verl.py:compute_score_batch  (reward_type: batch)

The task is `extra_info["task_name"]`, else verl's data_source; in EasyR1 the input's own, else the option `task_name`.
Options (also `published`, `sharp`, `think_length`, `judge`) come from the configuration's reward_kwargs, in EasyR1
reward_function_kwargs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if not __package__:
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from bench import import_pack

    import_pack()

from replan.tools.training.rewards import Reward, compute_score_unified
from replan.tools.training.rewards.planning import STAGE1
from replan.tools.training.rewards.value import extra_of

# verl collects one list a key over the whole batch, so every reply has every key, whatever its task.
PARTS = (
    "format", "content", "region", "accuracy", "non_repeat", "stage1", "image", "target", "effect", "consistency",
)  # fmt: skip


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, *,
    reward_router_address: Any = None, reward_model_tokenizer: Any = None, **options: Any,
) -> dict[str, float]:  # fmt: skip
    """What verl's reward managers call for each reply: `score`, and every part for the log (0 where it has none).

    A reply whose image could not be judged earns its stage-1 share, and `excluded` is 1: verl knows no missing reward.
    """
    extra = extra_of(extra_info)
    one = {"task_name": extra.get("task_name", data_source), "response": solution_str, "extra_info": extra}
    (reward,) = compute_score_unified([{**one, "ground_truth": ground_truth}], **options)
    parts = {name: float(reward.parts.get(name, 0.0)) for name in PARTS}
    return {"score": _total(reward), **parts, "excluded": float(reward.total is None)}


def compute_score_batch(
    reward_inputs: Sequence[Mapping[str, Any]], task_name: str = "", **options: Any
) -> list[dict[str, float]]:
    """What EasyR1 calls for a batch: `overall` and the parts with the task's name in front, as published.

    task_name: of inputs that name none; EasyR1's own do not, those of RePlan's fork do.
    """
    reward_inputs = [{"task_name": task_name, **one} if isinstance(one, Mapping) else one for one in reward_inputs]
    rewards = compute_score_unified(reward_inputs, **options)
    return [
        {**reward.named(one["task_name"]), "overall": _total(reward)}
        for reward, one in zip(rewards, reward_inputs, strict=True)
    ]


def _total(reward: Reward) -> float:
    return STAGE1 * reward.parts["stage1"] if reward.total is None else reward.total

"""GRPO of a planner with TRL: what `tools/training/grpo.py` puts together.

options: what a stage is told. records: prompts with images. stage_rewards: the reward functions that TRL calls. render,
worlds: stage 2's images and their scores. held_out: greedy replies on records that are not trained on. watching: the
progress line, pictures, early stop. stage: a run from base to trained planner. *.yaml: the stages.
"""

"""From image and instruction to a checked plan.

`plan` is the plan as a value, `plans` what is done with one, `replies` a model's text to a plan, `asking` templates and
conversations, `pictures` images and masks, `models` the models that plan. Nothing here knows a diffusion model or a
node; `attention` takes nothing but `plan` from it.
"""

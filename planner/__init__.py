"""From image and instruction to a checked plan: the plan as a value, its texts, its boxes and its image.

Nothing here knows a diffusion model or a node; `attention` shares only `plan.RegionPlan` with it.
"""

"""The pack's nodes: a schema and a few lines each; the work is in `planner`, `attention` and `evaluation`.

Each file owns one group of nodes and ends in `NODES`; this one hands them to ComfyUI.
"""

from comfy_api.latest import ComfyExtension, io


class RePlanExtension(ComfyExtension):
    """Every node of the pack, as ComfyUI wants them, and what its page asks between runs."""

    async def on_load(self) -> None:
        from .page_routes import add_routes

        add_routes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        from . import (
            alignment,
            conditioning,
            editor,
            evaluation,
            images,
            judge,
            planner,
            planner_prompt,
            plans,
            previews,
            rules,
        )

        planners = [*planner.NODES, *planner_prompt.NODES]
        regions = [*conditioning.NODES, *rules.NODES]
        worth = [*evaluation.NODES, *judge.NODES, *alignment.NODES]
        return [*plans.NODES, *planners, *editor.NODES, *images.NODES, *regions, *previews.NODES, *worth]

"""The pack's nodes: a schema and a few lines each; the work is in `planner` and `attention`.

Each file owns one group of nodes and ends in `NODES`; this one hands them to the host.
"""

from comfy_api.latest import ComfyExtension, io


class RePlanExtension(ComfyExtension):
    """Every node of the pack, as the host wants them."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        from . import conditioning, images, plans, previews, rules

        return [*plans.NODES, *images.NODES, *conditioning.NODES, *rules.NODES, *previews.NODES]

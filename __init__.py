"""RePlan for ComfyUI: region-aligned, instruction-based image editing.

The host imports this file at start-up, so it imports nothing heavy: the nodes load when the host asks
for them.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Give the host the pack's extension (called once, at start-up)."""
    from .nodes import RePlanExtension

    return RePlanExtension()

"""What a node tells its user besides its outputs: in the log, and as a message on the page that started the run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context

from ..planner.plan import Notice

log = logging.getLogger(__name__)

# The event that web/js/notices.js listens to.
EVENT = "replan.notice"


def tell(
    node: type[io.ComfyNode], notices: Iterable[Notice | str], known: Iterable[Notice | str] = (), page: bool = True
) -> None:
    """Tell each notice once under the node's display name, but for those `known` from an earlier node.

    page: False where the node has a page of its own that says them; they then go to the log alone.
    """
    say = teller(node, page)
    old = {str(notice) for notice in known}
    for text in dict.fromkeys(str(notice) for notice in notices):
        if text and text not in old:
            say(text)


def teller(node: type[io.ComfyNode], page: bool = True) -> Callable[[Notice | str], None]:
    """What tells a notice of the node that is being executed, also after it has returned (while a sampler runs, say).

    It may be called from any thread, and does not raise. The page shows a text once a run.
    """
    name = node.define_schema().display_name
    context = get_executing_context()
    node_id = context and context.node_id

    def say(notice: Notice | str) -> None:
        text = str(notice).removeprefix(f"{name}: ")
        log.warning("%s: %s", name, text)
        server = _server() if page else None
        if server is not None and server.client_id is not None:
            data = {"node": node_id, "name": name, "text": text}
            server.send_sync(EVENT, data, server.client_id)

    return say


def show_progress(text: str) -> None:
    """Show on the node that is being executed what it does now; each text replaces the one before."""
    server, context = _server(), get_executing_context()
    if server is not None and server.client_id is not None and context is not None:
        server.send_progress_text(text, context.node_id, server.client_id)


def show_output(output: dict) -> None:
    """Give the page what the node that is being executed would return as `ui`, for a node that raises after it."""
    server, context = _server(), get_executing_context()
    if server is not None and server.client_id is not None and context is not None:
        data = {
            "node": context.node_id,
            "display_node": context.node_id,
            "output": output,
            "prompt_id": context.prompt_id,
        }
        server.send_sync("executed", data, server.client_id)


def _server():
    """ComfyUI's server, or None where nodes run without one. Never imported here: that alone takes seconds."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)

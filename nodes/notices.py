"""What a node tells its user besides its outputs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context

log = logging.getLogger(__name__)


def tell(node: type[io.ComfyNode], warnings: Iterable[str], known: Iterable[str] = ()) -> None:
    """Log each warning once under the node's display name, but for those `known` from an earlier node.

    A report that nobody connected, and a plan that goes on to a model, warn nobody; the log does.
    """
    for warning in dict.fromkeys(warnings):
        if warning and warning not in known:
            log.warning("%s: %s", node.define_schema().display_name, warning)


def show_progress(text: str) -> None:
    """Show on the node that is being executed what it does now; each text replaces the one before."""
    server, context = _server(), get_executing_context()
    if server is not None and server.client_id is not None and context is not None:
        server.send_progress_text(text, context.node_id, server.client_id)


def _server():
    """ComfyUI's server, or None where nodes run without one. Never imported here: that alone takes seconds."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)

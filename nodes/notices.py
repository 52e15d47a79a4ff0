"""What a node tells its user besides its outputs."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from comfy_api.latest import io

log = logging.getLogger(__name__)


def tell(node: type[io.ComfyNode], warnings: Iterable[str], known: Iterable[str] = ()) -> None:
    """Log each warning once under the node's display name, but for those `known` from an earlier node.

    A report that nobody connected, and a plan that goes on to a model, warn nobody; the log does.
    """
    for warning in dict.fromkeys(warnings):
        if warning and warning not in known:
            log.warning("%s: %s", node.define_schema().display_name, warning)

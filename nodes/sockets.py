"""The pack's own socket types and how its nodes name themselves in an error."""

import re
from contextlib import contextmanager

from comfy_api.latest import io

from ..attention.payload import RegionError
from ..planner.plan import PlanError

PlanSocket = io.Custom("REGION_PLAN")
RulesSocket = io.Custom("REPLAN_RULES")
TransformSocket = io.Custom("REPLAN_TRANSFORM")
PlannerSocket = io.Custom("REPLAN_PLANNER")
ScoresSocket = io.Custom("REPLAN_SCORES")

CATEGORY = "RePlan"
# A message that names a node already: this one, one that this one runs, or one in whose output the fault lies.
_NAMED = re.compile(r"RePlan [A-Z][A-Za-z ]*: ")


@contextmanager
def naming(node: type[io.ComfyNode]):
    """Put the node's display name in front of an error raised inside that names no node, so the message says where."""
    try:
        yield
    except (PlanError, RegionError) as error:
        if not _NAMED.match(str(error)):
            error.args = (f"{node.define_schema().display_name}: {error}",)
        raise

"""The pack's own socket types and how its nodes name themselves in an error."""

from contextlib import contextmanager

from comfy_api.latest import io

from ..attention.payload import RegionError
from ..planner.plan import PlanError

PlanSocket = io.Custom("REGION_PLAN")
RulesSocket = io.Custom("REPLAN_RULES")
TransformSocket = io.Custom("REPLAN_TRANSFORM")
PlannerSocket = io.Custom("REPLAN_PLANNER")

CATEGORY = "RePlan"


@contextmanager
def naming(node: type[io.ComfyNode]):
    """Put the node's display name in front of an error raised inside, so the message alone says where."""
    try:
        yield
    except (PlanError, RegionError) as error:
        name = node.define_schema().display_name
        if str(error).startswith(name):
            raise
        raise type(error)(f"{name}: {error}") from error

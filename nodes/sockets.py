"""The pack's own socket types and how its nodes name themselves in an error."""

from contextlib import contextmanager
from typing import Any

from comfy_api.latest import io

from ..attention.payload import RegionError, name_node
from ..attention.rules import Rules
from ..evaluation.scores import Scores
from ..planner.plan import PlanError, RegionPlan, shown
from ..planner.plans.resize import Transform

PlanSocket = io.Custom("REGION_PLAN")
RulesSocket = io.Custom("REPLAN_RULES")
TransformSocket = io.Custom("REPLAN_TRANSFORM")
PlannerSocket = io.Custom("REPLAN_PLANNER")
ScoresSocket = io.Custom("REPLAN_SCORES")

# What a value of each is; of REPLAN_PLANNER it is whatever answers.
_TYPES = {"REGION_PLAN": RegionPlan, "REPLAN_RULES": Rules, "REPLAN_TRANSFORM": Transform, "REPLAN_SCORES": Scores}

CATEGORY = "RePlan"


@contextmanager
def naming(node: type[io.ComfyNode], **arrived: Any):
    """Put the node's display name in front of an error raised inside that names no node, so the message says where.

    arrived: inputs by their ids, checked first: what a node of another pack gives may be nothing, or no such value.
    """
    try:
        for name, value in arrived.items():
            _check(node, name, value)
        yield
    except (PlanError, RegionError) as error:
        name_node(error, node.define_schema().display_name)
        raise


def _check(node: type[io.ComfyNode], name: str, value: Any) -> None:
    """PlanError where not what its socket is for arrived at an input of the pack's own types, or nothing at all."""
    schema = node.define_schema()
    socket = next(one for one in schema.inputs if one.id == name)
    kind = socket.get_io_type()
    listed = value if schema.is_input_list and isinstance(value, list) else [value]
    # An empty list is what a node gives that makes lists and had nothing to make one of.
    for one in listed or ([] if socket.optional else [None]):
        if one is None and socket.optional:
            continue
        if one is None or kind in _TYPES and not isinstance(one, _TYPES[kind]):
            found = "nothing" if one is None else shown(one)
            raise PlanError(f"at '{name}' arrived {found}, expected a {kind}; look at the node that is connected there")

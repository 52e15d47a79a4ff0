"""What the region editor's stored value means: which plan the node gives, and what its page has to ask.

The stored value is the plan's own JSON with one more key, "editor", and the mark "locked" on its regions; an empty
text stores nothing. Older pages also marked regions "hidden": those were only not drawn, and are sent as they were;
what switches a region off is the plan's own key "enabled". Of "editor" three keys count here: `edited` (a person
changed the plan, or kept it on purpose), `assumed_size` (it was drawn before any image was seen, so its size was
made up) and `empty` (the page holds no plan and shows none). The rest is the page's own. Pure: the node in
`nodes/editor.py` adds the images, the page is `web/js/editor`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..geometry import Size
from ..plan import Notice, PlanError, RegionPlan
from .lint import not_honoured
from .plan_json import decode_json, plan_from_json
from .resize import fit_plan, shape_notice, stretch

FOLLOW = ("until_edited", "always", "never")
PAGE_KEYS = ("locked", "hidden")


@dataclass(frozen=True)
class Stored:
    """A stored value: the plan or None, what the page says of it, whether the page shows upstream's plan instead."""

    plan: RegionPlan | None = None
    edited: bool = False
    assumed_size: bool = False
    follows: bool = False


@dataclass(frozen=True)
class Choice:
    """The plan the editor gives for one image, or the question that has to be answered first.

    source: `upstream`, `stored` or `empty`. upstream: the plan that came in, on this image, or None. question:
    empty, or why the stored plan cannot be used on this image; `plan` is then the stored plan as it is.
    """

    plan: RegionPlan
    source: str
    upstream: RegionPlan | None = None
    question: str = ""


def read_stored(text: str) -> Stored:
    """Read a stored value; PlanError for one that cannot be read (broken JSON, a later version, a wrong value)."""
    if not text.strip():
        return Stored()
    data = decode_json(text, "the editor's stored value")
    about = data.get("editor") if isinstance(data, Mapping) else None
    about = about if isinstance(about, Mapping) else {}
    if isinstance(data, Mapping) and "image_size" not in data and "regions" not in data and about:
        return Stored(edited=bool(about.get("edited")), follows=not about.get("empty"))
    plan = plan_from_json(data)
    # A value without "editor" is a plan that somebody stored by hand or over the API: it is meant.
    return Stored(_without_page_keys(plan), bool(about.get("edited", not about)), bool(about.get("assumed_size")))


def choose_plan(text: str, upstream: RegionPlan | None, follow: str, image_size: Size) -> Choice:
    """The plan for an image of `image_size` (width, height).

    follow: `until_edited`, the plan upstream until a person edits; `always`, the plan upstream whenever there is
    one; `never`, the stored plan. A plan for the same image at another size is mapped to it. A stored plan of
    another aspect ratio is a question, never dropped; PlanError for a value that cannot be read, and when the
    page showed a plan upstream that does not come in.
    """
    if follow not in FOLLOW:
        raise PlanError(f"follow_upstream is one of {', '.join(FOLLOW)}, found {follow!r}")
    stored = read_stored(text)
    if upstream is not None:
        upstream = fit_plan(upstream, image_size)
    if upstream is not None and (follow == "always" or follow == "until_edited" and not stored.edited):
        return Choice(upstream, "upstream", upstream)
    if stored.plan is None:
        if stored.follows and upstream is None:
            raise PlanError(
                "nothing came in at 'plan', whose plan the editor shows; connect it again, take its node out of "
                "bypass, or press Keep in the editor to use the plan it shows"
            )
        return Choice(RegionPlan(image_size), "empty", upstream)
    return _on_image(stored, upstream, image_size)


def question_on(stored: Stored, image_size: Size) -> str:
    """What has to be answered before a stored plan can be used on an image of `image_size`; "" where nothing has."""
    return "" if stored.plan is None else _on_image(stored, None, image_size).question


def _on_image(stored: Stored, upstream: RegionPlan | None, image_size: Size) -> Choice:
    plan = stored.plan
    if plan.image_size == image_size:
        return Choice(plan, "stored", upstream)
    if stored.assumed_size:
        moved = stretch(plan.image_size, image_size).map_plan(plan)
        return Choice(moved, "stored", upstream)
    try:
        shape_notice(plan, image_size)
    except PlanError as error:
        answer = (
            f"{error}, or say in the editor how the boxes move: stretch them onto this image, keep their pixels, or "
            "draw new ones"
        )
        return Choice(plan, "stored", upstream, answer)
    return Choice(fit_plan(plan, image_size), "stored", upstream)


def _without_page_keys(plan: RegionPlan) -> RegionPlan:
    """The plan without what only the page needs, so that nothing downstream carries it on."""
    regions = [replace(region, extra=_without(region.extra, PAGE_KEYS)) for region in plan.regions]
    bare = replace(plan, regions=tuple(regions), extra=_without(plan.extra, ("editor",)))
    bare = bare.with_notices(*not_honoured(bare))
    hidden = tuple(region.id for region in plan.active.regions if region.extra.get("hidden"))
    if not hidden:
        return bare
    return bare.with_notices(
        Notice(
            "hidden_but_on",
            f"hidden in the editor, but still part of the edit: {', '.join(hidden)}",
            "switch off what should have no effect",
            hidden,
        )
    )


def _without(extra: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in extra.items() if key not in keys}


def remember_plan(workflow: Any, node_id: str, widget: int, value: str) -> bool:
    """Put `value` into the saved workflow as a node's widget value, where that can be done for certain.

    So that a result holds the plan that made it even when the plan arrived during the run. workflow: the page's
    own format (0.4), changed in place. node_id: the run's id, "12" or, inside subgraphs, "12:5". Only an unedited
    or empty value is replaced; a subgraph that is used twice has one value for both and stays. Returns whether
    the value was put in.
    """
    if not isinstance(workflow, dict):
        return False
    definitions = (workflow.get("definitions") or {}).get("subgraphs") or []
    subgraphs = {one.get("id"): one for one in definitions if isinstance(one, dict)}
    used = [node.get("type") for graph in (workflow, *subgraphs.values()) for node in graph.get("nodes", [])]
    graph, node = workflow, None
    for part in node_id.split(":"):
        if graph is None:
            return False
        node = next((one for one in graph.get("nodes", []) if str(one.get("id")) == part), None)
        if node is None:
            return False
        graph = subgraphs.get(node.get("type"))
        if graph is not None and used.count(node["type"]) > 1:
            return False
    values = node.get("widgets_values")
    if not isinstance(values, list) or len(values) <= widget or not isinstance(values[widget], str):
        return False
    try:
        if read_stored(values[widget]).edited:
            return False
    except PlanError:
        return False
    values[widget] = value
    return True

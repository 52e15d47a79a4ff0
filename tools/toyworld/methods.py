"""Ways to edit a scene: the rows of the benchmark. A `Method` says what is varied; `editing.py` builds its prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from replan.attention.rules import PRESETS
from replan.planner.plan import KEEP_UNCHANGED, RegionPlan

from .scenes import Scene, random_state
from .tasks import Task, region_plan

Matrix = Callable[[Sequence[str]], dict[str, bool]]  # region ids to cells that differ from the preset


@dataclass(frozen=True)
class Method:
    """One row. kind: plain (no regions at all), keep (an instruction that asks for nothing), core_masks or rules.

    regions: how many objects are meant (None: one and two in turn). near: they are neighbours. shift: of box corners,
    a share of the box's size. expand: of boxes, as in RePlan Expand Regions. kept: look-alikes get a region of their
    own, whose hint asks to keep the image unchanged. negative: those regions have the instruction as negative hint.
    """

    name: str
    what: str
    kind: str = "rules"
    preset: str = "replan"
    switch: float = -1.0
    matrix: Matrix | None = None
    expand: float = 0.0
    shift: float = 0.0
    regions: int | None = None
    near: bool = False
    kept: bool = False
    negative: bool = False
    ambiguous: bool = True
    guidance: float = 1.0

    @property
    def tasks(self) -> str:
        """Which tasks it gets, in words.

        Methods with the same words edit the same scenes, so each scene compares them.
        """
        words = f"regions: {self.regions or '1 and 2 in turn'}"
        return words + (", neighbours" if self.near else "") + ("" if self.ambiguous else ", unambiguous")


def _no_isolation(_: Sequence[str]) -> dict[str, bool]:
    return {"hint:*|hint:*": True, "main|hint:*": True, "hint:*|main": True}


def _no_region_constraint(_: Sequence[str]) -> dict[str, bool]:
    return {"noise:*|hint:*": True, "image:*|hint:*": True}


def _no_background_constraint(_: Sequence[str]) -> dict[str, bool]:
    return {"noise_background|hint:*": True, "image_background|hint:*": True}


def _no_interaction(ids: Sequence[str]) -> dict[str, bool]:
    inside, outside = ("noise:*", "image:*"), ("noise_background", "image_background")
    cells = {f"{one}|{other}": False for one in inside for other in (*inside, *outside)}
    cells |= {f"{one}|{other}": False for one in outside for other in inside}
    own = (f"{pair[0]}:{i}|{pair[1]}:{i}" for i in ids for pair in (("noise", "image"), ("image", "noise")))
    return cells | dict.fromkeys(own, True)


def _all() -> tuple[Method, ...]:
    rows = [
        Method("plain", "the instructions as one prompt, no regions", "plain"),
        Method(
            "core_masks", "ComfyUI's own: one prompt per mask, predictions blended by ConditioningSetMask", "core_masks"
        ),
        Method("keep", "asked to keep the image unchanged: what the editor alone costs", "keep"),
        Method(
            "plain_unambiguous",
            "plain, one object, on scenes whose words name nothing else",
            "plain",
            ambiguous=False,
            regions=1,
        ),
    ]
    # On Flux, whose text holds no images, hints_only is no_global_prompt.
    rows += [Method(name, preset.summary, preset=name) for name, preset in PRESETS.items() if name != "hints_only"]
    knocked = (
        ("hint_isolation", "hints and global prompt see one another", _no_isolation),
        ("region_constraint", "regions see every hint", _no_region_constraint),
        ("background_constraint", "the background sees every hint", _no_background_constraint),
        ("interaction", "a region's patches and all others do not see one another", _no_interaction),
    )
    rows.append(Method("three_regions", "the preset replan on three regions, beside the rows below", regions=3))
    rows += [Method(f"without_{name}", f"three regions; {what}", matrix=m, regions=3) for name, what, m in knocked]
    rows += [
        Method(f"switch_{value}", f"local_first until {value} of the steps", preset="local_first", switch=value)
        for value in (0.0, 0.3, 0.7, 1.0)
    ]
    rows += [Method(f"expand_{value}", f"boxes grown by {value}", expand=value) for value in (0.0, 0.15, 0.3)]
    rows += [
        Method(f"shift_{percent}", f"box corners shifted by up to {percent} % of the box", shift=percent / 100)
        for percent in (0, 10, 20, 50, 70)
    ]
    rows += [Method(f"regions_{count}", f"{count} regions in one pass", regions=count) for count in (1, 2, 4, 8)]
    rows += [
        Method(
            "overlapping",
            "two neighbours of nine objects, boxes grown by 0.3 so that nearly all overlap",
            regions=2,
            near=True,
            expand=0.3,
        ),
        Method("guidance", "guidance 2 against the unchanged image", guidance=2.0),
        Method(
            "kept_lookalikes", "the same, and look-alikes are regions to be kept unchanged", kept=True, guidance=2.0
        ),
        Method(
            "negative_hints",
            "the same, and those regions have the instruction as negative hint",
            kept=True,
            negative=True,
            guidance=2.0,
        ),
    ]
    return tuple(rows)


METHODS = {method.name: method for method in _all()}
MAIN = ("plain", "core_masks", "replan", "local_first")


def chosen(words: str) -> tuple[str, ...]:
    """The methods that names with commas between them mean, each once; "main" and "all" stand for several.

    Raises ValueError for a name that is none's, and for no name at all.
    """
    groups = {"main": MAIN, "all": tuple(METHODS)}
    parts = [word.strip() for word in words.split(",")]
    names = tuple(dict.fromkeys(name for part in parts if part for name in groups.get(part, (part,))))
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"no method called {', '.join(map(repr, unknown))}")
    if not names:
        raise ValueError(f"{words!r} names no method")
    return names


def plan_of(method: Method, task: Task) -> RegionPlan:
    """The task's plan as the method gives it to the nodes; expansion is left to the pack's node."""
    hints = {identity: one.text for identity, one in task.instructions}
    negative = {}
    for identity in task.others if method.kept else ():
        texts = [one.text for _, one in task.instructions if identity in one.named(task.scene)]
        hints[identity] = KEEP_UNCHANGED
        if method.negative:
            negative[identity] = texts[0]
    plan = region_plan(task.scene, hints, task.wanted, negative_hints=negative)
    return shifted(plan, method.shift, task.scene) if method.shift else plan


def shifted(plan: RegionPlan, share: float, scene: Scene) -> RegionPlan:
    """Each coordinate of each corner moved by up to a share of the box's size (the paper's box perturbation)."""
    random = random_state(scene.seed, "shift")
    regions = []
    for region in plan.regions:
        x1, y1, x2, y2 = region.box
        moves = share * random.uniform(-1, 1, 4) * (x2 - x1, y2 - y1, x2 - x1, y2 - y1)
        left, top, right, bottom = (float(v) for v in (x1, y1, x2, y2) + moves)
        (left, right), (top, bottom) = (_inside(low, high, scene.size) for low, high in ((left, right), (top, bottom)))
        regions.append(replace(region, box=(left, top, right, bottom)))
    return plan.with_regions(regions)


def _inside(low: float, high: float, size: int) -> tuple[float, float]:
    """Two edges in order, inside the picture, and at least two pixels apart: a box never vanishes."""
    low, high = sorted((min(max(low, 0.0), float(size)), min(max(high, 0.0), float(size))))
    middle = min(max((low + high) / 2, 1.0), size - 1.0)
    return min(low, middle - 1), max(high, middle + 1)

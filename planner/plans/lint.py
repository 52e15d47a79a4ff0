"""What is doubtful about a plan that is valid: each finding says what was found and what to do about it.

The rules are the failures that were seen in the field: a third party's 2,624 planned edits (template examples copied in 71
of them, one box for two edits, plans that only keep, boxes on existing objects for something to add, boxes too small for
what they add, replacing done as adding), and the published template's own rules (a hint is short and never repeated in
the global prompt). They look at the plan and the instruction, not at the picture: a finding is a doubt, never a proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..plan import KEEP_UNCHANGED, Region, RegionPlan, shown
from .overlap import area, iou, share_inside

# What templates say in the place of a global prompt: those of the published code, and the pack's own.
ECHOED_PROMPTS = (
    "global edit instruction", "detailed prompt for the image generator", "the edit of the whole image",
    "a full description of the image to generate",
)  # fmt: skip
ECHOED_HINTS = ("the hint of this region", "the name of this thing", "what this region is within the scene")

MOST_REGIONS = 12
# One box for two edits; a box inside another; a box for something new that covers something else's.
_SAME, _INSIDE, _COVERS = 0.9, 0.95, 0.5
# Shares of the image: what is as good as all of it, and what is small for something that is added.
_HUGE, _SMALL_TO_ADD = 0.9, 0.01
# A patch is a 64th of the mean side (16 pixels of a working image of about 1024 x 1024).
_PATCHES_A_SIDE = 64
_LONG_HINT = 40
_MOST_COMPARED = 64
_MOST_NAMED = 6  # regions in one sentence

_KEEP = re.compile(
    r"^\W*(?:please )?(?:keep|leave|preserve|maintain|retain|do not (?:change|touch|alter)|don'?t (?:change|touch|alter)|no change)\b"
    r"|\bunchanged\W*$|\bas (?:it is|is|they are)\W*$|^\W*(?:\u4fdd\u6301|\u4fdd\u7559)|\u4e0d\u53d8\W*$",
    re.IGNORECASE,
)
_CHANGE = re.compile(
    r"\b(?:but|and|then)\b.{0,60}\b(?:make|change|turn|paint|add|remove|replace|give|colou?r|move|put|put on)\b",
    re.IGNORECASE,
)
_ADD = re.compile(
    r"^\W*(?:please )?(?:add|insert|place|put|draw)\b|^\W*(?:\u6dfb\u52a0|\u52a0\u4e0a|\u589e\u52a0)",
    re.IGNORECASE,
)
_REPLACE = re.compile(
    r"\b(?:replac\w{1,6}|swap\w{0,4}|exchang\w{1,4}|substitut\w{1,4}|instead of|(?:turn|change|transform)\w{0,3} .{1,60}? into)\b"
    r"|\u66ff\u6362|\u6362\u6210",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")
_SMALL_WORDS = frozenset(
    _WORD.findall("a an and are as at be by for from in is it its no not of on or that the this to was with")
)


class Finding(NamedTuple):
    """One doubt about a plan.

    rule: its name, for tests and tools. regions: the ids it is about. found: what there is. do: what a person does
    about it. ask: what the model is told when it is asked again, or "" if that is not worth a second reply.
    """

    rule: str
    regions: tuple[str, ...]
    found: str
    do: str
    ask: str = ""

    @property
    def serious(self) -> bool:
        """Whether it is worth asking the model again."""
        return bool(self.ask)

    def __str__(self) -> str:
        return f"{self.found}; {self.do}"


def lint(plan: RegionPlan, instruction: str = "") -> tuple[Finding, ...]:
    """The findings about `plan`, the serious ones first; `instruction` is what the plan was made for, if it is known."""
    plan = plan.active
    found = [
        *_of_the_whole(plan, instruction),
        *_of_each(plan),
        *_of_pairs(plan),
        *_of_adding(plan, instruction),
    ]
    return tuple(sorted(found, key=lambda finding: not finding.serious))


# ---- the plan as a whole ------------------------------------------------------------------------------------


def _of_the_whole(plan: RegionPlan, instruction: str) -> Iterable[Finding]:
    regions, prompt = plan.regions, plan.global_prompt.strip()
    if prompt.casefold().startswith(ECHOED_PROMPTS):
        yield Finding(
            "template_echo", (), f"the global prompt {shown(prompt)} is copied from the planner's instructions",
            f"write what should happen to the whole image, or {KEEP_UNCHANGED!r}",
            "The text for the whole image was copied from the instructions. Write your own.",
        )  # fmt: skip
    keeps = not prompt or _keeps(prompt)
    wants_change = bool(instruction.strip()) and not _keeps(instruction)
    if not regions and keeps:
        yield Finding(
            "changes_nothing", (), "the plan has no region and its global prompt keeps the image: nothing will change",
            "draw a region and give it a hint, or write a global prompt",
            "The plan changes nothing. Write a region for each place that the instruction changes, or an edit of the whole image."
            if wants_change or not instruction.strip() else "",
        )  # fmt: skip
    elif (
        regions
        and keeps
        and (wants_change or not instruction.strip())
        and all(_keeps(one.hint) for one in regions if one.hint.strip())
    ):
        yield Finding(
            "only_keeps", plan.ids, "every region only keeps what is there, and so does the global prompt: nothing will change",
            "add a region with a hint for what should change",
            "Every hint only keeps something unchanged. Add a region for each change that the instruction asks for."
            if wants_change else "",
        )  # fmt: skip
    if len(regions) > MOST_REGIONS:
        yield Finding(
            "too_many", plan.ids, f"the plan has {len(regions)} regions; many hints cost time, and planners seldom mean so many",
            "delete or merge those that belong together",
            f"There are {len(regions)} regions. Use {MOST_REGIONS} at most: join those that belong to one change.",
        )  # fmt: skip
    if _REPLACE.search(instruction):
        adding = [region for region in regions if _ADD.search(region.hint)]
        replaces = any(_REPLACE.search(region.hint) for region in regions) or _REPLACE.search(prompt)
        if adding and not replaces:
            yield Finding(
                "replace_as_add", tuple(region.id for region in adding),
                f"the instruction replaces something, and {_named(adding)} add{'s' * (len(adding) == 1)}: the old thing may stay",
                "let the hint say what is seen in the place of the old thing",
            )  # fmt: skip


def _keeps(text: str) -> bool:
    """Whether a text asks for nothing but that something stays."""
    return bool(_KEEP.search(text.strip())) and not _CHANGE.search(text)


# ---- regions alone ------------------------------------------------------------------------------------------


def _of_each(plan: RegionPlan) -> Iterable[Finding]:
    width, height = plan.image_size
    patch = (width * height) ** 0.5 / _PATCHES_A_SIDE
    words_of_prompt = set() if _keeps(plan.global_prompt) else _words(plan.global_prompt)
    prompt = _plain(plan.global_prompt)
    for region in plan.regions:
        name, one = f"region '{region.id}'", (region.id,)
        x1, y1, x2, y2 = region.box
        hint = region.hint.strip()
        if not hint:
            yield Finding(
                "no_hint", one, f"{name} has no hint", "write what should be seen in its box, or delete it",
                "Some regions have no hint. Give each one that says what is seen in its box afterwards.",
            )  # fmt: skip
            continue
        if hint.casefold().strip(" .") in ECHOED_HINTS or not _plain(hint):
            yield Finding(
                "template_echo", one, f"{name}: the hint {shown(hint)} is copied from the planner's instructions",
                "write what should be seen in its box, or delete it",
                f"{_quoted([region])}: this hint was copied from the instructions. Write what is seen in its box.",
            )  # fmt: skip
        if x2 - x1 < patch or y2 - y1 < patch or area(region.box) < 4 * patch * patch:
            yield Finding(
                "tiny", one, f"{name} is tiny, {x2 - x1:.0f}x{y2 - y1:.0f} pixels, about a patch of the model",
                "make it larger (RePlan Expand Regions), or delete it",
            )  # fmt: skip
        if area(region.box) > _HUGE * width * height and not _keeps(hint):
            yield Finding(
                "huge", one, f"{name} covers {_percent(area(region.box) / (width * height))} of the image",
                "put its hint into the global prompt, or draw the box around what changes",
            )  # fmt: skip
        if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
            yield Finding(
                "off_image", one, f"{name} reaches over the border of the image of {width}x{height}", "only the part on the image counts; move the box",
            )  # fmt: skip
        if len(hint.split()) > _LONG_HINT:
            yield Finding(
                "long_hint", one, f"{name}: the hint has {len(hint.split())} words", "say what is seen in the box in a few words",
            )  # fmt: skip
        words = _words(hint)
        whole = len(words) > 1 and f" {_plain(hint)} " in f" {prompt} "
        if (whole or len(words) > 2 and len(words & words_of_prompt) >= 0.8 * len(words)) and words_of_prompt:
            yield Finding(
                "hint_in_global", one, f"{name}: the global prompt says the same as the hint {shown(hint)}",
                "take it out of the global prompt, which the whole image follows",
                f"{_quoted([region])}: the text for the whole image repeats this hint. Take it out there." if whole else "",
            )  # fmt: skip


# ---- regions together ---------------------------------------------------------------------------------------


def _of_pairs(plan: RegionPlan) -> Iterable[Finding]:
    """Regions that share a place: one finding for each place, however many share it (a model in a loop writes dozens)."""
    regions = plan.regions[:_MOST_COMPARED]
    groups: list[list[Region]] = []
    within: dict[str, list[Region]] = {}
    for place, second in enumerate(regions):
        group = next((group for group in groups if iou(group[0].box, second.box) >= _SAME), None)
        if group is None:
            groups.append([second])
        else:
            group.append(second)
        for first in regions[:place]:
            inner, outer = (first, second) if area(first.box) <= area(second.box) else (second, first)
            if iou(first.box, second.box) < _SAME and share_inside(inner.box, outer.box) >= _INSIDE:
                within.setdefault(outer.id, []).append(inner)
    for group in groups:
        if len(group) == 1:
            continue
        hints = len({_plain(region.hint) for region in group})
        same = hints == 1
        yield Finding(
            "same_box", tuple(region.id for region in group),
            f"{_named(group)} have the same box" + (" and hint" if same else f" for {hints} hints"),
            "keep one of them" if same else "draw each where its own change belongs, or join the hints in one region",
            f"{_quoted(group)} have the same box. "
            + ("Write it once." if same else "Measure each of them again: each change has a box of its own."),
        )  # fmt: skip
    for outer, inside in within.items():
        yield Finding(
            "contained", (*(region.id for region in inside), outer),
            f"{_named(inside)} lie{'s' * (len(inside) == 1)} inside region '{outer}': what is covered follows both hints",
            "keep it so if both are meant there; otherwise draw the outer box smaller",
        )  # fmt: skip


def _of_adding(plan: RegionPlan, instruction: str) -> Iterable[Finding]:
    """Boxes for something new: on an existing thing, or too small for it."""
    width, height = plan.image_size
    regions = plan.regions[:_MOST_COMPARED]
    for region in regions:
        if not _ADD.search(region.hint):
            continue
        covered = next(
            (
                other
                for other in regions
                if other is not region and not _ADD.search(other.hint) and _SAME > iou(region.box, other.box) >= _COVERS
            ),
            None,
        )
        there = _thing(region)
        if covered is not None or there:
            what = f"region '{covered.id}'" if covered is not None else shown(there)
            asked = (
                f'the box of "{covered.hint.strip()[:120]}"'
                if covered is not None
                else f"{there}, which is there already"
            )
            yield Finding(
                "add_on_existing", (region.id,), f"region '{region.id}' adds something where {what} already is",
                "draw its box over the free place where the new thing should be",
                f"{_quoted([region])} adds something, but its box lies on {asked}. Box the free place where it will be.",
            )  # fmt: skip
        if area(region.box) < _SMALL_TO_ADD * width * height:
            yield Finding(
                "small_to_add", (region.id,),
                f"region '{region.id}' adds something in {_percent(area(region.box) / (width * height))} of the image",
                "make its box as large as the new thing should be",
            )  # fmt: skip


def _thing(region: Region) -> str:
    """The thing that the planner says is in the box, if the hint speaks of none of it."""
    for key, said in region.extra.items():
        if key.casefold() in ("label", "name", "object") and isinstance(said, str):
            words = _words(said)
            if words and not words & _words(region.hint):
                return said.strip()
    return ""


# ---- words --------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold())) - _SMALL_WORDS


def _named(regions: Sequence[Region]) -> str:
    names = [f"'{region.id}'" for region in regions]
    rest = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return ("region " if len(names) == 1 else "regions ") + _listed([*names[:_MOST_NAMED], *rest])


def _quoted(regions: Sequence[Region]) -> str:
    """Regions as the model knows them: by their hints."""
    hints = list(dict.fromkeys(f'"{region.hint.strip()[:120]}"' for region in regions))[:_MOST_NAMED]
    return f"The region {hints[0]}" if len(regions) == 1 else f"The regions {_listed(hints)}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.02 else f"{share:.0%}"

"""What is doubtful about a plan that is valid: each finding says what was found and what to do about it.

The rules are the failures that were seen in the field: a third party's 2,624 planned edits (template examples copied in
71 of them, one box for two edits, plans that only keep, boxes on existing objects for something to add, boxes too small
for what they add, replacing done as adding), and the published template's own rules (a hint is short and never repeated
in the global prompt). They look at the plan and the instruction, not at the image: a finding is a doubt, never a proof.

To add a rule, yield one more Notice with a code of its own below (of the whole plan, of each region, of pairs, of
things to add), and put the code into SERIOUS if it likely spoils the edit. `asking.follow_up` says whether a model is
asked again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..geometry import area, iou, shared
from ..plan import KEEP_UNCHANGED, Notice, Region, RegionPlan, shown

# What templates say in the place of a global prompt: those of the published code, and the pack's own.
ECHOED_PROMPTS = (
    "global edit instruction", "detailed prompt for the image generator", "the edit of the whole image",
    "a full description of the image to generate",
)  # fmt: skip
ECHOED_HINTS = ("the hint of this region", "the name of this thing", "what this region is within the scene")

# Findings that likely spoil the edit: reported first, and logged even where nobody reads the report.
SERIOUS = {
    "template_echo",
    "changes_nothing",
    "only_keeps",
    "too_many",
    "no_hint",
    "hint_in_global",
    "same_box",
    "add_on_existing",
    "not_honoured",
}
# Unknown keys that only describe: nobody expects the image to change by them. Without capitals, _, - and spaces.
DESCRIBING_KEYS = {
    # what is there
    "label", "labels", "name", "names", "object", "objects", "class", "classname", "category", "type", "desc",
    "description", "descriptionafter", "caption", "title", "subject", "target", "entity", "text", "content", "point",
    "point2d", "points",
    "center", "centre", "scene", "sceneafter",
    # what the model thought or answered
    "answer", "reasoning", "reason", "reasons", "rationale", "explanation", "why", "thought", "thoughts", "thinking",
    "analysis", "comment", "comments", "note", "notes", "instruction", "kind", "family", "outcome", "ambiguous",
    "candidates", "summary",
    # how sure it is, and counting
    "confidence", "score", "probability", "certainty", "index", "number", "no", "count", "order",
    # the editor's own
    "editor", "locked", "hidden",
}  # fmt: skip
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
    r"^\W*(?:please )?(?:keep|leave|preserve|maintain|retain|(?:do not|don'?t) (?:change|touch|alter)|no change)\b"
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
    r"\b(?:replac\w{1,6}|swap\w{0,4}|exchang\w{1,4}|substitut\w{1,4}|instead of)\b"
    r"|\b(?:turn|change|transform)\w{0,3} .{1,60}? into\b"
    r"|\u66ff\u6362|\u6362\u6210",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")
_WORD_BREAK = re.compile(r"[\W_]+")
_SMALL_WORDS = frozenset(
    _WORD.findall("a an and are as at be by for from in is it its no not of on or that the this to was with")
)


def lint(plan: RegionPlan, instruction: str = "") -> tuple[Notice, ...]:
    """The findings about `plan`, the serious ones first. instruction: what the plan was made for, "" if unknown."""
    plan = plan.active
    found = [
        *_of_the_whole(plan, instruction),
        *_of_each(plan),
        *_of_pairs(plan),
        *_of_adding(plan),
        *not_honoured(plan),
    ]
    return tuple(sorted(found, key=lambda notice: notice.code not in SERIOUS))


# ---- the plan as a whole ------------------------------------------------------------------------------------


def _of_the_whole(plan: RegionPlan, instruction: str) -> Iterable[Notice]:
    regions, prompt = plan.regions, plan.global_prompt.strip()
    if prompt.casefold().startswith(ECHOED_PROMPTS):
        yield Notice(
            "template_echo",
            f"the global prompt {shown(prompt)} is copied from the planner's instructions",
            f"write what should happen to the whole image, or {KEEP_UNCHANGED!r}",
        )
    asked_to_keep = bool(instruction.strip()) and _keeps(instruction)
    if not prompt or _keeps(prompt):
        if not regions:
            yield Notice(
                "keeps_as_asked" if asked_to_keep else "changes_nothing",
                "the plan has no region and its global prompt keeps the image: nothing will change",
                "draw a region and give it a hint, or write a global prompt",
            )
        elif not asked_to_keep and all(_keeps(one.hint) for one in regions if one.hint.strip()):
            yield Notice(
                "only_keeps",
                "every region only keeps what is there, and so does the global prompt: nothing will change",
                "add a region with a hint for what should change",
                plan.ids,
            )
    if len(regions) > MOST_REGIONS:
        yield Notice(
            "too_many",
            f"the plan has {len(regions)} regions; many hints cost time, and planners seldom mean so many",
            "delete or merge those that belong together",
            plan.ids,
        )
    if _REPLACE.search(instruction):
        adding = [region for region in regions if _ADD.search(region.hint)]
        replaces = any(_REPLACE.search(region.hint) for region in regions) or _REPLACE.search(prompt)
        if adding and not replaces:
            yield Notice(
                "replace_as_add",
                f"the instruction replaces something, and {_named(_ids(adding))} add{'s' * (len(adding) == 1)}: "
                "the old thing may stay",
                "let the hint say what is seen in the place of the old thing",
                _ids(adding),
            )


def _keeps(text: str) -> bool:
    """Whether a text asks for nothing but that something stays."""
    return bool(_KEEP.search(text.strip())) and not _CHANGE.search(text)


# ---- regions alone ------------------------------------------------------------------------------------------


def _of_each(plan: RegionPlan) -> Iterable[Notice]:
    width, height = plan.image_size
    patch = (width * height) ** 0.5 / _PATCHES_A_SIDE
    words_of_prompt = set() if _keeps(plan.global_prompt) else _words(plan.global_prompt)
    prompt = _plain(plan.global_prompt)
    for region in plan.regions:
        name, one = f"region '{region.id}'", (region.id,)
        x1, y1, x2, y2 = region.box
        hint = region.hint.strip()
        if not hint:
            yield Notice("no_hint", f"{name} has no hint", "write what should be seen in its box, or delete it", one)
            continue
        if hint.casefold().strip(" .") in ECHOED_HINTS or not _plain(hint):
            yield Notice(
                "template_echo",
                f"{name}: the hint {shown(hint)} is copied from the planner's instructions",
                "write what should be seen in its box, or delete it",
                one,
            )
        if x2 - x1 < patch or y2 - y1 < patch or area(region.box) < 4 * patch * patch:
            yield Notice(
                "tiny",
                f"{name} is tiny, {x2 - x1:.0f}x{y2 - y1:.0f} pixels, about a patch of the model",
                "make it larger (RePlan Expand Regions), or delete it",
                one,
            )
        if area(region.box) > _HUGE * width * height and not _keeps(hint):
            yield Notice(
                "huge",
                f"{name} covers {_percent(area(region.box) / (width * height))} of the image",
                "put its hint into the global prompt, or draw the box around what changes",
                one,
            )
        if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
            yield Notice(
                "off_image",
                f"{name} reaches over the border of the image of {width}x{height}",
                "only the part on the image counts; move the box",
                one,
            )
        if len(hint.split()) > _LONG_HINT:
            yield Notice(
                "long_hint",
                f"{name}: the hint has {len(hint.split())} words",
                "say what is seen in the box in a few words",
                one,
            )
        words = _words(hint)
        whole = len(words) > 1 and f" {_plain(hint)} " in f" {prompt} "
        if (whole or len(words) > 2 and len(words & words_of_prompt) >= 0.8 * len(words)) and words_of_prompt:
            yield Notice(
                "hint_in_global" if whole else "hint_like_global",
                f"{name}: the global prompt says the same as the hint {shown(hint)}",
                "take it out of the global prompt, which the whole image follows",
                one,
            )


# ---- regions together ---------------------------------------------------------------------------------------


def _of_pairs(plan: RegionPlan) -> Iterable[Notice]:
    """Regions that share a place.

    One finding for each place, however many share it: a model in a loop writes dozens.
    """
    regions = plan.regions[:_MOST_COMPARED]
    areas = [area(region.box) for region in regions]
    groups: list[list[Region]] = []
    within: dict[str, list[Region]] = {}
    for place, second in enumerate(regions):
        same: set[str] = set()
        for first, area_of_first in zip(regions[:place], areas, strict=False):
            common, smaller = shared(first.box, second.box), min(area_of_first, areas[place])
            if common >= _SAME * (area_of_first + areas[place] - common):
                same.add(first.id)
            elif common >= _INSIDE * smaller:
                inner, outer = (first, second) if area_of_first == smaller else (second, first)
                within.setdefault(outer.id, []).append(inner)
        group = next((group for group in groups if group[0].id in same), None)
        if group is None:
            groups.append([second])
        else:
            group.append(second)
    for group in groups:
        if len(group) == 1:
            continue
        hints = len({_plain(region.hint) for region in group})
        yield Notice(
            "same_box",
            f"{_named(_ids(group))} have the same box" + (" and hint" if hints == 1 else f" for {hints} hints"),
            "keep one of them"
            if hints == 1
            else "draw each where its own change belongs, or join the hints in one region",
            _ids(group),
        )
    for outer, inside in within.items():
        yield Notice(
            "contained",
            f"{_named(_ids(inside))} lie{'s' * (len(inside) == 1)} inside region '{outer}': what is covered follows "
            "both hints",
            "keep it so if both are meant there; otherwise draw the outer box smaller",
            (*_ids(inside), outer),
        )


def _of_adding(plan: RegionPlan) -> Iterable[Notice]:
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
        there = f"region '{covered.id}'" if covered is not None else _thing(region)
        if there:
            yield Notice(
                "add_on_existing",
                f"region '{region.id}' adds something where {there} already is",
                "draw its box over the free place where the new thing should be",
                (region.id,),
            )
        if area(region.box) < _SMALL_TO_ADD * width * height:
            yield Notice(
                "small_to_add",
                f"region '{region.id}' adds something in {_percent(area(region.box) / (width * height))} of the image",
                "make its box as large as the new thing should be",
                (region.id,),
            )


def _thing(region: Region) -> str:
    """The thing that the planner says is in the box, if the hint speaks of none of it."""
    for key, said in region.extra.items():
        if key.casefold() in ("label", "name", "object") and isinstance(said, str):
            words = _words(said)
            if words and not words & _words(region.hint):
                return shown(said.strip())
    return ""


def not_honoured(plan: RegionPlan) -> tuple[Notice, ...]:
    """One notice for each unknown key that says more than a description, naming the regions that have it."""
    owners: dict[str, tuple[str, ...]] = {key: () for key in _telling(plan.extra)}
    for region in plan.active.regions:
        for key in _telling(region.extra):
            owners[key] = (*owners.get(key, ()), region.id)
    return tuple(
        Notice(
            "not_honoured",
            f"the key {shown(key)} of {_named(regions) if regions else 'the plan'} has no effect: it is not known here",
            "leave it out, or say what it means in the hint",
            regions,
        )
        for key, regions in owners.items()
    )


def _telling(extra: Mapping[str, Any]) -> list[str]:
    """The unknown keys that say something and do not only describe."""
    return [
        key
        for key, value in extra.items()
        if _WORD_BREAK.sub("", key).casefold() not in DESCRIBING_KEYS and value not in (None, "", [], {})
    ]


# ---- words --------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold())) - _SMALL_WORDS


def _named(ids: Sequence[str]) -> str:
    names = [f"'{identity}'" for identity in ids]
    rest = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return ("region " if len(names) == 1 else "regions ") + _listed([*names[:_MOST_NAMED], *rest])


def _ids(regions: Sequence[Region]) -> tuple[str, ...]:
    return tuple(region.id for region in regions)


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.02 else f"{share:.0%}"

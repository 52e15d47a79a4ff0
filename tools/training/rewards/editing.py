"""Stage 1: what the form of an editing or a generating reply is worth (RePlan's training code, replan_reward).

total = 0.5 format + 0.3 content + 0.2 region for a plan, 0.6 format + 0.4 content for a prompt to generate from.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from replan.planner.plan import PlanError
from replan.planner.plans.lint import MOST_REGIONS, lint
from replan.planner.replies import read_plan

from .tags import between, blocks, copies, follow, plain, tidy, without_space_at_signs
from .value import Reward, plain_values, reply_text

FORMAT, CONTENT, REGION = 0.5, 0.3, 0.2
GENERATION_FORMAT, GENERATION_CONTENT = 0.6, 0.4
GATE = 0.7  # of the region reward, for an image to be rendered
_LONGEST = 512  # characters of reasoning and of a global prompt
_COPIED = -20.0
# The mended rewards end here: a single -20 flattens the differences of all other replies of its group.
LEAST = -2.0
_FEW = 5
# A reply of 2,048 tokens has about 10,000 characters; what is longer is not read as a plan.
_LONGEST_REPLY = 65_536
_ANYWHERE = (1_000_000, 1_000_000)

# What the published templates say where a reply should say something of its own.
_THINK = (
    "Reasoning process",
    "Your reasoning process to understand the user's instruction based on the image. Decompose the instruction into "
    "global and local edits, identifying regions for editing.",
    "First, state the user's main goal based on their instruction. Then, detail the global and local edits required to "
    "achieve this goal, explaining your reasoning for each.",
)
_GLOBAL = ("Detailed prompt for the image generator", "Global edit instruction")
_GENERATE = ("Detailed prompt for the image generator", "Detailed prompt for the image editor")
_HINTS = (
    "how to edit for this region", "", "change the color of this one apple to blue", "keep this one apple unchanged",
)  # fmt: skip
_BOXES = ([10, 150, 150, 210], [150, 50, 200, 150])


class Regions(NamedTuple):
    """What stands in the region tag.

    said: whether anything does. valid: whether it is the list that was asked for. items: how many it has, of which
    `usable` give a region and `bad` are copied from a template, repeated, or no region at all.
    """

    said: bool = False
    valid: bool = False
    items: int = 0
    usable: int = 0
    bad: int = 0


def edit_reward(
    reply: Any, *, published: bool = False, think: bool = True, image_size: tuple[int, int] | None = None,
    think_length: int = 50,
) -> Reward:  # fmt: skip
    """Stage 1 of an editing reply; parts format, content and region. Anything but text counts as an empty reply.

    think: False for the task without reasoning. image_size: (width, height) that the boxes count in, to tell those
    outside the image (the size the model sees; (1000, 1000) for relative ones); the published code looks at none.
    think_length: characters of reasoning that earn all there is for it; 50 is the published number.
    """
    size = _ANYWHERE if image_size is None else _whole_size(image_size)
    text = reply_text(reply)
    names = ("think", "gen_image", "region") if think else ("gen_image", "region")
    text = without_space_at_signs(text).strip() if published else tidy(text)
    prompt = between(text, "gen_image") or ""
    if published:
        regions = _published_regions(between(text, "region") or "")
        is_formed = follow(text, names if between(text, "region") is not None else names[:-1])
    else:
        regions = _regions(text, size)
        is_formed = blocks(text) in ([*names], [*names[:-1]]) and (not think or bool(plain(between(text, "think"))))
    share = 0.25 if think else 0.5
    content = _prompt_content(prompt, share, 20 if think else 5, _GLOBAL, published)
    content += _COPIED * (not prompt)
    if think:
        content += _think_content(between(text, "think") or "", share, think_length, _THINK, published)
    content += 0.0 if not regions.said else share if regions.valid else 0.0 if regions.usable else -share
    region = _region_score(regions, published)
    if not published:
        content, region = max(content, LEAST), max(region, LEAST)
    is_worth_it = region >= GATE or (not published and _is_global_edit(text, regions))
    renders = is_formed and is_worth_it and (published or content > 0)  # nobody wants to see a copied prompt
    total = FORMAT * is_formed + CONTENT * content + REGION * region
    return Reward(total, {"format": float(is_formed), "content": content, "region": region}, renders)


def _whole_size(given: Any) -> tuple[int, int]:
    size = plain_values(given)
    fine = (
        isinstance(size, list)
        and len(size) == 2
        and all(
            isinstance(side, (int, float)) and not isinstance(side, bool) and side >= 1 and side % 1 == 0
            for side in size
        )
    )
    if not fine:
        raise ValueError(f"image_size is (width, height) in whole pixels, found {str(given)[:80]!r}")
    return int(size[0]), int(size[1])


def generation_reward(reply: Any, *, published: bool = False) -> Reward:
    """Stage 1 of a reply that refines a prompt to generate from; parts format and content."""
    text = reply_text(reply)
    text = without_space_at_signs(text).strip() if published else tidy(text)
    names = ["think", "gen_image"]
    think, prompt = between(text, "think") or "", between(text, "gen_image") or ""
    is_formed = follow(text, names) if published else blocks(text) == names and bool(plain(think))
    content = _think_content(think, 0.33, 40, _THINK[:1], published)
    content += _prompt_content(prompt, 0.33, 5, _GENERATE, published)
    if not published:
        content = max(content + _COPIED * (not prompt), LEAST)
    total = GENERATION_FORMAT * is_formed + GENERATION_CONTENT * content
    return Reward(total, {"format": float(is_formed), "content": content})


# ---- content ---------------------------------------------------------------------------------------------------------


def _think_content(think: str, share: float, full: int, known: tuple[str, ...], published: bool) -> float:
    """For reasoning: a share by its length. Mended: words that come again do not count to it."""
    said = think if published else " ".join(dict.fromkeys(think.split()))
    copied = think in known if published else copies(think, "think", _THINK)
    return share * min(len(said) / full, 1.0) + _COPIED * copied - share * (len(think) > _LONGEST)


def _prompt_content(prompt: str, share: float, full: int, known: tuple[str, ...], published: bool) -> float:
    copied = prompt in known if published else copies(prompt, "gen_image", (*_GLOBAL, *_GENERATE))
    return share * min(len(prompt) / full, 1.0) + _COPIED * copied - share * (len(prompt) > _LONGEST)


def _is_global_edit(text: str, regions: Regions) -> bool:
    """Whether a plan has an empty list on purpose, and a global prompt that changes something."""
    if not regions.valid or regions.items:
        return False
    try:
        plan, _ = read_plan(text, _ANYWHERE, "pixels", by_model=True)
    except PlanError:
        return False
    return not {"changes_nothing", "template_echo"} & {notice.code for notice in lint(plan)}


# ---- regions ---------------------------------------------------------------------------------------------------------


def _region_score(regions: Regions, published: bool) -> float:
    if not regions.said:
        return 0.0
    if not regions.valid and not regions.usable:
        return -0.5
    counted = regions.items if published else regions.usable
    score = 0.5 * regions.valid + 0.2 * (1 <= counted <= _FEW) - regions.bad
    if published:
        proper = regions.items > 0 and regions.usable == regions.items
    else:
        proper = not regions.bad and 1 <= regions.usable <= MOST_REGIONS
    return min(score + 0.2 * proper, 1.0)


def _published_regions(body: str) -> Regions:
    """As the published code counts them: usable are those with a hint of their own, bad both hints and boxes."""
    listed = _listed(body)
    if listed is None:
        return Regions(bool(body))
    copied = sum(item["hint"] in _HINTS for item in listed)
    return Regions(
        True, True, len(listed), len(listed) - copied, copied + sum(item["bbox_2d"] in _BOXES for item in listed)
    )


def _regions(text: str, image_size: tuple[int, int]) -> Regions:
    """As the editor would use them: what the pack's reader makes of the reply, as RePlan Planner calls it."""
    body = between(text, "region") or ""
    listed = _listed(body)
    if not body or len(text) > _LONGEST_REPLY:
        return Regions(bool(body))
    try:
        plan, _ = read_plan(text, image_size, "pixels", by_model=True)
    except PlanError:  # nothing of it can be used
        items = len(listed or ())
        return Regions(True, listed is not None, items, 0, items)
    good = sum(list(region.box) not in _BOXES and plain(region.hint) not in _HINTS for region in plan.regions)
    dropped = sum(notice.code.startswith("dropped_") for notice in plan.notices)
    items = len(plan.regions) + dropped if listed is None else len(listed)
    return Regions(True, listed is not None, items, good, max(items - good, 0))


def _listed(body: str) -> list[dict[str, Any]] | None:
    """The list of {"bbox_2d": four numbers, "hint": text} that was asked for; None for anything else."""
    try:
        listed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    fine = isinstance(listed, list) and all(
        isinstance(item, dict)
        and isinstance(item.get("bbox_2d"), list)
        and len(item["bbox_2d"]) == 4
        and all(isinstance(edge, (int, float)) for edge in item["bbox_2d"])
        and isinstance(item.get("hint"), str)
        for item in listed
    )
    return listed if fine else None

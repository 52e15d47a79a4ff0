"""The plan as an immutable value: what to change, where, and in whose words.

Owns `RegionPlan`, `Region`, `RegionMask` and `Notice`, and what makes each of them valid. Reading and writing texts is
`plan_json` and `tags`; which cells of a grid a region covers is `geometry`; mapping a plan to another image is
`resize`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from . import geometry
from .geometry import Box, Size

# What the published planner writes when nothing changes globally (replan.txt, rule 5), without its quotes.
KEEP_UNCHANGED = "keep remaining part of image unchanged."

# Far above any image, and small enough to count with.
LARGEST_SIDE = 1_000_000
# A mask is decoded to a byte a cell, and counted over with eight; more than this is a mistake.
MOST_MASK_CELLS = 16384 * 16384

# What ComfyUI's text encoders read as a weight, or as the name of a textual inversion.
_PROMPT_SYNTAX = re.compile(r"[()]|embedding:")
_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")


class PlanError(ValueError):
    """A plan, a box or a text that cannot be used; the message says what was found and what to do."""


@dataclass(frozen=True)
class Notice:
    """Something a person is told about a plan, a reply or a run: the one way in which the planner package tells it.

    code: a stable name; code branches on it, never on the words. text: what was found. remedy: what to do about it,
    or "". regions: ids of the regions it is about.
    """

    code: str
    text: str
    remedy: str = ""
    regions: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


@dataclass(frozen=True)
class RegionMask:
    """A binary mask over the whole image, as run lengths.

    `size` is (height, width) in cells; the mask is stretched over the image, so its size need not equal the
    image's. `rle` alternates lengths of zeros and ones in row-major order, starting with zeros.
    """

    size: tuple[int, int]
    rle: tuple[int, ...]

    def __post_init__(self) -> None:
        height, width = self.size
        if height < 1 or width < 1:
            raise PlanError(f"a mask of size {list(self.size)} has no cells; give [height, width] of at least 1")
        if height * width > MOST_MASK_CELLS:
            raise PlanError(
                f"a mask of size {shown(list(self.size))} has more than the {MOST_MASK_CELLS} cells (16384x16384) that "
                "are taken; make it smaller, it is stretched over the image"
            )
        if any(run < 0 for run in self.rle) or sum(self.rle) != height * width:
            raise PlanError(
                f"a mask's run lengths add up to {shown(sum(self.rle))}, but its size {list(self.size)} has "
                f"{height * width} cells; write it again from the mask image"
            )

    @classmethod
    def from_array(cls, array: np.ndarray) -> RegionMask:
        """Encode a (height, width) array; cells above 0.5 (or True) are inside."""
        cells = np.asarray(array)
        if cells.ndim != 2:
            raise PlanError(f"a mask has two axes (height, width), not shape {cells.shape}")
        flat = (cells > 0.5).ravel()
        edges = np.flatnonzero(np.diff(np.concatenate(([False], flat, [False])).astype(np.int8)))
        bounds = np.concatenate(([0], edges, [flat.size]))
        runs = np.diff(bounds)
        if len(runs) > 1 and runs[-1] == 0:
            runs = runs[:-1]
        return cls((int(cells.shape[0]), int(cells.shape[1])), tuple(int(run) for run in runs))

    def to_array(self) -> np.ndarray:
        """Decode to a boolean array of shape (height, width)."""
        values = np.arange(len(self.rle)) % 2 == 1
        return np.repeat(values, self.rle).reshape(self.size)


class _KeepsExtra:
    """A value whose `extra` is a read-only view, which neither copy.deepcopy nor pickle can take by itself."""

    extra: Mapping[str, Any]

    def _freeze_extra(self) -> None:
        object.__setattr__(self, "extra", MappingProxyType(dict(self.extra)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "extra": dict(self.extra)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._freeze_extra()


@dataclass(frozen=True)
class Region(_KeepsExtra):
    """One region: a box in pixels of the plan's image and the hint that holds inside it.

    id: stable name; rules refer to a region by it, so deleting another region moves nothing. It holds no '|' and
        is not '*', because a rule is written 'hint:ID|noise:ID' and '*' means every region.
    box: (x1, y1, x2, y2), left-top and right-bottom corner, pixels as floats, x1 < x2 and y1 < y2.
    hint, negative_hint: short texts; a hint may be empty while a person is still editing.
    start, end: ComfyUI's percent of sampling (0..1); outside it the region is background.
    mask: selects the patches it touches, inside the box.
    enabled: False keeps the region in the plan and out of everything that is done with it (see RegionPlan.active).
    raw_box: the box as it was written, where reading clamped it to the image; expanding starts from it. Not written.
    plain_texts: those of its texts that a model wrote and ComfyUI would read as prompt syntax. A text that still equals
        one of them is taken word by word; one that a person changed since is not.
    extra: unknown keys, kept as they are for whoever wrote them; nothing maps them to another image.
    """

    id: str
    box: Box
    hint: str = ""
    negative_hint: str = ""
    start: float = 0.0
    end: float = 1.0
    mask: RegionMask | None = None
    enabled: bool = True
    raw_box: Box | None = field(default=None, compare=False)
    plain_texts: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise PlanError(f"a region needs a non-empty id, found {self.id!r}")
        _check_characters(self.id, "a region's id")
        if not usable_id(self.id):
            raise PlanError(
                f"the id {self.id!r} cannot name a region: rules are written 'hint:ID|noise:ID', and '*' means every "
                "region; give it a name without '|' that is not '*'"
            )
        object.__setattr__(self, "box", checked_box(self.box, f"region '{self.id}'"))
        for name in ("hint", "negative_hint"):
            if not isinstance(getattr(self, name), str):
                raise PlanError(f"region '{self.id}': {name} must be text, found {getattr(self, name)!r}")
            _check_characters(getattr(self, name), f"region '{self.id}': the {name}")
        for name in ("start", "end"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
                raise PlanError(
                    f"region '{self.id}': {name} must lie between 0 and 1, found {shown(value)}; give a number "
                    "between 0 and 1"
                )
        if self.start >= self.end:
            raise PlanError(
                f"region '{self.id}' starts at {self.start} and ends at {self.end}: it would never be active; "
                "make start smaller than end"
            )
        if not isinstance(self.enabled, bool):
            raise PlanError(f"region '{self.id}': enabled must be true or false, found {shown(self.enabled)}")
        object.__setattr__(self, "plain_texts", tuple(self.plain_texts))
        if not all(isinstance(text, str) for text in self.plain_texts):
            raise PlanError(f"region '{self.id}': plain_texts must be texts, found {shown(self.plain_texts)}")
        self._freeze_extra()

    def on_image(self, image_size: Size) -> Region:
        """The region with its box clamped to the image of `image_size` (width, height), on which some of it lies."""
        inside = clamped(self.box, image_size)
        return self if inside == self.box else replace(self, box=inside, raw_box=self.box)

    def unclamped(self, image_size: Size) -> Box:
        """The box as it was written, also where that lies off the image of `image_size`, unless it was moved since."""
        if self.raw_box is not None and clamped(self.raw_box, image_size) == self.box:
            return self.raw_box
        return self.box

    def with_plain_texts(self) -> Region:
        """The same region, its texts marked as a model's (`plain_texts`) where that makes a difference."""
        texts = {text: None for text in (self.hint, self.negative_hint) if _PROMPT_SYNTAX.search(text)}
        return replace(self, plain_texts=tuple(texts)) if texts else self

    def cells(
        self, image_size: Size, rows: int, cols: int, height: float | None = None, width: float | None = None
    ) -> np.ndarray:
        """The cells of a grid over the plan's image that this region covers, as (rows, cols) bool.

        image_size: (width, height) of the plan's image in pixels. height, width: how much of the grid the image
        fills, in cells; by default all of it. A cell counts when the box touches it and, with a mask, when a
        cell of the mask inside the box touches it. None may be left: the mask can be empty inside the box.
        """
        mask = None if self.mask is None else self.mask.to_array()
        extent = (rows if height is None else height, cols if width is None else width)
        return geometry.box_cells(self.box, mask, image_size, (rows, cols), extent)


def usable_id(identity: str) -> bool:
    """Whether a rule can name a region so."""
    return bool(identity) and "|" not in identity and identity != "*"


def checked_box(box: Sequence[float], name: str) -> Box:
    """Return `box` as four floats, or raise PlanError naming `name`: four finite numbers, x1 < x2, y1 < y2."""
    try:
        values = tuple(float(value) for value in box)
    except (TypeError, ValueError):
        raise PlanError(f"{name}: a box is four numbers [x1, y1, x2, y2], found {shown(box)}") from None
    except OverflowError:
        raise PlanError(
            f"{name}: the box {shown(box)} holds a number that is too large; give pixels of the image"
        ) from None
    if len(values) != 4:
        raise PlanError(f"{name}: a box is four numbers [x1, y1, x2, y2], found {len(values)}: {list(values)}")
    if not all(math.isfinite(value) for value in values):
        raise PlanError(f"{name}: the box {list(values)} holds a number that is not finite; give pixels of the image")
    x1, y1, x2, y2 = values
    if x1 >= x2 or y1 >= y2:
        raise PlanError(
            f"{name}: the box {list(values)} has no area; write [x1, y1, x2, y2] with x1 < x2 and y1 < y2 "
            "(left, top, right, bottom)"
        )
    return values


def clamped(box: Box, image_size: Size) -> Box:
    """The part of the box on the image of `image_size` (width, height); inverted or empty if there is none."""
    (x1, y1, x2, y2), (width, height) = box, image_size
    return max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)


def well_formed(text: str) -> str:
    """`text` with each half of a character (a lone surrogate) replaced by U+FFFD, and two halves joined."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def shown(value: Any, limit: int = 80) -> str:
    """`value` for an error message, cut to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def _check_characters(text: str, what: str) -> None:
    """PlanError for half a character: no tokenizer takes it and no file can hold it."""
    half = _HALF_CHARACTER.search(text)
    if half:
        raise PlanError(
            f"{what} holds half a character, {half.group()!r}, in "
            f"{shown(text[max(0, half.start() - 20) : half.start() + 20])}; "
            "write the whole character, or remove it"
        )


@dataclass(frozen=True)
class RegionPlan(_KeepsExtra):
    """A whole edit: image size, global prompt, regions, and how it came about.

    image_size: (width, height) in pixels of the image that the boxes refer to.
    regions: in the order of their hints; ids are unique; every box touches the image.
    reasoning: the planner's own words; notices: what a person should know before running it.
    """

    image_size: Size
    global_prompt: str = KEEP_UNCHANGED
    regions: tuple[Region, ...] = ()
    reasoning: str = ""
    notices: tuple[Notice, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        width, height = self.image_size
        if any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in (width, height)):
            raise PlanError(
                f"a plan's image size is two positive whole numbers [width, height], found {shown(self.image_size)}"
            )
        if max(width, height) > LARGEST_SIDE:
            raise PlanError(
                f"a plan's image size {shown(self.image_size)} is larger than {LARGEST_SIDE} pixels a side; give the "
                "size of the image that the boxes refer to"
            )
        for name in ("global_prompt", "reasoning"):
            if not isinstance(getattr(self, name), str):
                raise PlanError(f"the plan's {name} must be text, found {shown(getattr(self, name))}")
            _check_characters(getattr(self, name), f"the plan's {name}")
        object.__setattr__(self, "image_size", (width, height))
        object.__setattr__(self, "regions", tuple(self.regions))
        object.__setattr__(self, "notices", tuple(self.notices))
        seen: set[str] = set()
        for region in self.regions:
            if region.id in seen:
                raise PlanError(f"two regions share the id '{region.id}'; give each its own")
            seen.add(region.id)
            x1, y1, x2, y2 = region.box
            if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
                raise PlanError(
                    f"region '{region.id}': the box {list(region.box)} lies outside the image of {width}x{height} "
                    "pixels; move it onto the image, or check which coordinates the boxes are written in"
                )
        self._freeze_extra()

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(region.id for region in self.regions)

    @property
    def active(self) -> RegionPlan:
        """The plan with the enabled regions only: what is drawn, checked, masked and sent to the model."""
        if all(region.enabled for region in self.regions):
            return self
        return self.with_regions(region for region in self.regions if region.enabled)

    def shift_on(self, width: float, height: float) -> float:
        """How far an edge could land from where it was drawn on an image of this width and height.

        In the units of width and height (pixels, or patches of a latent): half of what would have been cut away
        if the image came from the plan's image by cropping its centre, while the plan is stretched over it.
        0 for equal aspect ratios. More than one patch is refused everywhere (see `resize.fit_plan`).
        """
        return geometry.crop_shift(self.image_size, width, height)

    def with_regions(self, regions: Iterable[Region]) -> RegionPlan:
        """The same plan with other regions."""
        return replace(self, regions=tuple(regions))

    @property
    def warnings(self) -> tuple[str, ...]:
        """The notices in words."""
        return tuple(str(notice) for notice in self.notices)

    def with_notices(self, *notices: Notice) -> RegionPlan:
        """The same plan with `notices` added, each once."""
        return replace(self, notices=tuple(dict.fromkeys((*self.notices, *notices))))


def fresh_id(taken: Iterable[str], prefix: str = "r") -> str:
    """A name for one more region: r and its number, so r3 beside two others whatever they are called.

    When that is taken too, the first of r1, r2, ... that is free.
    """
    used = set(taken)
    numbers = itertools.chain([len(used) + 1], itertools.count(1))
    return next(name for number in numbers if (name := f"{prefix}{number}") not in used)

"""Plans from what a person connects or types: boxes and masks, with a hint each.

Nothing is guessed here: a wrong box, count or mask is an error that names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..geometry import Size
from ..plan import KEEP_UNCHANGED, Notice, PlanError, Region, RegionMask, RegionPlan, checked_box, clamped, shown
from .plan_json import decode_json

# ---- from boxes ---------------------------------------------------------------------------------------------


# Keys of a detector's answer for a whole image, and of one of its boxes; of an element that ComfyUI draws.
_BOX_LISTS, _LABEL_LISTS = ("bboxes", "boxes"), ("labels", "class_names", "classes", "names")
_LABELS = {"label", "class_name", "class", "name", "score", "confidence"}
_ELEMENT = {"type", "desc"}


class _Drawn(NamedTuple):
    """A box in pixels as it came, and what its source says about it."""

    box: Any
    description: str


def plans_from_boxes(
    boxes: Any, image_size: Size, hints: str = "", global_prompt: str = KEEP_UNCHANGED, images: int = 1
) -> list[RegionPlan]:
    """One plan for each frame of boxes (a list of boxes without frames is one frame).

    boxes: ComfyUI's BOUNDING_BOX (x, y, width, height in pixels: one, a list, or a list for each image), its
        `elements` ([ymin, xmin, ymax, xmax] in 0..1000 with a description), BBOX of detector packs (lists or tuples
        [x1, y1, x2, y2] in pixels), their JSON ({"bboxes": [...], "labels": [...]}, or an object for each box with
        "bbox" in pixels and its "label"), or a JSON text of any of these.
    image_size: (width, height) in pixels; images: how many images there are. Several frames must be as many.
    hints: one a line, line i for box i of every frame. Without any line, a description or label is the hint.

    A box that is not four finite numbers, has no area or lies outside the image, and a box without a hint, are
    PlanErrors that name it. A box over the border is clamped, with a warning.
    """
    frames = _frames(boxes, image_size)
    if len(frames) > 1 and len(frames) != images:
        raise PlanError(
            f"there are boxes for {len(frames)} images and {images} image{'s' * (images != 1)}; connect the batch the "
            "boxes were found in, or the boxes of one image"
        )
    lines = _hint_lines(hints)
    plans = []
    for number, frame in enumerate(frames, 1):
        where = f"image {number}, " if len(frames) > 1 else ""
        plans.append(_plan_from_frame(frame, image_size, lines, global_prompt, where))
    return plans


def _plan_from_frame(
    frame: Sequence[_Drawn], image_size: Size, lines: Sequence[str], global_prompt: str, where: str
) -> RegionPlan:
    texts = _hints_for([drawn.description for drawn in frame], lines, f"{where}box", "boxes")
    width, height = image_size
    regions: list[Region] = []
    notices: list[Notice] = []
    for number, (drawn, hint) in enumerate(zip(frame, texts, strict=True), 1):
        name = f"{where}box {number}"
        box = checked_box(drawn.box, name)
        inside = clamped(box, image_size)
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            raise PlanError(
                f"{name}: {list(box)} lies outside the image of {width}x{height} pixels; move it onto the image"
            )
        if inside != box:
            told = f"{name}: {list(box)} reaches over the border of the image of {width}x{height} and was clamped to it"
            notices.append(Notice("clamped", told, regions=(f"r{number}",)))
        regions.append(Region(f"r{number}", box, hint).on_image(image_size))
    if not regions:
        remedy = "draw or connect boxes, or leave it so for an edit by the global prompt alone"
        notices.append(Notice("no_boxes", "there are no boxes: the plan has no regions", remedy))
    return RegionPlan(image_size, _prompt(global_prompt), tuple(regions), notices=tuple(notices))


def _frames(boxes: Any, image_size: Size) -> list[list[_Drawn]]:
    """Sort the kinds of boxes out into a list of boxes for each image."""
    if isinstance(boxes, str):
        if not boxes.strip():
            raise PlanError("the boxes are an empty text; give a JSON list of boxes [[x1, y1, x2, y2], ...]")
        boxes = decode_json(boxes, "the boxes' text, which must be a JSON list of boxes [[x1, y1, x2, y2], ...],")
    boxes = _without_columns(_without_arrays(boxes))
    if isinstance(boxes, Mapping) or _is_numbers(boxes):
        boxes = [boxes]
    if not isinstance(boxes, (list, tuple)):
        raise PlanError(f"boxes are bounding boxes, elements, or a JSON text of them, found {shown(boxes)}")
    # Numbers are a box; a list whose members are lists of objects or of boxes holds a list for each image.
    if boxes and all(isinstance(frame, (list, tuple)) and not _is_numbers(frame) for frame in boxes):
        return [[_drawn(box, number, image_size) for number, box in enumerate(frame, 1)] for frame in boxes]
    return [[_drawn(box, number, image_size) for number, box in enumerate(boxes, 1)]]


def _without_arrays(value: Any) -> Any:
    """Arrays and tensors, whole or inside of lists, as lists."""
    if isinstance(value, (list, tuple)):
        return [_without_arrays(entry) for entry in value]
    return value.tolist() if hasattr(value, "tolist") and not isinstance(value, np.generic) else value


def _without_columns(value: Any) -> Any:
    """Objects that hold a list of boxes and perhaps one of their labels, one for each image, as lists of objects."""
    if isinstance(value, list) and value and all(isinstance(entry, Mapping) and _columns(entry) for entry in value):
        return [_without_columns(entry) for entry in value]
    columns = _columns(value) if isinstance(value, Mapping) else None
    if columns is None:
        return value
    boxes, labels = columns
    if labels and len(labels) != len(boxes):
        raise PlanError(f"there are {len(boxes)} boxes and {len(labels)} labels in one object; they must be as many")
    rows = zip(boxes, labels or [""] * len(boxes), strict=True)
    return [{"bbox": _without_arrays(box), "label": label} for box, label in rows]


def _columns(value: Mapping[str, Any]) -> tuple[list[Any], list[Any]] | None:
    """The boxes and the labels of an object that holds lists of them."""
    boxes, labels = (next((value[key] for key in keys if key in value), None) for keys in (_BOX_LISTS, _LABEL_LISTS))
    boxes, labels = _without_arrays(boxes), _without_arrays(labels)
    return (boxes, labels or []) if isinstance(boxes, list) and isinstance(labels, (list, type(None))) else None


def _is_numbers(value: Any) -> bool:
    """Whether it is a list that means to be a box: some number or text in it, no object and no list."""
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and not any(isinstance(v, (Mapping, list, tuple)) for v in value)
    )


def _drawn(box: Any, number: int, image_size: Size) -> _Drawn:
    """One box of any kind, in pixels (x1, y1, x2, y2); its numbers are checked later."""
    name = f"box {number}"
    if isinstance(box, (list, tuple)):
        return _Drawn(box, "")
    if not isinstance(box, Mapping):
        raise PlanError(f"{name}: a box is [x1, y1, x2, y2] or an object with x, y, width, height, found {shown(box)}")
    if "bbox" in box and _LABELS.intersection(box) and not _ELEMENT.intersection(box):
        label = next(
            (box[key] for key in ("label", "class_name", "class", "name") if isinstance(box.get(key), str)), ""
        )
        return _Drawn(_without_arrays(box["bbox"]), label.strip())
    if "bbox" in box:
        if not isinstance(box["bbox"], (list, tuple)) or len(box["bbox"]) != 4:
            raise PlanError(
                f"{name}: an element's bbox is four numbers [ymin, xmin, ymax, xmax], found {shown(box['bbox'])}"
            )
        y1, x1, y2, x2 = (_finite(value, name) for value in box["bbox"])
        if not all(0 <= value <= 1000 for value in (y1, x1, y2, x2)):
            raise PlanError(f"{name}: an element's bbox lies in 0..1000 of the image, found {list(box['bbox'])}")
        width, height = image_size
        return _Drawn((x1 * width / 1000, y1 * height / 1000, x2 * width / 1000, y2 * height / 1000), _description(box))
    missing = [key for key in ("x", "y", "width", "height") if key not in box]
    if missing:
        also = "; for regions with hints use RePlan Plan from Text" if "bbox_2d" in box else ""
        raise PlanError(f"{name} has no {', '.join(missing)}: a bounding box is x, y, width, height in pixels{also}")
    x, y, width, height = (_finite(box[key], name) for key in ("x", "y", "width", "height"))
    metadata = box.get("metadata")
    return _Drawn((x, y, x + width, y + height), _description(metadata) if isinstance(metadata, Mapping) else "")


def _finite(value: Any, name: str) -> float:
    try:
        if not isinstance(value, bool) and isinstance(value, (int, float, np.number)) and math.isfinite(value):
            return float(value)
    except OverflowError:
        raise PlanError(f"{name}: the number {shown(value)} is too large; give pixels of the image") from None
    raise PlanError(f"{name}: a box is made of finite numbers, found {shown(value)}")


def _description(element: Mapping[str, Any]) -> str:
    """The words of an element; one that is a piece of writing says so, as ComfyUI's own drawing does."""
    words = element.get("desc")
    words = words.strip() if isinstance(words, str) else ""
    written = element.get("text")
    if element.get("type") == "text" and isinstance(written, str) and written.strip():
        return f'the text "{written.strip()}"' + (f", {words}" if words else "")
    return words


# ---- from masks ---------------------------------------------------------------------------------------------


def plan_from_masks(masks: np.ndarray, hints: str = "", global_prompt: str = KEEP_UNCHANGED) -> RegionPlan:
    """One region for each mask: its tight box (right and bottom edge exclusive) and the mask itself.

    masks: (N, H, W) or (H, W), values 0..1, inside above 0.5; the plan's image size is (W, H).
    hints: one a line, line i for mask i. An empty mask and a mask without a hint are PlanErrors that name it.
    """
    stack = np.asarray(masks)
    if stack.ndim == 2:
        stack = stack[None]
    if stack.ndim != 3 or 0 in stack.shape[1:]:
        raise PlanError(f"masks have the shape (number, height, width), found {stack.shape}")
    count, height, width = stack.shape
    texts = _hints_for([""] * count, _hint_lines(hints), "mask", "masks")
    regions = []
    for number, (mask, hint) in enumerate(zip(stack, texts, strict=True), 1):
        inside = mask > 0.5
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if not rows.size:
            most = float(np.nanmax(mask)) if not np.isnan(mask).all() else math.nan
            raise PlanError(
                f"mask {number} of {count} is empty: nothing in it is above 0.5 (its largest value is {most:g}); "
                "paint it, or leave it out together with its hint"
            )
        box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
        regions.append(Region(f"r{number}", box, hint, mask=RegionMask.from_array(inside)))
    remedy = "connect a mask for each region, or leave it so for an edit by the global prompt alone"
    notices = () if regions else (Notice("no_masks", "there are no masks: the plan has no regions", remedy),)
    return RegionPlan((int(width), int(height)), _prompt(global_prompt), tuple(regions), notices=notices)


# ---- hints --------------------------------------------------------------------------------------------------


def _hint_lines(hints: str) -> list[str]:
    """The lines, stripped; empty ones at the end do not count, empty ones between stand for a missing hint."""
    lines = [line.strip() for line in hints.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _hints_for(descriptions: Sequence[str], lines: Sequence[str], one: str, many: str) -> list[str]:
    """A hint for each box or mask: its line, or without any line its own description."""
    if lines and len(lines) != len(descriptions):
        if len(descriptions) == 1:
            raise PlanError(
                f"there is 1 {one.split(', ')[-1]} and {len(lines)} hints; write one hint a line, as many as {many}"
            )
        raise PlanError(
            f"there are {len(descriptions)} {many} and {len(lines)} hint{'s' * (len(lines) != 1)}"
            f"{' for ' + one.split(',')[0] if ',' in one else ''}; write one hint a line, as many as {many}"
        )
    texts = list(lines) or list(descriptions)
    for number, text in enumerate(texts, 1):
        if not text:
            raise PlanError(f"{one} {number} has no hint; write one hint a line, line {number} for {one} {number}")
    return texts


def _prompt(global_prompt: str) -> str:
    return global_prompt if global_prompt.strip() else KEEP_UNCHANGED

"""What a detection or VQA reply earns (VisionReasoner's rewards, as RePlan's training uses them).

total = format (to 1) + accuracy (to 3) + non_repeat (to 1). Accuracy: the best one-to-one match of the boxes with those
of the ground truth, for each pair 1 for IoU > 0.5, 1 for edges that are off by less than 10 pixels on average, 1 for a
point less than 30 pixels away that lies in its own box; over the greater number of boxes.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from .editing import LEAST
from .tags import between, blocks, copies, follow, plain, tidy, without_space_at_signs
from .value import Reward, plain_values, reply_text

MOST_OBJECTS = 120
_IOU, _EDGES, _POINT = 0.5, 10.0, 30.0
_KEYS = ("bbox_2d", "point_2d", "label")
_COPIED = -20.0
_SENTENCE = re.compile(r"[.!?\n\u3002\uff01\uff1f]+")


class Objects(NamedTuple):
    """boxes: (N, 4) as [x1, y1, x2, y2]; points: (N, 2), NaN where there is none. wrong: how many items have
    no box with an area."""

    boxes: np.ndarray
    points: np.ndarray
    wrong: int = 0


def detection_reward(reply: Any, ground_truth: Any, *, published: bool = False) -> Reward:
    """Parts format, accuracy and non_repeat. Boxes of the ground truth and of the reply count in the same pixels.

    ground_truth: the list of {"bbox_2d", "point_2d"} that should be found, or its JSON. Mended, a ground truth that is
    none raises ValueError; the published code scores each reply to it 0.
    """
    text = reply_text(reply)
    text = without_space_at_signs(text) if published else tidy(text)
    body = between(text, "region")
    think = between(text, "think") or ""
    if published:
        is_formed, copied = follow(text, ("think", "region")), think == "Reasoning process"
    else:
        # The templates ask for an <answer> behind the regions, which the published pattern refuses.
        is_formed = blocks(text) == ["think", "region"] and bool(plain(think))
        copied = copies(think, "think", ("Reasoning process",))
    found = _json(body or "")
    form = 0.0 if not is_formed else (_COPIED if published else LEAST) if copied else _list_form(found)
    accuracy = _published_accuracy(found, ground_truth) if published else _accuracy(found, ground_truth)
    non_repeat = _non_repeat(text.split(".") if published else _SENTENCE.split(think))
    parts = {"format": form, "accuracy": accuracy, "non_repeat": non_repeat}
    return Reward(sum(parts.values()), parts)


def _json(text: str) -> Any:
    """The JSON value of a text; `...` for a text that is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return ...


def _list_form(found: Any) -> float:
    if found is ...:
        return 0.25
    if not isinstance(found, list):
        return 0.5
    return 1.0 if all(isinstance(item, dict) and all(key in item for key in _KEYS) for item in found) else 0.75


def _non_repeat(sentences: list[str]) -> float:
    said = [sentence.strip() for sentence in sentences if sentence.strip()]
    return 1.0 if len(said) - len(set(said)) < 2 else 0.0


# ---- accuracy --------------------------------------------------------------------------------------------------------


def _accuracy(found: Any, ground_truth: Any) -> float:
    """Mended: an item that is no object counts as a wrong one and not against the others; nothing where nothing is."""
    ground_truth = plain_values(ground_truth)
    wanted = _objects(ground_truth if isinstance(ground_truth, list) else _json(str(ground_truth)))
    if wanted is None or wanted.wrong:
        raise ValueError(
            f"the ground truth {str(ground_truth)[:80]!r} is no list of objects with a bbox_2d [x1, y1, x2, y2]; "
            "give such a list or its JSON, [] where nothing is to be found"
        )
    given = _objects(found)
    if given is None:
        return 0.0
    items = len(given.boxes) + given.wrong
    if not items and not len(wanted.boxes):
        return 3.0
    most = max(items, len(wanted.boxes))
    return _matched(given, wanted, 0.0, False) / most if len(given.boxes) and len(wanted.boxes) else 0.0


def _objects(listed: Any) -> Objects | None:
    if not isinstance(listed, list):
        return None
    boxes, points = [], []
    for item in listed:
        box = _numbers(item.get("bbox_2d"), 4) if isinstance(item, dict) else None
        if box and box[0] < box[2] and box[1] < box[3]:
            boxes.append(box)
            points.append(_numbers(item.get("point_2d"), 2) or [math.nan, math.nan])
    return Objects(np.reshape(boxes, (-1, 4)), np.reshape(points, (-1, 2)), len(listed) - len(boxes))


def _numbers(value: Any, count: int) -> list[float] | None:
    if not isinstance(value, list) or len(value) != count:
        return None
    fine = all(isinstance(one, (int, float)) and not isinstance(one, bool) and abs(one) < 1e9 for one in value)
    return [float(one) for one in value] if fine else None


def _published_accuracy(found: Any, ground_truth: Any) -> float:
    """As published: 0 for anything that goes wrong, an empty list among it; a missing point is [0, 0]."""
    try:
        sides = []
        for listed in (found, json.loads(ground_truth)):
            boxes = np.array([item["bbox_2d"] for item in listed][:MOST_OBJECTS])
            points = np.array([item.get("point_2d", [0, 0]) for item in listed][:MOST_OBJECTS])
            if boxes.shape[1:] != (4,):  # also an empty list
                return 0.0
            sides.append(Objects(boxes, points))
        given, wanted = sides
        with np.errstate(all="ignore"):  # a box of 1e308 pixels
            return _matched(given, wanted, 1.0, True) / max(len(given.boxes), len(wanted.boxes))
    except Exception:  # the published code catches everything here
        return 0.0


def _matched(given: Objects, wanted: Objects, pixel: float, published: bool) -> float:
    """The reward of the best match. pixel: 1 where an edge counts as a whole pixel, as in the published IoU."""
    boxes, points = given.boxes[:MOST_OBJECTS, None], given.points[:MOST_OBJECTS, None]
    true, aims = wanted.boxes[None, :MOST_OBJECTS], wanted.points[None, :MOST_OBJECTS]
    corner, end = np.maximum(boxes[..., :2], true[..., :2]), np.minimum(boxes[..., 2:], true[..., 2:])
    shared = np.prod(np.maximum(end - corner + pixel, 0), axis=-1)
    areas = [np.prod(one[..., 2:] - one[..., :2] + pixel, axis=-1) for one in (boxes, true)]
    overlap = shared / np.maximum(areas[0] + areas[1] - shared, 1e-6) > _IOU
    edges = np.abs(boxes - true).mean(axis=-1) < _EDGES
    near = np.linalg.norm(points - aims, axis=-1) < _POINT
    if not published:  # a ground truth without a point: it lies in the true box
        inside = (points >= true[..., :2]).all(axis=-1) & (points <= true[..., 2:]).all(axis=-1)
        near = np.where(np.isnan(aims).any(axis=-1), inside, near)
    own = (points >= boxes[..., :2]).all(axis=-1) & (points <= boxes[..., 2:]).all(axis=-1)
    worth = overlap.astype(float) + edges + (near & own)
    return float(worth[linear_sum_assignment(-worth)].sum())

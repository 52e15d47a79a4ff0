"""Every word that the reader of replies knows. To teach it one more, add it to its table here; that is all.

Words are compared without regard to capitals, spaces, hyphens and underscores: `bbox_2d` stands for `BBox 2D` too. In a
line, the first word that an object has wins.
"""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=4096)
def plain(word: str) -> str:
    """A word without regard to capitals, spaces and signs."""
    return "".join(sign for sign in word.lower() if sign.isalnum())


def words(*given: str) -> dict[str, int]:
    """Each word as it is looked up, with its place in the line."""
    return {plain(word): place for place, word in reversed(list(enumerate(given)))}


# ---- parts of a plan: tags around them (<gen_image>...), keys of an object, headings ------------------------------

GLOBAL_PROMPT = words(
    "global_prompt", "gen_image", "global_edit", "global_instruction", "global_hint", "overall_edit", "global_change",
    "edit_global", "whole_image", "overall_prompt", "overall_instruction", "global", "\u5168\u5c40\u63d0\u793a",
    "\u5168\u5c40\u7f16\u8f91", "\u5168\u5c40\u6307\u4ee4", "\u5168\u5c40", "\u6574\u4f53\u63d0\u793a",
    "\u6574\u4f53",
)  # fmt: skip
REGION_TAGS = words("region", "regions", "region_list", "\u533a\u57df", "\u533a\u57df\u5217\u8868")
REASONING = words(
    "think", "thinking", "thought", "thoughts", "reasoning", "reasoning_content", "reason", "rationale", "analysis",
    "reflection", "scratchpad", "chain_of_thought", "cot", "inner_monologue", "thought_process", "internal_thoughts",
    "inner_prefix", "details", "monologue", "planning", "\u601d\u8003", "\u601d\u8003\u8fc7\u7a0b", "\u63a8\u7406",
    "\u5206\u6790",
)  # fmt: skip
# A tag whose name holds one of them is reasoning too: <seed:think>, <longcat_think>, <|begin_of_thought|>.
REASONING_STEMS = ("think", "thought", "reasoning", "reflect")
IMAGE_SIZE = words("image_size")
# Remarks: what else a reply may say; a plan keeps it under the first name. A hypothetical instruction has a kind.
REMARKS = {
    "answer": ("answer", "final_answer"),
    "kind": ("kind", "family"),
    "outcome": ("outcome",),
    "scene": ("scene",),
    "scene_after": ("scene_after", "intended_scene"),
    "ambiguous": ("ambiguous", "ambiguity", "is_ambiguous", "unclear"),
    "candidates": ("candidates", "alternatives", "interpretations", "possible_targets"),
}

# ---- keys of an object ---------------------------------------------------------------------------------------------

# Under which a list of regions stands, or an object with the parts of a plan.
LISTS = words(
    "regions", "region", "objects", "edits", "items", "boxes", "plan", "result", "results", "region_list",
    "local_edits", "local_regions", "detections", "predictions", "annotations", "elements", "local", "arguments",
    "parameters", "answer", "final_answer", "\u533a\u57df", "\u533a\u57df\u5217\u8868",
)  # fmt: skip
# Under which a program's answer holds the text of a reply: looked at first.
ENVELOPES = words(
    "content", "text", "response", "output", "message", "arguments", "answer", "result", "data", "completion"
)
# What should be seen in the box afterwards.
HINTS = words(
    "hint", "hints", "hint_text", "hint_list", "region_hints", "prompt", "prompts", "instruction", "instructions",
    "edit", "edit_instruction", "edit_prompt", "edit_hint", "change", "changes", "action", "modification", "desired",
    "replacement", "\u63d0\u793a", "\u7f16\u8f91", "\u6307\u4ee4", "\u4fee\u6539",
)  # fmt: skip
# What is there: they stand for hints only where no item has any.
LABELS = words(
    "label", "labels", "text_content", "description", "caption", "text", "name", "names", "object", "object_name",
    "class_name", "class", "classes", "category", "category_name", "target", "title", "subject", "what", "item",
    "thing", "element", "entity", "phrase", "ref", "tag", "desc", "alt", "concept", "noun", "content", "\u6807\u7b7e",
    "\u63cf\u8ff0", "\u540d\u79f0", "\u7269\u4f53",
)  # fmt: skip
# A text under any other key may stand for the words of an item, but never one of these.
NO_LABELS = words(
    "id", "index", "number", "no", "uuid", "color", "colour", "type", "kind", "shape", "format", "mode", "unit",
    "units", "mask", "score", "confidence", "status", "priority", "language", "lang", "image", "image_id", "file",
    "file_name", "path", "url", "time", "date", "source", "negative_hint", "negative_prompt", "position", "location",
    "size", "reason", "reasoning", "difficulty", "coordinate_system", "role",
)  # fmt: skip
# Of an object or a list in the place of a text: the words in it.
WORDS = words("prompt", "text", "hint", "instruction", "edit", "description", "label", "name", "content", "value")
# Says that the whole image is edited and no region: {"scope": "global"}, {"global_only": true}.
GLOBAL_ONLY = words("global_only", "is_global", "scope", "edit_type", "edit_scope")
GLOBAL_WORDS = ("global", "whole", "whole image", "whole_image", "entire image", "true", "yes")

# ---- where something is --------------------------------------------------------------------------------------------

# How the four numbers under a key are meant; an ordinary new key goes into AS_CHOSEN. No key says what they count: that
# is chosen, or guessed from the numbers. AS_CHOSEN: in the order of the chosen coordinates. BOX_2D: top edge first
# where the coordinates were not chosen or say so (Gemini, Gemma), else left edge first (GLM). Then left edge first, top
# edge first, a corner and a size, a centre and a size.
AS_CHOSEN, BOX_2D, X_FIRST, Y_FIRST, CORNER_SIZE, CENTRE_SIZE = "as chosen", "box_2d", "xyxy", "yxyx", "xywh", "cxcywh"
BOXES = {
    AS_CHOSEN: (
        "bbox_2d", "bbox", "2d_bbox", "bounding_box", "bounding_box_2d", "box", "boxes", "bboxes", "bounding_boxes",
        "bbox_coordinates", "box_coordinates", "coordinates", "coordinate", "coords", "bndbox", "rect", "rectangle",
        "region_box", "bounds", "bounding_rect", "region", "regions", "region_boxes", "bbox_list", "box_list",
        "bboxes_2d", "location", "position", "area", "polygon", "polygons", "quad_boxes", "bounding_poly",
        "bounding_polygon", "vertices", "normalized_vertices", "\u5750\u6807", "\u8fb9\u754c\u6846",
    ),
    BOX_2D: ("box_2d", "boxes_2d"),
    X_FIRST: ("bbox_xyxy", "box_xyxy", "xyxy", "ltrb"),
    Y_FIRST: ("bbox_yxyx", "box_yxyx", "yxyx", "tlbr"),
    CORNER_SIZE: ("bbox_xywh", "box_xywh", "xywh", "ltwh"),
    CENTRE_SIZE: ("bbox_cxcywh", "box_cxcywh", "cxcywh"),
}  # fmt: skip
POINTS = words("point_2d", "point", "points", "point2d", "points_2d", "center", "centre", "center_point", "click_point")

# Names of edges and corners are put together: min_x, xmin, x_start, left, top_left_x, ... One more word makes them all.
_FIRST = (
    "min", "start", "begin", "from", "first", "low", "top_left", "left_top", "upper_left", "tl", "ul", "lt", "nw",
    "\u5de6\u4e0a",
)  # fmt: skip
_LAST = (
    "max", "end", "stop", "to", "last", "high", "bottom_right", "right_bottom", "lower_right", "br", "lr", "rb", "se",
    "\u53f3\u4e0b",
)  # fmt: skip
_SIDES = {
    "x1": ("left", "l", "west", "\u5de6"), "y1": ("top", "upper", "t", "north", "\u4e0a"),
    "x2": ("right", "r", "east", "\u53f3"), "y2": ("bottom", "lower", "b", "south", "\u4e0b"),
}  # fmt: skip
_AXES = {"x": ("x", "col", "column"), "y": ("y", "row")}
_SIZES = {"w": ("w", "width", "box_width"), "h": ("h", "height", "box_height")}
_CENTRES = ("c", "center", "centre", "mid", "middle")
# A pair of numbers, or an object with x and y, under one name.
_CORNERS = ("corner", "point")
_PAIRS = {
    "first": (
        *_FIRST, "p1", "p0", "pt1", "point1", "corner1", "x1y1", "xy", "origin", "corner", "position", "location",
        "offset",
    ),
    "last": (*_LAST, "p2", "pt2", "point2", "corner2", "x2y2"),
    "upper": ("top_right", "upper_right", "tr", "right_top", "ne"),
    "lower": ("bottom_left", "lower_left", "bl", "left_bottom", "sw"),
    "centre": ("center", "centre", "center_point", "mid_point", "middle"),
    "size": ("size", "dimensions", "extent", "wh"),
    "x range": ("x", "xs", "x_range"),
    "y range": ("y", "ys", "y_range"),
}  # fmt: skip

# ---- marks of model families ---------------------------------------------------------------------------------------

# Around a thing's name and around its boxes: <|object_ref_start|>, <ref>, <|det|>, <|begin_of_box|>, <phrase>, ...
NAME_MARKS = ("object_ref", "ref", "p", "phrase")
BOX_MARKS = ("box", "det", "bbox", "quad", "object")
# Coordinates that are tokens of their own: how a run of them begins, how one looks, how many steps the image has, and
# whether the top edge comes first. PaliGemma, Florence-2, Kosmos-2 (it numbers the cells of a grid), MiniGPT-4,
# Rex-Omni.
KOSMOS_CELLS = 32
COORDINATE_TOKENS = (
    ("", r"<loc\d{4}>", 1024, True),
    ("", r"<loc_\d{1,4}>", 1000, False),
    ("", r"<patch_index_\d{1,4}>", KOSMOS_CELLS, False),
    (r"\{", r"<\d{1,3}>", 100, False),
    ("", r"<\d{1,3}>", 1000, False),
)
# Points of Molmo, in percent: <point x="50.0" y="25.0" alt="a cup">.
POINT_TAG = re.compile(r"<points?(?P<attributes>\s[^<>]{1,4000})>(?:(?P<name>[^<>\n]{0,200})</points?>)?")
# Marks around reasoning that are not built from a word of REASONING: how they begin, how they end.
REASONING_OPENS = (
    r"<\|channel\|?>\s{0,4}(?:analysis|thought)(?:<\|message\|>)?",
    r"<unused94>(?:thought)?",
    r"\A\s{0,8}analysis(?=[A-Z])",
    r"(?i:here(?: is|'s) my thought process:)",
    r"\AThinking\.\.\.\n",
)
REASONING_ENDS = (
    r"(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>\s{0,4}final\s{0,4}<\|message\|>", r"<channel\|>",
    r"<unused95>", r"assistantfinal", r"(?i:here(?: is|'s) my response:)", r"\.\.\.done thinking\.",
)  # fmt: skip
SPECIAL_TOKENS = re.compile(r"<\|[A-Za-z_]{1,30}\|>|<(?:end_of_turn|start_of_turn|eos|bos|/?s|pad|grounding|seg\d{3})>")

# ---- words in prose --------------------------------------------------------------------------------------------------

# What models write for a hint or a label that they have not. ("empty" and "nothing" may be what is seen afterwards.)
NO_WORDS = ("none", "null", "nil", "n/a", "\u65e0")
NOTHING = re.compile(
    r"\W{0,8}(?:none|null|nil|empty|nothing|n/?a"
    r"|no (?:global|overall|local|regional|regions?|changes?|edits?|objects?|items?)\b[^.\n]{0,60}"
    r"|\u65e0|\u6ca1\u6709)\W{0,8}",
    re.IGNORECASE,
)
# Between two answers: the second corrects the first.
CORRECTION = re.compile(
    r"\b(?:wait|no|oops|sorry|actually|instead|rather|correct(?:ed|ion|ing)?|wrong|mistaken?|fix(?:ed)?|revis(?:ed?|ion)|updated?|final(?:ly)?"
    r"|better|improved|refined?|redo|re-?check(?:ed|ing)?|on second thought|let me (?:try|re))\b"
    r"|\u66f4\u6b63|\u4fee\u6b63|\u7b49\u7b49|\u4e0d\u5bf9|\u6700\u7ec8|\u91cd\u65b0|\u9519",
    re.IGNORECASE,
)


# ---- how they are looked up ----------------------------------------------------------------------------------------


def _tags() -> dict[str, str]:
    """The part that each tag holds."""
    parts = {"think": REASONING, "gen_image": GLOBAL_PROMPT, "region": REGION_TAGS, "image_size": IMAGE_SIZE, **REMARKS}
    return {plain(word): part for part, said in parts.items() for word in said}


@lru_cache(maxsize=1024)
def tag(name: str) -> tuple[str, bool | None]:
    """The part that a tag holds ("" if it is none of ours); and whether it opens (False) or closes it by its name."""
    word = plain(name.rpartition(":")[2])
    if word in TAGS:
        return TAGS[word], None
    if word == "innersuffix" or word.startswith("end") and _is_reasoning(word):
        return "think", True
    if _is_reasoning(word):
        return "think", False if word.startswith(("begin", "start")) else None
    return "", None


def _is_reasoning(word: str) -> bool:
    return any(stem in word for stem in REASONING_STEMS)


def _edges() -> dict[str, str]:
    """x1, y1, x2, y2, w, h, x, y, cx or cy for every name of an edge, a size or a centre."""
    found = {plain(word): edge for edge, names in (*_SIDES.items(), *_SIZES.items()) for word in names}
    for axis, axes in _AXES.items():
        names = {
            f"{axis}0": ("0",), f"{axis}1": ("1", *_FIRST, *_SIDES[f"{axis}1"]),
            f"{axis}2": ("2", *_LAST, *_SIDES[f"{axis}2"]),
            f"c{axis}": _CENTRES, axis: ("", "offset", "pos"),
        }  # fmt: skip
        for edge, said in names.items():
            for word in map(plain, said):
                for one in axes:
                    found |= {one + word: edge, word + one: edge}
    return found


def _pairs() -> dict[str, str]:
    """first, last, upper, lower, centre, size, x range or y range for every name of a pair of numbers."""
    found = {plain(word): role for role, names in _PAIRS.items() for word in names}
    for role in ("first", "last", "upper", "lower"):
        for word in map(plain, _PAIRS[role]):
            found |= {word + noun: role for noun in _CORNERS} | {noun + word: role for noun in _CORNERS}
    return found


TAGS = _tags()
EDGES = _edges()
PAIRS = _pairs()
BOX_ORDERS = {plain(word): order for order, names in BOXES.items() for word in names}
MARKS = {
    plain(prefix + word + suffix): (role, closes)
    for role, names in (("name", NAME_MARKS), ("box", BOX_MARKS))
    for word in names
    for prefix, suffix, closes in (
        ("", "", None), ("", "start", False), ("", "end", True), ("beginof", "", False), ("endof", "", True),
    )
}  # fmt: skip

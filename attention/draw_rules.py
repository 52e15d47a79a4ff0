"""Rules as images: the component table, and a map of who sees whom over the real token layout."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..planner.plan import RegionPlan
from .components import Component, Layout, build_layout
from .families import FAMILIES
from .grid import Grid, cover
from .rules import PRESETS, Rules, owner_of
from .rules_page import SHORT_NAMES

_SEES = (46, 125, 80)
_BLIND = (206, 208, 214)
_DIFFERS = (214, 98, 40)
_INK = (30, 32, 38)
_PAPER = (250, 250, 248)
# More components than this make no readable table.
_READABLE = 90


def example_layout(plan: RegionPlan, family: str) -> Layout:
    """The layout of one edit of the plan's image with one reference of the same size, at 16 pixels a patch.

    Images above 1 megapixel are taken at 1 megapixel, as the editors do.
    """
    width, height = plan.image_size
    scale = min(1.0, (1024 * 1024 / (width * height)) ** 0.5)
    grid = Grid.of_latent(max(1, round(height * scale / 16)), max(1, round(width * scale / 16)), 1)
    covered = cover(plan, grid)
    text = FAMILIES[family].typical
    return build_layout(
        region_ids=plan.ids,
        main_tokens=text.main,
        image_spans=text.image_spans,
        hint_tokens=(text.hint,) * len(plan.regions),
        noise_cover=covered,
        reference_tokens=(grid.tokens,),
        edited_reference=1,
        edited_cover=covered,
    )


def draw_rules(layout: Layout, rules: Rules, family: str) -> Image.Image:
    """Table and map of each phase, side by side; a table of very many regions is left out."""
    rules = rules.for_family(family)
    preset = PRESETS[rules.preset]
    plain = Rules(rules.preset)
    rows = []
    for phase in ("before", "after") if rules.two_phases else ("after",):
        sees = rules.table(layout.components, phase)
        label = f"{preset.name}, {phase} the switch" if rules.two_phases else preset.name
        pictures = [draw_layout(layout, sees, f"{family}: {layout.tokens} tokens")]
        if len(layout.components) <= _READABLE:
            pictures.insert(0, draw_table(layout.components, sees, plain.table(layout.components, phase), label))
        rows.append(beside(pictures))
    return _stacked(rows)


def short_name(part: Component) -> str:
    """The component's name as a table's heading: 'H r1', 'N.BG', 'Ref 2'."""
    owner = owner_of(part.key)
    return f"{SHORT_NAMES[part.kind]} {owner}" if owner else SHORT_NAMES[part.kind]


def draw_table(parts: tuple[Component, ...], sees: np.ndarray, default: np.ndarray | None, title: str) -> Image.Image:
    """The rules of one phase: rows are queries, columns keys; green sees, grey does not.

    sees, default: boolean (C, C); a cell that differs from `default` has an orange edge.
    """
    cell = max(10, min(34, 900 // len(parts)))
    font = ImageFont.load_default(max(10, min(15, cell - 2)))
    heading = ImageFont.load_default(18)
    names = [_clipped(short_name(part), font, 130) for part in parts]
    room = int(max(font.getlength(name) for name in names)) + 14
    side = cell * len(parts)
    picture = Image.new("RGB", (room + side + 16, 44 + room + side + 16), _PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((10, 10), title, fill=_INK, font=heading)
    top = 44 + room
    for i, name in enumerate(names):
        draw.text((room - 6, top + i * cell + cell / 2), name, fill=_INK, font=font, anchor="rm")
        column = Image.new("RGBA", (room, cell), (0, 0, 0, 0))
        ImageDraw.Draw(column).text((4, cell / 2), name, fill=_INK, font=font, anchor="lm")
        turned = column.rotate(90, expand=True)
        picture.paste(turned, (room + i * cell, 44), turned)
    for row in range(len(parts)):
        for column in range(len(parts)):
            x, y = room + column * cell, top + row * cell
            box = (x + 1, y + 1, x + cell - 2, y + cell - 2)
            changed = default is not None and default[row, column] != sees[row, column]
            draw.rectangle(
                box,
                fill=_SEES if sees[row, column] else _BLIND,
                outline=_DIFFERS if changed else None,
                width=max(2, cell // 8),
            )
    return picture


def draw_layout(layout: Layout, sees: np.ndarray, title: str, side: int = 640) -> Image.Image:
    """The attention of a whole call: tokens in sequence order on both axes, green where a query sees a key.

    A sequence longer than `side` is sampled at even steps, so a thin component may lie between two samples.
    """
    at = np.linspace(0, layout.tokens - 1, min(side, layout.tokens)).round().astype(int)
    members = layout.members.astype(np.float32)
    visible = ((members @ sees.astype(np.float32) @ members.T) > 0)[layout.atom[at]][:, layout.atom[at]]
    pixels = np.where(visible[..., None], np.array(_SEES), np.array(_BLIND)).astype(np.uint8)
    map_ = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
    picture = Image.new("RGB", (side + 24, side + 56), _PAPER)
    ImageDraw.Draw(picture).text((12, 10), title, fill=_INK, font=ImageFont.load_default(18))
    picture.paste(map_, (12, 44))
    return picture


def beside(pictures: list[Image.Image]) -> Image.Image:
    """Pictures in one row, top-aligned."""
    whole = Image.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)), _PAPER)
    x = 0
    for picture in pictures:
        whole.paste(picture, (x, 0))
        x += picture.width
    return whole


def _stacked(rows: list[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (max(p.width for p in rows), sum(p.height for p in rows)), _PAPER)
    y = 0
    for picture in rows:
        whole.paste(picture, (0, y))
        y += picture.height
    return whole


def _clipped(text: str, font: ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "..") > width:
        text = text[:-1]
    return text + ".."

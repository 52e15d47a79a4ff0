"""Short texts beside boxes on an image: a font that has the letters, line breaks, and a free place.

No font is shipped. Fonts that systems commonly bring come first, because Pillow's own has only ASCII and is hard
to read when small; a machine without a letter gets it without its accents, or a note instead of empty boxes.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from PIL import ImageDraw, ImageFont

# Names only: Pillow looks them up in the system's own font folders (Windows, macOS, Linux).
FONT_NAMES = (
    "DejaVuSans.ttf",
    "segoeui.ttf",
    "arial.ttf",
    "Arial.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Helvetica.ttc",
    "msyh.ttc",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "YuGothM.ttc",
    "meiryo.ttc",
    "malgun.ttf",
    "AppleSDGothicNeo.ttc",
    "Nirmala.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "FreeSans.ttf",
)

MOST_LINES = 3
# Texts longer than this are cut before they are measured.
MOST_LETTERS = 300
# Above this many labels no free places are looked for.
MOST_PLACED = 60

Rect = tuple[int, int, int, int]


def write(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    boxes: list[Rect],
    texts: list[str],
    colours: list[tuple[int, int, int]],
) -> list[Rect]:
    """Write each text beside its box, on its box's colour, inside the image; returns where, (x1, y1, x2, y2)."""
    height = max(11, min(64, round((size[0] * size[1]) ** 0.5 / 48)))
    pad = max(2, height // 5)
    placed: list[Rect] = []
    for box, text, colour in zip(boxes, texts, colours, strict=True):
        text, font = readable(text, height)
        room = min(size[0] - 2 * pad, max(box[2] - box[0], round(size[0] * 0.3), 8 * height)) - 2 * pad
        lines = wrap(text, font, max(1, room))
        step = _line_height(font)
        wide = round(max(font.getlength(line) for line in lines)) + 2 * pad
        tall = step * len(lines) + 2 * pad
        x, y = _place(box, (wide, tall), size, placed if len(boxes) <= MOST_PLACED else [])
        spot = (x, y, x + wide, y + tall)
        placed.append(spot)
        draw.rectangle((x, y, x + wide - 1, y + tall - 1), fill=(*colour, 225), outline=(0, 0, 0, 150))
        for number, line in enumerate(lines):
            draw.text((x + pad, y + pad + number * step), line, font=font, fill=ink(colour))
    return placed


def ink(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever stands out more on `colour` (relative luminance of WCAG 2)."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def wrap(text: str, font: ImageFont.ImageFont, width: int, most_lines: int = MOST_LINES) -> list[str]:
    """The text in at most `most_lines` lines of `width` pixels; what does not fit ends in '...'.

    Breaks at spaces, and inside a word that is longer than a line (as in scripts without spaces).
    """
    lines, line = [], ""
    for word in _pieces(text, font, width):
        joined = line + word
        if line.strip() and font.getlength(joined.rstrip()) > width:
            lines.append(line.rstrip())
            joined = word.lstrip()
        line = joined
    lines.append(line.rstrip())
    if len(lines) <= most_lines:
        return lines
    last = lines[most_lines - 1]
    while last and font.getlength(last + "...") > width:
        last = last[:-1]
    return [*lines[: most_lines - 1], last.rstrip() + "..."]


def readable(text: str, height: int, names: tuple[str, ...] = FONT_NAMES) -> tuple[str, ImageFont.ImageFont]:
    """The text as this machine can show it, and the font for it.

    In this order: a font with all letters; the letters without accents; missing letters as '?'; and, when most
    are missing, a note that there is no font.
    """
    text = "".join(c if c.isspace() or unicodedata.category(c)[0] != "C" else "" for c in text[:MOST_LETTERS])
    text = " ".join(text.split())
    letters = frozenset(text) - {" "}
    best, best_count = None, -1
    for name in (*names, None):
        if best_count < len(letters) and (font := _font(name, height)) is not None:
            count = sum(_has(font, letter) for letter in letters)
            if count > best_count:
                best, best_count = font, count
    if best_count == len(letters):
        return text, best
    plain = "".join(_plain(c, best) for c in text)
    letters_only = [c for c in text if c.isalpha()]
    lost = sum(not _has(best, c) and _plain(c, best) == "?" for c in letters_only)
    if lost * 2 > len(letters_only):
        start, colon, _ = text.partition(": ")
        start = start if colon and all(_has(best, c) for c in start) else ""
        return (f"{start}: " if start else "") + "(no font here for this text)", best
    return plain, best


def _plain(letter: str, font: ImageFont.ImageFont) -> str:
    """The letter, or it without its accents, or '?'."""
    if letter == " " or _has(font, letter):
        return letter
    bare = "".join(c for c in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(c))
    return bare if bare and all(_has(font, c) for c in bare) else "?"


@lru_cache(maxsize=4096)
def _has(font: ImageFont.ImageFont, letter: str) -> bool:
    """Whether the font has the letter: Pillow doesn't say, but a missing one looks like any other missing one."""
    if not isinstance(font, ImageFont.FreeTypeFont):
        return letter.isascii()
    return letter.isspace() or _shape(font, letter) != _shape(font, "\U0010ffff")


def _shape(font: ImageFont.FreeTypeFont, letter: str) -> tuple:
    glyph = font.getmask(letter)
    return glyph.size, bytes(glyph)


@lru_cache(maxsize=256)
def _font(name: str | None, height: int) -> ImageFont.ImageFont | None:
    """The system's font of that name, None when it has none; Pillow's own font for no name."""
    if name is None:
        return ImageFont.load_default(height)
    path = _font_path(name)
    return None if path is None else ImageFont.truetype(path, height)


@lru_cache(maxsize=64)
def _font_path(name: str) -> str | None:
    """Where that font lies, kept because Pillow walks through all font folders to find it."""
    try:
        return ImageFont.truetype(name, 12).path
    except (OSError, ImportError):
        return None


def _line_height(font: ImageFont.ImageFont) -> int:
    box = font.getbbox("Aqgj")
    return round(box[3] * 1.15) + 1


def _pieces(text: str, font: ImageFont.ImageFont, width: int) -> list[str]:
    """Words, each with the space before it, long ones cut into parts that fit."""
    pieces = []
    for number, word in enumerate(text.split(" ")):
        part = " " if number else ""
        for letter in word:
            if part.strip() and font.getlength(part.lstrip() + letter) > width:
                pieces.append(part)
                part = ""
            part += letter
        pieces.append(part)
    return pieces


def _place(box: Rect, label: tuple[int, int], size: tuple[int, int], placed: list[Rect]) -> tuple[int, int]:
    """Where a label goes: above the box, below, beside it, in its corner; the first place that covers no other."""
    x1, y1, x2, y2 = box
    wide, tall = label
    outside = [(x1, y1 - tall), (x1, y2), (x2 - wide, y1 - tall), (x2 - wide, y2), (x2, y1), (x1 - wide, y1)]
    inside = [(x1, y1), (x1, y2 - tall), (x2 - wide, y1), (x2 - wide, y2 - tall)]
    best, least = None, None
    for number, (x, y) in enumerate(outside + inside):
        fits_x, fits_y = min(max(0, x), max(0, size[0] - wide)), min(max(0, y), max(0, size[1] - tall))
        if number < len(outside) and (fits_y != y or (number >= 4 and fits_x != x)):
            continue  # pushed back into the image it would cover the box
        covered = sum(_overlap((fits_x, fits_y, fits_x + wide, fits_y + tall), other) for other in placed)
        if least is None or covered < least:
            best, least = (fits_x, fits_y), covered
        if not covered:
            break
    return best


def _overlap(a: Rect, b: Rect) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))

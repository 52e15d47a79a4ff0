"""The components of a model call: the named sets of tokens that rules speak of.

A token may belong to several components (overlapping boxes). Tokens with the same components are one *atom*:
no rule can tell them apart, so everything after this file counts atoms, not tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# The kinds of component (those of RePlan's flex_attn.py, and further references), in the order of rows and columns
# everywhere.
KINDS = (
    "main",  # the global prompt's text
    "image_prompt",  # the images inside Qwen's text
    "hint",  # one region's hint
    "noise",  # noise patches of one region
    "image",  # the edited reference's patches of one region
    "noise_background",
    "image_background",
    "reference",  # a further reference image, as a whole
)
MAIN, IMAGE_PROMPT, HINT, NOISE, IMAGE, NOISE_BACKGROUND, IMAGE_BACKGROUND, REFERENCE = range(len(KINDS))
PER_REGION = (HINT, NOISE, IMAGE)


class Component(NamedTuple):
    """One named set of tokens. `owner` is the region's index in its plan (PER_REGION kinds), the reference's
    number counted from 1 (REFERENCE), or -1; `key` is its name in a rule matrix: 'noise:r1', 'main'."""

    kind: int
    owner: int
    key: str


def components(
    region_ids: tuple[str, ...], image_prompt: bool, edited: bool, references: tuple[int, ...]
) -> tuple[Component, ...]:
    """All components of a call, in the order shown to people: text, then regions, then the rest.

    image_prompt: the text holds images; edited: a reference image carries the regions; references: numbers
    of the further reference images.
    """
    found = [Component(MAIN, -1, "main")]
    if image_prompt:
        found.append(Component(IMAGE_PROMPT, -1, "image_prompt"))
    for index, name in enumerate(region_ids):
        found.append(Component(HINT, index, f"hint:{name}"))
        found.append(Component(NOISE, index, f"noise:{name}"))
        if edited:
            found.append(Component(IMAGE, index, f"image:{name}"))
    found.append(Component(NOISE_BACKGROUND, -1, "noise_background"))
    if edited:
        found.append(Component(IMAGE_BACKGROUND, -1, "image_background"))
    found.extend(Component(REFERENCE, number, f"reference:{number}") for number in references)
    return tuple(found)


@dataclass(frozen=True)
class Layout:
    """Which token belongs to which components, for one model call.

    components: C of them; members: boolean (A, C), the components of each atom (padding is of none); atom: int (L),
    the atom of each token, in the order of the sequence, see `build_layout`.
    """

    components: tuple[Component, ...]
    members: np.ndarray
    atom: np.ndarray

    @property
    def tokens(self) -> int:
        return len(self.atom)


def build_layout(
    *,
    region_ids: tuple[str, ...],
    main_tokens: int,
    image_spans: tuple[tuple[int, int], ...],
    hint_tokens: tuple[int, ...],
    noise_cover: np.ndarray,
    reference_tokens: tuple[int, ...],
    edited_reference: int,
    edited_cover: np.ndarray | None,
    padding_tokens: int = 0,
) -> Layout:
    """Lay out `[main text | hint 1 .. N | padding | noise | reference 1 .. M]`.

    The one place that numbers the tokens of a call. That the model's own order is this one (text first, then noise,
    then the references as they come) is known of every family, see `families`; hints are put at the end of the text
    (`wrappers`), also in a mask over it (`call.mask_with_hints`), and what a patch adds before the text counts as main
    text (`override`).

    padding_tokens: belong to no component, so that nobody sees them;
    noise_cover: boolean (N, noise patches), a row of a region that is not active now is all False;
    edited_cover: the same on reference number `edited_reference` (from 1; 0: the regions lie on none);
    image_spans: half-open ranges of the main text that are images.
    """
    edited = edited_cover is not None
    further = tuple(n for n in range(1, len(reference_tokens) + 1) if n != edited_reference or not edited)
    parts = components(region_ids, bool(image_spans), edited, further)
    index = {(part.kind, part.owner): i for i, part in enumerate(parts)}
    members: list[np.ndarray] = []
    tokens: list[np.ndarray] = []

    def one(kind: int, owner: int, count: int) -> None:
        row = np.zeros((1, len(parts)), dtype=bool)
        row[0, index[kind, owner]] = True
        tokens.append(np.full(count, sum(map(len, members))))
        members.append(row)

    def patches(cover: np.ndarray, region_kind: int, background_kind: int) -> None:
        sets, inverse = unique_rows(cover.T)
        rows = np.zeros((len(sets), len(parts)), dtype=bool)
        rows[:, [index[region_kind, i] for i in range(len(region_ids))]] = sets
        rows[:, index[background_kind, -1]] = ~sets.any(axis=1)
        tokens.append(inverse + sum(map(len, members)))
        members.append(rows)

    one(MAIN, -1, main_tokens)
    if image_spans:
        image_atom = sum(map(len, members))
        one(IMAGE_PROMPT, -1, 0)
        for start, end in image_spans:
            tokens[0][start:end] = image_atom
    for i, count in enumerate(hint_tokens):
        one(HINT, i, count)
    if padding_tokens:
        tokens.append(np.full(padding_tokens, sum(map(len, members))))
        members.append(np.zeros((1, len(parts)), dtype=bool))
    patches(noise_cover, NOISE, NOISE_BACKGROUND)
    for number, count in enumerate(reference_tokens, start=1):
        if edited and number == edited_reference:
            patches(edited_cover, IMAGE, IMAGE_BACKGROUND)
        else:
            one(REFERENCE, number, count)
    return Layout(parts, np.concatenate(members), np.concatenate(tokens).astype(np.int32))


def unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows of a boolean matrix and, for every row, the number of its distinct one."""
    if rows.shape[1] == 0:
        return rows[:1], np.zeros(len(rows), dtype=np.int64)
    packed = np.ascontiguousarray(np.packbits(rows, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return rows[first], inverse.ravel()

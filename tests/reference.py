"""Dense attention under region rules, written independently of the pack, one token at a time.

Nothing here imports the pack. The rules are those of the published code and paper (docs/rules.md names both) as plain
`if`s over names, boxes become patches by a loop over patches, and attention is a float64 softmax over a full mask.
"""

import math

import torch


def patches_of(box, image_size, rows, cols, height, width):
    """Names of the patches (r, c) whose area a box touches; height and width are the filled part, in patches."""
    x1, y1, x2, y2 = box
    sx, sy = width / image_size[0], height / image_size[1]
    return {
        (r, c)
        for r in range(rows)
        for c in range(cols)
        if x1 * sx < c + 1 - 1e-6 and x2 * sx > c + 1e-6 and y1 * sy < r + 1 - 1e-6 and y2 * sy > r + 1e-6
    }


def tokens(ids, main, spans, hints, noise, edited, further):
    """The sequence as a list of sets of component names.

    main: tokens of the global prompt with its pictures (spans, half-open); hints: tokens of each hint; noise and
    edited: (rows, cols, {id: patches}) of the latent and of the edited reference (None: there is none), which is
    reference 1; further: tokens of the other references.
    """
    names = [{"image_prompt"} if any(a <= i < b for a, b in spans) else {"main"} for i in range(main)]
    for name, count in zip(ids, hints, strict=True):
        names += [{f"hint:{name}"}] * count
    for word, grid in (("noise", noise), ("image", edited)):
        if grid is None:
            continue
        rows, cols, inside = grid
        for r in range(rows):
            for c in range(cols):
                names.append({f"{word}:{i}" for i in ids if (r, c) in inside[i]} or {f"{word}_background"})
    for number, count in enumerate(further, start=1 if edited is None else 2):
        names += [{f"reference:{number}"}] * count
    return names


def allowed(preset, phase, query, key):
    """May this query component see this key component, under a published rule set?"""
    if query == key:
        return True
    q, _, q_owner = query.partition(":")
    k, _, k_owner = key.partition(":")
    same = q_owner == k_owner
    if preset in ("no_global_prompt", "hints_only") and "main" in (q, k):
        return False
    if preset == "hints_only" and "image_prompt" in (q, k):
        return False
    if "image_prompt" in (q, k) and preset != "symmetric":
        return True
    if preset == "symmetric" and q == "hint":
        return k == "image_prompt" or (same and k in ("noise", "image"))
    if "image_prompt" in (q, k):
        return True
    if {q, k} <= {"main", "hint"}:
        return False
    if k == "hint":
        return same and q in ("noise", "image")
    if preset == "local_first" and phase == "before" and q == "noise_background" and k == "noise":
        return False
    if preset == "isolated_regions" and q in ("noise", "image") and k in ("noise", "image"):
        return same
    return True


def dense_mask(names, rule):
    """Boolean (L, L): does token q see token k? `rule(query, key)` says it of components; any pair suffices."""
    sets = sorted({frozenset(name) for name in names}, key=sorted)
    number = {s: i for i, s in enumerate(sets)}
    sees = torch.tensor([[any(rule(a, b) for a in q for b in k) for k in sets] for q in sets])
    at = torch.tensor([number[frozenset(name)] for name in names])
    return sees[at][:, at]


def attention(q, k, v, mask, bias=None):
    """float64 attention of (B, H, L, D) under a boolean (Lq, Lk) mask and an additive bias; (B, L, H * D)."""
    scores = q.double() @ k.double().transpose(-1, -2) / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias.double()
    scores = scores.masked_fill(~mask.to(scores.device), float("-inf"))
    return (scores.softmax(-1) @ v.double()).transpose(1, 2).flatten(2)

"""The other side of comparisons: the plain host with hints joined to its text and the rules as one dense mask.

Nothing of the pack's attention is used here; masks come from `reference`, written independently.
"""

import reference
import torch
from region_models import latent_shape, sample
from replan.attention.payload import PAYLOAD_KEY

OVERRIDE_KEY = "optimized_attention_override"
ROWS = COLS = 6


def dense_override(
    plan,
    main,
    hint_lengths,
    edited,
    further=(),
    preset="replan",
    phases=lambda step: "after",
    spans=(),
    rows=ROWS,
    cols=COLS,
):
    """An attention override that applies the published rules as one dense mask on top of the mask of the call.

    main, hint_lengths: tokens of the global prompt and of each hint at the model. edited: (rows, cols) of the
    edited reference or None. further: tokens of the other references. phases: the phase of a step. With fewer
    queries than keys the queries are the first tokens (the host's cache of references).
    """

    def grid(rows, cols):
        return (
            rows,
            cols,
            {r.id: reference.patches_of(r.box, plan.image_size, rows, cols, rows, cols) for r in plan.regions},
        )

    names = reference.tokens(
        plan.ids, main, spans, hint_lengths, grid(rows, cols), grid(*edited) if edited else None, further
    )
    masks = {
        p: reference.dense_mask(names, lambda q, k, p=p: reference.allowed(preset, p, q, k))
        for p in ("before", "after")
    }

    def override(func, q, k, v, heads, *args, **kwargs):
        options = kwargs["transformer_options"]
        sigmas = options["sample_sigmas"].tolist()
        step = max(i for i, s in enumerate(sigmas[:-1]) if s >= float(options["sigmas"][0]) - 1e-4)
        mask = masks[phases(step)][: q.shape[2]]
        assert mask.shape == (q.shape[2], k.shape[2])
        bias = args[0] if args else kwargs.get("mask")
        if bias is not None and bias.ndim == 3:  # (B, Lq, Lk), as square masks arrive: the same for every head
            bias = bias[:, None]
        return reference.attention(q, k, v, mask, bias).to(q.dtype)

    return override


def under_dense_mask(model, override):
    """A clone of `model` in which the positive's calls run under the override."""
    model = model.clone()

    def only_positive(executor, *args, **kwargs):
        options = dict(args[5])
        if 0 in options["cond_or_uncond"]:
            assert options["cond_or_uncond"] == [0]
            options[OVERRIDE_KEY] = override
        return executor(*args[:5], options, **kwargs)

    model.add_wrapper_with_key("apply_model", "dense", only_positive)
    return model


def joined(entries, family, padding):
    """A conditioning with hints as one without: they are concatenated to its text, each left-padded first on FLUX.2."""
    out = []
    for text, values in entries:
        hints = values["model_conds"][PAYLOAD_KEY].text.hints
        if family == "flux2":
            text = left_padded(text)
            hints = [left_padded(hint) for hint in hints] if padding == "host" else hints
        conds = {key: value for key, value in values["model_conds"].items() if key != PAYLOAD_KEY}
        out.append([torch.cat([text, *hints], 1), {**values, "model_conds": conds}])
    return out


def left_padded(text):
    return torch.nn.functional.pad(text, (0, 0, 512 - text.shape[1], 0))


def dense_run(
    model,
    ruled,
    family,
    *,
    edited=(ROWS, COLS),
    further=(),
    preset="replan",
    phases=lambda step: "after",
    spans=(),
    change=None,
    rows=ROWS,
    cols=COLS,
    negative=None,
    batch=1,
    **options,
):
    """Sample what `ruled` (a conditioning with hints) means, on a model without the pack.

    change(values) alters the entry's values once hints are joined.
    """
    carried = ruled[0][1]["model_conds"][PAYLOAD_KEY].text
    padded = family == "flux2" and carried.padding == "host"
    lengths = [512 if padded else hint.shape[1] for hint in carried.hints]
    main = 512 if family == "flux2" else ruled[0][0].shape[1]
    override = dense_override(carried.plan, main, lengths, edited, further, preset, phases, spans, rows, cols)
    wants = joined(ruled, family, carried.padding)
    if change is not None:
        wants = [[text, change(values)] for text, values in wants]
    return sample(
        under_dense_mask(model, override), wants, negative, latent_shape(family, rows, cols, batch), **options
    )

"""What the toy world's editor is taught: the edit, at noise and at the reference, and what its tokens show."""

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from replan.tools.toyworld import latents
from replan.tools.toyworld.drawing import COLOURS, SHAPES
from replan.tools.toyworld.editor import TEXT, Size, make_editor, outputs
from replan.tools.toyworld.editor_training import SAID, Pupil, _said, editor_loss, of_editor
from replan.tools.toyworld.latents import CELL, Batch, Latents
from replan.tools.toyworld.samples import before_and_after, sample
from replan.tools.toyworld.sight import answers
from replan.tools.toyworld.texts import Encoded
from replan.tools.toyworld.trained import grown
from replan.tools.toyworld.training import TrainingError


def batch(count=4):
    random = torch.Generator().manual_seed(1)
    sources = torch.randn(count, 16, 4, 4, generator=random)
    targets = sources.clone()
    targets[:, :, :2, :2] += 1  # the first of four tokens
    shapes = torch.tensor([[[0.0, -1, 2, -1], [1, -1, 2, -1]]] * count)
    edges = torch.rand(4, 1, 2, 4, generator=random).expand(4, count, 2, 4)
    return Batch(sources, targets, [("x",)] * count, torch.cat((shapes[None], shapes[None], edges)))


def texts(count=4):
    return Encoded(torch.ones(count, 3, TEXT), torch.ones(count, 3))


def learnt(pupil, steps, part):
    """The loss's value of `part`, before and after some steps on one batch."""
    optimizer = torch.optim.AdamW((p for p in pupil.parameters() if p.requires_grad), 3e-3)
    values = []
    for _ in range(steps):
        loss, _ = editor_loss(pupil, batch(), texts(), torch.Generator().manual_seed(2))
        values.append(part(pupil))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return values[0], values[-1]


def test_the_heads_learn_what_the_tokens_show_and_what_changes():
    pupil = Pupil(make_editor(1, Size(1, 1, 1)))

    def entropy(pupil):
        one = batch()
        return float(pupil.help(one, (one.sources - one.targets).abs().amax(1, keepdim=True) > 0.1).detach())

    before, after = learnt(pupil, 40, entropy)
    assert after < 0.3 * before


def test_the_heads_read_the_tokens_of_the_reference():
    pupil = Pupil(make_editor(1, Size(1, 1, 1)))
    one = batch()
    with torch.no_grad():
        editor_loss(pupil, one, texts(), torch.Generator().manual_seed(2))
        before = pupil.seen["what"][1].clone()
        editor_loss(pupil, one, texts(), torch.Generator().manual_seed(3))  # other noise
        other_noise = pupil.seen["what"][1].clone()
        editor_loss(pupil, one._replace(sources=one.sources + 1), texts(), torch.Generator().manual_seed(2))
    # An untrained block is the identity: what a token holds is its own patch, and no noise is in it.
    assert torch.equal(before, other_noise)
    assert not torch.equal(before, pupil.seen["what"][1])


def test_noise_and_reference_are_both_taught_and_changed_cells_most():
    """An untrained editor says nothing, so its loss is all that it should have said."""
    pupil = Pupil(make_editor(1, Size(1, 1, 1)))
    one = batch()
    with torch.no_grad():
        loss = editor_loss(pupil, one, texts(), torch.Generator().manual_seed(2))[0]
        changed = torch.zeros(4, 1, 4, 4, dtype=torch.bool)
        changed[:, :, :2, :2] = True
        loss = float(loss - pupil.help(one, changed))
    noise = torch.Generator().manual_seed(2)
    torch.rand(4, generator=noise)
    noise = torch.randn(4, 16, 4, 4, generator=noise)
    off = (noise - one.targets).square().mean(1) + (one.sources - one.targets).square().mean(1)
    inside, outside = off[:, :2, :2].sum(), off.sum() - off[:, :2, :2].sum()
    assert loss == pytest.approx(float(4 * inside + outside) / (4 * (4 * 4 + 12)), rel=1e-4)


def test_what_is_published_has_no_heads():
    pupil = Pupil(make_editor(1, Size(1, 1, 1)))
    assert of_editor(pupil.state_dict()).keys() == pupil.editor.state_dict().keys()


def test_latents_tell_what_the_tokens_of_their_scenes_show(tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "SHARD", 4)

    def encode(pictures):
        return torch.nn.functional.avg_pool2d(pictures, 8).repeat(1, 6, 1, 1)[:, :16]

    pool = Latents(tmp_path, 1, 64, most=1, every=1, encode=encode, key="k")
    made = pool.batch(0, 64)
    read = Latents(tmp_path, 1, 64, most=1, every=1, encode=encode, key="k").batch(0, 64)
    assert torch.equal(made.shown, read.shown)
    told = {tuple(row.flatten().tolist()) for row in made.shown.movedim(1, 0)}
    expected = set()
    for number in range(2):
        for variant in range(2):
            scenes = before_and_after(1, number, 64, variant)
            one = sample(1, number, 64, variant)
            assert np.array_equal(scenes[0].pixels, one.source) and np.array_equal(scenes[1].pixels, one.target)
            rows = [list(zip(*shown(scene), strict=True)) for scene in scenes]
            expected.add(tuple(value for part in range(6) for row in rows for value in row[part]))
    assert told == expected and len(told) == 4


def shown(scene):
    """Shape and colour of what covers most of each token, if it covers a fifth, and where its edges are in tokens."""
    for top in range(0, scene.size, CELL):
        for left in range(0, scene.size, CELL):
            covers = [
                (scene.shown(one.id)[top : top + CELL, left : left + CELL].mean() / 16, one) for one in scene.objects
            ]
            most, thing = max(covers, key=lambda pair: pair[0], default=(0, None))
            if most < 0.2:
                yield -1, -1, 0, 0, 0, 0
                continue
            edges = np.subtract(scene.box(thing.id), (left + 8, top + 8) * 2) / CELL
            yield SHAPES.index(thing.shape), list(COLOURS).index(thing.colour), *edges.tolist()


def test_a_scene_without_objects_shows_nothing():
    scene = before_and_after(1, 0, 64)[0].with_objects(())
    told = answers(scene, CELL)
    assert told.shape == (6, 16) and (told[:2] == -1).all() and np.isfinite(told).all()


def test_edges_that_are_a_pixel_off_count_a_quarter():
    shown = torch.zeros(6, 1)
    sure = torch.full((1, SAID), -40.0)
    sure[0, [0, 1, 1 + len(SHAPES)]] = 40  # an object, of the first shape and the first colour
    sure[0, -4:] = torch.tensor([1, -1, 1, -1]) / CELL
    assert float(_said(sure, shown)) == pytest.approx(0.25)


def test_each_half_of_the_tokens_is_asked_by_its_own_heads():
    """An untrained editor mixes nothing: other noise is another lesson for the heads of the tokens that draw alone."""
    grads = []
    for noise in (2, 3):
        pupil = Pupil(make_editor(1, Size(1, 1, 1)))
        editor_loss(pupil, batch(), texts(), torch.Generator().manual_seed(noise))[0].backward()
        grads.append([(pupil.changes[half].weight.grad, pupil.becomes[half].weight.grad) for half in range(2)])
    (drawn, reference), (drawn_too, reference_too) = grads
    assert not any(torch.equal(one, other) for one, other in zip(drawn, drawn_too, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(reference, reference_too, strict=True))


def test_an_editor_of_more_blocks_begins_as_the_one_it_grew_from():
    old, new = (make_editor(1, Size(1, 1, single)) for single in (1, 3))
    random = torch.Generator().manual_seed(4)
    for value in old.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=random) / 9)
    new.load_state_dict(grown(new, old.state_dict()))
    one, words = batch(), texts()
    with torch.no_grad():
        first, second = (
            outputs(model, one.targets, one.sources, words.features, torch.full((4,), 0.7), words.counts)
            for model in (old, new)
        )
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "change", [lambda weights: weights.pop("proj_out.bias"), lambda weights: weights.update(more=torch.zeros(1))]
)
def test_weights_of_another_editor_are_no_beginning(change):
    editor = make_editor(1, Size(1, 1, 2))
    weights = dict(make_editor(1, Size(1, 1, 1)).state_dict())
    change(weights)
    with pytest.raises(TrainingError, match="another editor"):
        grown(editor, weights)

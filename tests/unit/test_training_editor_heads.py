"""What the toy world's editor is taught: the edit, at noise and at the reference, and what its tokens show."""

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from replan.tools.toyworld.drawing import COLOURS, SHAPES
from replan.tools.training import latents
from replan.tools.training.editor import TEXT_WIDTH, Size, make_editor, outputs
from replan.tools.training.editor_training import EDGE_WEIGHT, EditorWithHeads, editor_loss
from replan.tools.training.exported import with_new_blocks
from replan.tools.training.latents import CELL, FIRST, SHARD, VARIANTS, Batch, Latents
from replan.tools.training.run import TrainingError, submodule_weights
from replan.tools.training.samples import before_and_after, sample
from replan.tools.training.text_encoder import EncodedText
from replan.tools.training.token_contents import CONTENT_WIDTH, content_loss, packed_contents


def batch(count=4):
    random = torch.Generator().manual_seed(1)
    sources = torch.randn(count, 16, 4, 4, generator=random)
    targets = sources.clone()
    targets[:, :, :2, :2] += 1  # the first of four tokens
    shapes = torch.tensor([[[0.0, -1, 2, -1], [1, -1, 2, -1]]] * count)
    edges = torch.rand(4, 1, 2, 4, generator=random).expand(4, count, 2, 4)
    return Batch(sources, targets, [("x",)] * count, torch.cat((shapes[None], shapes[None], edges)))


def texts(count=4):
    return EncodedText(torch.ones(count, 3, TEXT_WIDTH), torch.ones(count, 3))


def learnt(model, steps, part):
    """The loss's value of `part`, before and after some steps on one batch."""
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), 3e-3)
    values = []
    for _ in range(steps):
        loss, _ = editor_loss(model, batch(), texts(), torch.Generator().manual_seed(2))
        values.append(part(model))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return values[0], values[-1]


def test_the_heads_learn_what_the_tokens_show_and_what_changes():
    model = EditorWithHeads(make_editor(1, Size(1, 1, 1)))

    def entropy(model):
        one = batch()
        return float(model.heads_loss(one, (one.sources - one.targets).abs().amax(1, keepdim=True) > 0.1).detach())

    before, after = learnt(model, 40, entropy)
    assert after < 0.3 * before


def test_the_heads_read_the_tokens_of_the_reference():
    model = EditorWithHeads(make_editor(1, Size(1, 1, 1)))
    one = batch()
    with torch.no_grad():
        editor_loss(model, one, texts(), torch.Generator().manual_seed(2))
        before = model.tokens["content"][1].clone()
        editor_loss(model, one, texts(), torch.Generator().manual_seed(3))  # other noise
        other_noise = model.tokens["content"][1].clone()
        editor_loss(model, one._replace(sources=one.sources + 1), texts(), torch.Generator().manual_seed(2))
    # An untrained block is the identity: what a token holds is its own patch, and no noise is in it.
    assert torch.equal(before, other_noise)
    assert not torch.equal(before, model.tokens["content"][1])


def test_noise_and_reference_are_both_taught_and_changed_cells_most():
    """An untrained editor says nothing, so its loss is all that it should have said."""
    model = EditorWithHeads(make_editor(1, Size(1, 1, 1)))
    one = batch()
    with torch.no_grad():
        loss = editor_loss(model, one, texts(), torch.Generator().manual_seed(2))[0]
        changed = torch.zeros(4, 1, 4, 4, dtype=torch.bool)
        changed[:, :, :2, :2] = True
        loss = float(loss - model.heads_loss(one, changed))
    noise = torch.Generator().manual_seed(2)
    torch.rand(4, generator=noise)
    noise = torch.randn(4, 16, 4, 4, generator=noise)
    off = (noise - one.targets).square().mean(1) + (one.sources - one.targets).square().mean(1)
    inside, outside = off[:, :2, :2].sum(), off.sum() - off[:, :2, :2].sum()
    assert loss == pytest.approx(float(4 * inside + outside) / (4 * (4 * 4 + 12)), rel=1e-4)


def test_what_is_published_has_no_heads():
    model = EditorWithHeads(make_editor(1, Size(1, 1, 1)))
    assert submodule_weights(model.state_dict(), "editor").keys() == model.editor.state_dict().keys()


def test_latents_tell_what_the_tokens_of_their_scenes_show(tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "SHARD", 4)

    def encode(pictures):
        return torch.nn.functional.avg_pool2d(pictures, 8).repeat(1, 6, 1, 1)[:, :16]

    pool = Latents(tmp_path, 1, 64, most=1, every=1, encode=encode, key="k")
    made = pool.batch(0, 64)
    read = Latents(tmp_path, 1, 64, most=1, every=1, encode=encode, key="k").batch(0, 64)
    assert torch.equal(made.contents, read.contents)
    told = {tuple(row.flatten().tolist()) for row in made.contents.movedim(1, 0)}
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
    told = packed_contents(scene, CELL)
    assert told.shape == (6, 16) and (told[:2] == -1).all() and np.isfinite(told).all()


def test_edges_that_are_a_pixel_off_count_a_quarter():
    shown = torch.zeros(6, 1)
    sure = torch.full((1, CONTENT_WIDTH), -40.0)
    sure[0, [0, 1, 1 + len(SHAPES)]] = 40  # an object, of the first shape and the first colour
    sure[0, -4:] = torch.tensor([1, -1, 1, -1]) / CELL
    assert float(content_loss(sure, shown[0].long(), shown[1].long(), shown[2:].T, EDGE_WEIGHT)) == pytest.approx(0.25)


def test_each_half_of_the_tokens_is_asked_by_its_own_heads():
    """An untrained editor mixes nothing: other noise is another lesson for the heads of the tokens that draw alone."""
    grads = []
    for noise in (2, 3):
        model = EditorWithHeads(make_editor(1, Size(1, 1, 1)))
        editor_loss(model, batch(), texts(), torch.Generator().manual_seed(noise))[0].backward()
        grads.append([(model.change[half].weight.grad, model.result[half].weight.grad) for half in range(2)])
    (drawn, reference), (drawn_too, reference_too) = grads
    assert not any(torch.equal(one, other) for one, other in zip(drawn, drawn_too, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(reference, reference_too, strict=True))


def test_an_editor_of_more_blocks_begins_as_the_one_it_grew_from():
    old, new = (make_editor(1, Size(1, 1, single)) for single in (1, 3))
    random = torch.Generator().manual_seed(4)
    for value in old.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=random) / 9)
    new.load_state_dict(with_new_blocks(new, old.state_dict()))
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
        with_new_blocks(editor, weights)


def pool(folder, key="k", calls=None):
    def encode(pictures):
        if calls is not None:
            calls.append(len(pictures))
        return torch.nn.functional.avg_pool2d(pictures, 8).repeat(1, 6, 1, 1)[:, :16]

    return Latents(folder, 1, 64, most=6, every=10, encode=encode, key=key)


def test_latents_are_made_once_and_a_step_always_draws_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "SHARD", 4)
    calls = []
    first = pool(tmp_path, calls=calls).batch(3, 5)
    assert calls and first.sources.shape == first.targets.shape == (5, 16, 8, 8)
    made = len(calls)
    again = pool(tmp_path, calls=calls).batch(3, 5)
    assert len(calls) == made
    assert torch.equal(first.targets, again.targets) and first.texts == again.texts
    later = pool(tmp_path, calls=calls)
    later.batch(1000, 5)
    assert len(later._shards) == 6 and len(calls) > made
    assert FIRST < 6 <= SHARD


def test_a_broken_or_foreign_shard_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "SHARD", 4)
    before = pool(tmp_path).batch(0, 4)
    file = tmp_path / "shard_000.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    calls = []
    assert torch.equal(pool(tmp_path, calls=calls).batch(0, 4).targets, before.targets)
    assert sum(calls) == 2 * (1 + VARIANTS)  # the pictures of one shard: two scenes, each with its edits
    pool(tmp_path, key="another codec", calls=calls).batch(0, 4)
    assert sum(calls) == 2 * (1 + VARIANTS) * (1 + FIRST)

"""The nodes that choose rules and put them on a model."""

import pytest
import torch
from dense import COLS, ROWS
from region_models import FAMILIES, build, conditioning, latent_shape, plan_of, sample, seeded, with_hints
from replan.attention.payload import RegionError
from replan.nodes.rules import RePlanApplyRegionRules, RePlanRules
from replan.nodes.sockets import naming
from replan.planner.plan import PlanError

PUBLISHED = {"flux": "replan", "flux2": "replan", "qwen": "local_first"}


def run(name, preset=None, **kwargs):
    """Four steps of a model under RePlan Apply Region Rules; preset None: without RePlan Rules."""
    rules = None
    if preset is not None:
        choice = {"switch": -1.0, "switch_step": -1, "family": "auto", **kwargs}
        rules = RePlanRules.execute(preset, **choice).result[0]
    model = RePlanApplyRegionRules.execute(build(name), rules).result[0]
    shape = latent_shape(name, ROWS, COLS)
    spans = ((2, 6),) if name == "qwen" else ()
    positive = conditioning(20, [seeded(*shape, seed=9)])
    ruled = with_hints(positive, plan_of([(0, 0, 40, 40), (30, 30, 80, 70)]), (7, 12), spans=spans, padding="trim")
    return sample(model, ruled, None, shape, steps=4)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_rules_a_model_gets_the_published_default_of_its_family(family):
    plain = run(family)
    assert torch.equal(plain, run(family, PUBLISHED[family])), "to the bit"
    assert torch.equal(plain, run(family, "auto"))
    other = "replan" if PUBLISHED[family] == "local_first" else "local_first"
    assert (plain - run(family, other, switch=1.0)).abs().max() > 1e-3 * plain.abs().max()


def test_auto_takes_the_defaults_of_a_family_that_was_chosen():
    assert torch.equal(run("flux", "auto", family="qwen"), run("flux", "local_first", switch=0.5))


def test_a_switch_under_auto_is_warned_about_where_the_model_has_no_before_phase(caplog):
    run("flux", "auto", switch=0.5)
    assert "RePlan Apply Region Rules: the preset 'replan' has the same rules at every step" in caplog.text
    caplog.clear()
    run("qwen", "auto", switch=0.5)
    assert "same rules at every step" not in caplog.text


def test_a_region_called_other_is_told_beside_the_rule_matrix(caplog):
    plan = plan_of([(0, 0, 40, 40)])
    RePlanRules.execute("auto", -1.0, -1, "auto", plan=plan)
    assert not caplog.records
    renamed = plan.with_regions([type(plan.regions[0])("other", (0, 0, 9, 9), "hat")])
    RePlanRules.execute("auto", -1.0, -1, "auto", plan=renamed)
    assert "a region of the plan is called 'other'" in caplog.text


def test_a_model_of_no_supported_family_is_refused_once_named():
    class Chroma:
        diffusion_model = None

    with pytest.raises(RegionError, match="^RePlan Apply Region Rules: the model is a Chroma"):
        RePlanApplyRegionRules.execute(type("Patcher", (), {"model": Chroma()})())


@pytest.mark.parametrize(
    "text",
    ["RePlan Rules: no", "RePlan Rules Preview: no", "RePlan Planner from CLIP: no", "RePlan Apply Region Rules: no"],
)
@pytest.mark.parametrize("kind", [RegionError, PlanError])
def test_an_error_that_names_a_node_gets_no_second_name(text, kind):
    with pytest.raises(kind) as caught, naming(RePlanRules), naming(RePlanApplyRegionRules):
        raise kind(text)
    assert str(caught.value) == text
    with pytest.raises(kind) as caught, naming(RePlanRules), naming(RePlanApplyRegionRules):
        raise kind("RePlan Resize moves the plan along with the image")
    assert str(caught.value) == "RePlan Apply Region Rules: RePlan Resize moves the plan along with the image"

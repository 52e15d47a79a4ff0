"""What nodes tell while they run, as messages on the page."""

import json

import pytest
from graphs import edit, plan_text

# Every message since `run` began: one stays for 15 s only, and a run on a busy machine takes longer.
TOASTS = "() => [...window.toasts].map((one) => one.textContent)"
WATCH = """() => { window.TOAST = '.p-toast-message, [data-toast-kind]';  // until and from frontend 1.58
  window.toasts = new Set(); window.watching?.disconnect();
  window.watching = new MutationObserver(() => document.querySelectorAll(window.TOAST).forEach((one) =>
  window.toasts.add(one)));
  window.watching.observe(document.body, { subtree: true, childList: true }); }"""
PLAN = {"version": 1, "image_size": [600, 400], "global_prompt": "a cup", "regions": []}


def add(comfy, *nodes: tuple[str, dict]) -> None:
    """Nodes with widget values, each beside the last one; the first has its output shown, so that it runs."""
    comfy.js(
        """(nodes) => nodes.forEach(([type, values], i) => {
          const node = LiteGraph.createNode(type), show = LiteGraph.createNode('PreviewAny');
          node.pos = [60 + 500 * i, 60]; show.pos = [60 + 500 * i, 700];
          app.graph.add(node); app.graph.add(show); node.connect(0, show, 0);
          for (const [name, value] of Object.entries(values)) node.widgets.find((w) => w.name === name).value = value;
        })""",
        list(nodes),
    )


def run(comfy) -> None:
    comfy.js(WATCH)
    comfy.js(
        """async () => { const done = new Promise((resolve) => app.api.addEventListener('execution_success', resolve,
          { once: true }));
          await app.queuePrompt(0, 1); await done; }"""
    )


def test_notices_of_a_run_are_shown_once_together_and_go_with_the_next_run(comfy):
    region = {"id": "r1", "bbox_2d": [0, 0, 900, 300], "hint": "a <b>cup</b>"}
    thin = {"id": "r2", "bbox_2d": [0, 0, 10, 410], "hint": "a line"}
    add(
        comfy,
        ("RePlanRules", {"preset": "off", "matrix": json.dumps({"after": {"hint:*|main": True}})}),
        ("RePlanPlanFromText", {"text": json.dumps({**PLAN, "regions": [region, thin]})}),
    )
    run(comfy)
    # On a busy machine the two nodes speak more than the page's 400 ms apart, and then in a message each.
    comfy.until(
        f"() => ['RePlan Rules', 'under the preset', 'RePlan Plan from Text', 'r1'].every((part) => "
        f"({TOASTS})().join().includes(part))"
    )
    said = "\n".join(comfy.js(TOASTS))
    assert "<b>" not in said.replace("a <b>cup</b>", "")
    assert not comfy.js("() => [...window.toasts].some((one) => one.querySelector('b'))")
    assert said.count("under the preset") == 1
    comfy.js(
        "() => { for (const n of app.graph.nodes) for (const w of n.widgets ?? []) if (w.name === 'preset') w.value "
        "= 'replan'; }"
    )
    comfy.js(
        "() => { for (const n of app.graph.nodes) for (const w of n.widgets ?? []) if (w.name === 'matrix') w.value "
        "= ''; }"
    )
    run(comfy)
    comfy.until("() => !document.querySelector(window.TOAST)")


def test_many_notices_make_one_message(comfy):
    regions = [{"id": f"r{i}", "bbox_2d": [0, 0, 900, 300], "hint": f"cup {i}"} for i in range(30)]
    add(comfy, ("RePlanPlanFromText", {"text": json.dumps({**PLAN, "regions": regions})}))
    run(comfy)
    comfy.until(f"() => ({TOASTS})().join().includes('more in ComfyUI')")
    assert len(comfy.js(TOASTS)) == 1


@pytest.mark.parametrize("kind", ["ConditioningConcat", "ConditioningAverage"])
def test_regions_that_a_node_of_comfyui_drops_are_told_on_the_page(comfy, kind):
    graph, _ = edit("small.png", plan_text(((0, 0, 96, 64), f"a cup for {kind} in {comfy.renderer}")), steps=1)
    prompt = graph.prompt
    (sampler,) = [node for node in prompt.values() if node["class_type"] == "KSampler"]
    more = {"conditioning_to_strength": 0.7} if kind == "ConditioningAverage" else {}
    sides = {"conditioning_to": sampler["inputs"]["negative"], "conditioning_from": sampler["inputs"]["positive"]}
    prompt["90"] = {"class_type": kind, "inputs": {**sides, **more}, "_meta": {"title": "Both prompts"}}
    sampler["inputs"]["positive"] = ["90", 0]
    comfy.js("async (prompt) => { await app.loadApiJson(prompt, 'edit'); }", prompt)
    comfy.until("() => app.graph.nodes.length > 10")
    run(comfy)
    comfy.until(f"() => ({TOASTS})().join().includes('({kind}) gets these regions at its second input')")

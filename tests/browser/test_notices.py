"""What nodes tell while they run, as messages on the page."""

import json

TOASTS = "() => [...document.querySelectorAll('.p-toast-message')].map((one) => one.innerText)"
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
    comfy.until(
        "() => document.querySelector('.p-toast-message')?.innerText.includes('RePlan Rules: under the preset')"
    )
    (said,) = comfy.js(TOASTS)
    assert "RePlan Plan from Text: " in said and "r1" in said and "<b>" not in said.replace("a <b>cup</b>", "")
    assert comfy.js("() => document.querySelector('.p-toast-message b')") is None
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
    comfy.until("() => !document.querySelector('.p-toast-message')")


def test_many_notices_make_one_message(comfy):
    regions = [{"id": f"r{i}", "bbox_2d": [0, 0, 900, 300], "hint": f"cup {i}"} for i in range(30)]
    add(comfy, ("RePlanPlanFromText", {"text": json.dumps({**PLAN, "regions": regions})}))
    run(comfy)
    comfy.until("() => document.querySelector('.p-toast-message')?.innerText.includes('more in ComfyUI')")
    assert len(comfy.js(TOASTS)) == 1

"""Contact sheets of the region editor as a person sees it, one for each renderer: `python tools/page_sheets.py`.

Starts a ComfyUI server and a Chromium, brings the editor into the states that the documentation talks about, and
writes docs/images/region_editor_classic.jpg and region_editor_nodes2.jpg. It also
makes the thumbnail of the editor's example. Look at them before you commit them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "example_workflows" / "flux_kontext_editor.jpg"  # its thumbnail is the editor itself
HINTS = (
    "a leaf of white milk foam on the coffee",
    "turn the spoon to polished gold",
    "a small yellow flower lies on the table",
)
BOXES = ([205, 96, 370, 196], [322, 66, 426, 330], [470, 8, 596, 150])


def plan(*extra: dict) -> dict:
    regions = [
        {"id": f"r{i}", "bbox_2d": box, "hint": hint}
        for i, (box, hint) in enumerate(zip(BOXES, HINTS, strict=True), 1)
    ]
    return {"version": 1, "image_size": [600, 400], "global_prompt": "A cup of coffee on a wooden table. Keep everything else as it is.",
            "reasoning": "The spoon lies on the saucer, to the right of the cup.", "regions": [*regions, *extra]}  # fmt: skip


def states(page) -> list[tuple[str, Path]]:
    """Bring the editor into each state; its name and a screenshot of the node."""
    folder = Path(tempfile.mkdtemp())
    taken: list[tuple[str, Path]] = []

    def take(name: str) -> None:
        page.shown()
        page.js("() => new Promise((done) => setTimeout(done, 250))")
        file = folder / f"{len(taken)}.png"
        box = page.js(
            "() => { const r = document.querySelector('.replan-editor').getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; }"
        )
        margin = 14
        page.tab.screenshot(
            path=str(file),
            clip={
                "x": box[0] - margin,
                "y": box[1] - margin,
                "width": box[2] + 2 * margin,
                "height": box[3] + 2 * margin,
            },
        )
        taken.append((name, file))

    page.empty()
    page.build(plan=json.dumps(plan()), pos=(460, 20))
    take("Before the first run")
    page.run_branch()
    page.sees_picture()
    page.wait_regions(3)
    take("Planned: the plan upstream, until you edit it")
    page.click(370, 300)
    page.drag((426, 200), (445, 200))
    take("Corrected: one edge moved")
    other = plan()
    other["regions"][0]["bbox_2d"] = [190, 90, 380, 210]
    page.js(
        "(text) => { app.graph.nodes.find((n) => n.type === 'RePlanPlanFromText').widgets.find((w) => w.name === 'text').value = text; }",
        json.dumps(other),
    )
    page.run_branch()
    take("Upstream changed: offered, not applied")
    page.button("Changes").click()
    take("What did I change")
    page.key("Escape")
    page.click(280, 150)
    page.button("Snap").click()
    page.button("Patches").click()
    take("Snap, and the patches each region covers")
    page.button("Patches").click()
    page.focus()
    page.key("?")
    take("Keys")
    page.key("Escape")
    odd = [
        {
            "id": "odd",
            "bbox_2d": [20, 230, 200, 380],
            "hint": "<b>not bold</b> \u0645\u0631\u062d\u0628\u0627 \U0001f600 \u4e2d\u6587",
            "locked": True,
            "start": 0.2,
            "end": 0.8,
        }
    ]
    page.js(
        "(value) => { app.graph.nodes.find((n) => n.type === 'RePlanRegionEditor').widgets.find((w) => w.name === 'regions').value = value; }",
        json.dumps(plan(*odd)),
    )
    page.wait_regions(4)
    page.click(60, 340)
    take("Any text is only text; locked; active for a part of the sampling")
    many = [
        {
            "id": f"m{i}",
            "bbox_2d": [(i % 20) * 29 + 4, (i // 20) * 38 + 4, (i % 20) * 29 + 30, (i // 20) * 38 + 34],
            "hint": "many",
        }
        for i in range(197)
    ]
    page.js(
        "(value) => { app.graph.nodes.find((n) => n.type === 'RePlanRegionEditor').widgets.find((w) => w.name === 'regions').value = value; }",
        json.dumps(plan(*many)),
    )
    page.wait_regions(200)
    take("200 regions")
    page.js(
        "(value) => { app.graph.nodes.find((n) => n.type === 'RePlanRegionEditor').widgets.find((w) => w.name === 'regions').value = value; }",
        '{"version": 2, "regions": [',
    )
    take("A stored value that cannot be read")
    return taken


def sheet(taken: list[tuple[str, Path]], columns: int = 3, width: int = 520):
    """The screenshots side by side, each with its name above."""
    from PIL import Image, ImageDraw, ImageFont

    pictures = []
    for name, file in taken:
        picture = Image.open(file).convert("RGB")
        pictures.append(
            (
                name,
                picture.resize(
                    (width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS
                ),
            )
        )
    height = max(picture.height for _, picture in pictures) + 30
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * (width + 12) + 12, rows * height + 12), (24, 24, 24))
    draw = ImageDraw.Draw(whole)
    for place, (name, picture) in enumerate(pictures):
        x, y = 12 + (place % columns) * (width + 12), 8 + (place // columns) * height
        draw.text((x, y), name, font=ImageFont.load_default(16), fill=(235, 235, 235))
        whole.paste(picture, (x, y + 24))
    return whole


def main() -> int:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser"), str(ROOT / "tests" / "host")]
    import conftest  # noqa: F401 - makes the checkout importable
    import editor_page
    from playwright.sync_api import sync_playwright
    from replan.tools.browser_setup import FLAGS, find_browser
    from replan.tools.host_server import HostServer

    program = find_browser()
    if program is None:
        sys.exit("no Chromium: run `python tools/browser_setup.py`")
    target = ROOT / "docs" / "images"
    target.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        HostServer(
            ROOT / ".host" / "comfyui-0.30", base=Path(base), pack=ROOT, models=ROOT / ".host" / "models"
        ) as server,
    ):
        editor_page.prepare(server, Path(base))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
            for renderer in ("classic", "nodes2"):
                page = editor_page.open_page(browser, server, renderer)
                taken = states(page)
                sheet(taken).save(target / f"region_editor_{renderer}.jpg", quality=82)
                if renderer == "classic":
                    sheet(taken[2:3], 1, 512).crop((12, 32, 524, 10_000)).crop((0, 0, 512, 360)).save(
                        EXAMPLE, quality=80
                    )
                print(target / f"region_editor_{renderer}.jpg", page.problems)
                page.close()
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

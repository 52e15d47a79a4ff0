"""Contact sheets of the pages as a person sees them: `python tools/page_sheets.py [classic] [nodes2] [--newest]`.

Starts a ComfyUI server and a Chromium, brings the region editor and the rule matrix into the states that the
documentation talks about, and writes docs/images/region_editor_*.jpg, region_editor_sizes_*.jpg and rule_matrix_*.jpg.
It also makes the thumbnail of the editor's example. Look at them before you commit them.

With --newest they come from the registry's newest frontend instead of the pinned one, and only the first of the three
is written, as region_editor_*_newest.jpg: the others differ in the host's own frame alone.
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
        {"id": f"r{i}", "bbox_2d": box, "hint": hint} for i, (box, hint) in enumerate(zip(BOXES, HINTS, strict=True), 1)
    ]
    return {"version": 1, "image_size": [600, 400],
    "global_prompt": "A cup of coffee on a wooden table. Keep everything else as it is.",
            "reasoning": "The spoon lies on the saucer, to the right of the cup.", "regions": [*regions,
            *extra]}  # fmt: skip


class Shots:
    """Screenshots of one part of the page, each with a name."""

    def __init__(self, page) -> None:
        self.page = page
        self.folder = Path(tempfile.mkdtemp())
        self.taken: list[tuple[str, Path]] = []

    def take(self, name: str, left: float, top: float, width: float, height: float) -> None:
        file = self.folder / f"{len(self.taken)}.png"
        self.page.tab.screenshot(path=str(file), clip={"x": left, "y": top, "width": width, "height": height})
        self.taken.append((name, file))

    def editor(self, name: str) -> None:
        self.page.shown()
        self.page.js("() => new Promise((done) => setTimeout(done, 250))")
        rect = self.page.js(
            "() => { const r = document.querySelector('.replan-editor').getBoundingClientRect(); return [r.left, "
            "r.top, r.width, r.height]; }"
        )
        self.take(name, rect[0] - 14, rect[1] - 14, rect[2] + 28, rect[3] + 28)

    def node(self, name: str, node: int) -> None:
        """A whole node with its title, at zoom 1."""
        self.page.tab.mouse.move(1400, 900)
        self.page.js("() => new Promise((done) => setTimeout(done, 400))")
        x, y, width, height = self.page.js(
            "(id) => { const n = app.graph.getNodeById(id), [x, y] = app.canvas.ds.offset; return [n.pos[0] + x, "
            "n.pos[1] + y - 30, n.size[0], n.size[1] + 30]; }",
            node,
        )
        self.take(name, x - 8, y - 6, width + 16, height + 14)


def editor_states(page) -> list[tuple[str, Path]]:
    """Bring the editor into each state; its name and a screenshot of it."""
    shots = Shots(page)
    take = shots.editor
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
        "(text) => { app.graph.nodes.find((n) => n.type === 'RePlanPlanFromText').widgets.find((w) => w.name === "
        "'text').value = text; }",
        json.dumps(other),
    )
    page.run_branch()
    take("Upstream changed: offered, not applied")
    page.button("Changes").click()
    page.editor().get_by_role("dialog").wait_for()  # ComfyUI is asked for the list
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
        "(value) => { app.graph.nodes.find((n) => n.type === 'RePlanRegionEditor').widgets.find((w) => w.name === "
        "'regions').value = value; }",
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
        "(value) => { app.graph.nodes.find((n) => n.type === 'RePlanRegionEditor').widgets.find((w) => w.name === "
        "'regions').value = value; }",
        json.dumps(plan(*many)),
    )
    page.wait_regions(200)
    take("200 regions")
    page.js(
        "(value) => { app.graph.nodes.find((n) => n.type === 'RePlanRegionEditor').widgets.find((w) => w.name === "
        "'regions').value = value; }",
        '{"version": 2, "regions": [',
    )
    take("A stored value that cannot be read")
    return shots.taken


def editor_sizes(page) -> list[tuple[str, Path]]:
    """The editor in a narrow node and in a wide one."""
    shots = Shots(page)
    for name, width, height in (("Narrow", 380, 800), ("Wide", 960, 640)):
        page.empty()
        node = page.build(plan=json.dumps(plan()), pos=(460, 20))
        page.look(0, -100)  # below what the host shows at the top
        page.run_branch()
        page.sees_picture()
        page.js(
            "([id, size]) => { app.graph.getNodeById(id).setSize(size); app.canvas.setDirty(true, true); }",
            [node, [width, height]],
        )
        page.shown()
        page.click(370, 300)
        page.chosen("r2")
        shots.node(name, node)
    return shots.taken


def matrix_states(page) -> list[tuple[str, Path]]:
    """Bring the rule matrix into each state; its name and a screenshot of its node."""
    from matrix_page import Matrix, text

    shots = Shots(page)

    def matrix(name: str, cells: str = "", preset: str = "replan", with_editor: bool = True, **do) -> Matrix:
        page.empty()
        made = Matrix(page, cells, preset, with_editor=with_editor)
        page.js("(id) => app.graph.getNodeById(id).setSize([520, 690])", made.id)
        page.look(0, -60)  # below what the host shows at the top
        made.at_rest()
        for label in do.get("press", ()):
            made.button(label).click()
        shots.node(name, made.id)
        return made

    matrix("The preset replan; the regions of the editor beside it")
    matrix("The preset isolated_regions", preset="isolated_regions")
    changed = text(
        after={"main|hint:*": True, "noise:cup|noise:r2": False, "noise:r2|noise:cup": False, "hint:cup|main": True}
    )
    matrix("What differs from the preset: set (unbroken), following from it (broken)", changed)
    matrix("Two phases of a preset", preset="local_first", press=["Before the switch"])
    matrix("Two phases of your own", press=["Two phases"])
    gone = text(after={"noise:gone|noise:cup": False})
    matrix("Cells of a region that the plan does not have", gone)
    matrix("The cells as text", changed, press=["Text"])
    matrix("A text that cannot be read", '{"after": {"picture|main": true}}')
    matrix("No plan is known yet", with_editor=False)
    matrix("Collapsed", changed, press=["Rule matrix"])
    return shots.taken


def sheet(taken: list[tuple[str, Path]], columns: int = 3, width: int | None = 520):
    """The screenshots side by side, each with its name above; width: of each, or None to leave their sizes."""
    from PIL import Image, ImageDraw, ImageFont

    pictures = [(name, Image.open(file).convert("RGB")) for name, file in taken]
    if width:
        pictures = [
            (name, one.resize((width, round(one.height * width / one.width)), Image.Resampling.LANCZOS))
            for name, one in pictures
        ]
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    across = 12 + max(sum(one.width + 12 for _, one in row) for row in rows)
    down = 12 + sum(max(one.height for _, one in row) + 30 for row in rows)
    whole = Image.new("RGB", (across, down), (24, 24, 24))
    draw = ImageDraw.Draw(whole)
    y = 8
    for row in rows:
        x = 12
        for name, one in row:
            draw.text((x, y), name, font=ImageFont.load_default(14), fill=(235, 235, 235))
            whole.paste(one, (x, y + 24))
            x += one.width + 12
        y += max(one.height for _, one in row) + 30
    return whole


def main() -> int:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser"), str(ROOT / "tests" / "host")]
    import conftest  # noqa: F401 - makes the checkout importable
    import editor_page
    from playwright.sync_api import sync_playwright
    from replan.tools.browser_setup import FLAGS, find_browser
    from replan.tools.frontend_setup import newest_frontend
    from replan.tools.host_server import HostServer

    program = find_browser()
    if program is None:
        sys.exit("no Chromium: run `python tools/browser_setup.py`")
    target = ROOT / "docs" / "images"
    target.mkdir(exist_ok=True)
    newest, flags = "--newest" in sys.argv, ["--cpu"]
    if newest:
        found = newest_frontend(sys.executable)
        if isinstance(found, str):
            sys.exit(found)
        flags += ["--front-end-root", str(found[1])]
        print(f"frontend {found[0]}")
    with (
        tempfile.TemporaryDirectory() as base,
        HostServer(
            ROOT / ".host" / "comfyui-0.30", base=Path(base), pack=ROOT, models=ROOT / ".host" / "models", flags=flags
        ) as server,
    ):
        editor_page.prepare(server, Path(base))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
            for renderer in [name for name in sys.argv[1:] if name != "--newest"] or ("classic", "nodes2"):
                page = editor_page.open_page(browser, server, renderer)
                taken = editor_states(page)
                sheet(taken).save(target / f"region_editor_{renderer}{'_newest' * newest}.jpg", quality=82)
                if newest:
                    print(f"{renderer}: one sheet in {target}; problems on the page: {page.problems}")
                    page.close()
                    continue
                sheet(editor_sizes(page), 2, None).save(target / f"region_editor_sizes_{renderer}.jpg", quality=82)
                sheet(matrix_states(page), 4, 470).save(target / f"rule_matrix_{renderer}.jpg", quality=78)
                if renderer == "classic":
                    sheet(taken[2:3], 1, 512).crop((12, 32, 524, 10_000)).crop((0, 0, 512, 360)).save(
                        EXAMPLE, quality=80
                    )
                print(f"{renderer}: three sheets in {target}; problems on the page: {page.problems}")
                page.close()
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

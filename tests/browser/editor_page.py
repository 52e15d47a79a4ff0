"""What the browser tests do on ComfyUI's page: open it, build graphs, find the editor, press and drag in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

NODE = "RePlanRegionEditor"
# What the host's own page says on any start, or about things these tests do on purpose.
NOT_OURS = (
    "favicon",
    "ComfyApp graph accessed before initialization",
    "Failed to load resource",
    "net::ERR",
    "[DEPRECATION WARNING]",
    "websocket",
    "registry",
    "api.comfy.org",
    "sentry",
    "posthog",
)


def prepare(server, folder: Path) -> None:
    """Settings of the page, and the pictures the tests edit,
    in the server's input folder: cup.png (600 x 400), square.png, large.png (12 megapixels)."""
    from PIL import Image
    from skimage import data

    # Not the page of a newcomer, which opens the template browser; and no minimap, which costs time.
    server.post(
        "/settings",
        {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False},
    )
    cup = Image.fromarray(data.coffee())
    for name, size in {
        "cup.png": (600, 400),
        "square.png": (400, 400),
        "small.png": (192, 128),
        "large.png": (4240, 2832),
    }.items():
        file = folder / name
        cup.resize(size).save(file)
        server.upload_image(file)


# Animation frames that come late: what a test reads before the page has drawn is then always the old state.
LATE_FRAMES = """() => {
  window.requestAnimationFrame = (call) => setTimeout(() => call(performance.now()), 120);
  window.cancelAnimationFrame = (frame) => clearTimeout(frame);
}"""


def open_page(
    browser, server, renderer: str, zoom: float = 1.0, late: bool = False, blocked: str | None = None
) -> Page:
    """A new tab.

    The window grows with the graph's zoom, so that everything stays on it. blocked: addresses that never load.
    """
    side = max(1.0, zoom)
    context = browser.new_context(viewport={"width": round(1500 * side), "height": round(1000 * side)})
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
    if blocked:
        context.route(blocked, lambda route: route.abort())
    if late:
        context.add_init_script(f"({LATE_FRAMES})()")
    return Page(context, server, renderer, zoom)


class Page:
    """One tab with ComfyUI in one renderer (`classic` or `nodes2`)."""

    def __init__(self, context, server, renderer: str, zoom: float) -> None:
        self.context, self.server, self.renderer, self.zoom = context, server, renderer, zoom
        self.problems: list[str] = []
        self.tab = context.new_page()
        self.tab.set_default_timeout(60_000)
        self.tab.on("console", self._console)
        self.tab.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        self.tab.goto(server.url, wait_until="domcontentloaded")
        self.wait_for_app()
        self.use(renderer)

    def _console(self, message) -> None:
        if message.type == "error" and not any(part in message.text for part in NOT_OURS):
            self.problems.append(f"console: {message.text}")

    def devtools(self):
        """Chromium's own protocol, for fingers and pens: one session, since it remembers which fingers are down."""
        self.session = getattr(self, "session", None) or self.context.new_cdp_session(self.tab)
        return self.session

    def close(self) -> None:
        self.context.close()

    # ---- the host's page --------------------------------------------------------------------------------------

    def js(self, code: str, argument=None):
        """Run code in the page. Code that looks at elements runs once the page has drawn."""
        if "document." in code:
            self.drawn()
        return self.tab.evaluate(code, argument)

    def drawn(self) -> None:
        """Wait until what was done before this call is drawn.

        The editor stores a change at once and draws it in the next animation frame, the canvas in the one after
        that; the rule matrix looks at its neighbours after a timeout of 0. Frames and timeouts run in the order in
        which they were asked for, so two frames with a timeout between them come after all of these.
        """
        self.tab.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => requestAnimationFrame(done))))"
        )

    def until(self, code: str, argument=None, timeout: float = 60_000) -> None:
        """Wait until a condition in the page holds."""
        self.tab.wait_for_function(code, arg=argument, timeout=timeout)

    def wait_for_app(self) -> None:
        self.until(
            "() => window.app?.extensionManager && window.app.canvas?.graph && "
            "window.app.extensionManager.workflow?.activeWorkflow?.changeTracker && "
            "LiteGraph.registered_node_types.RePlanRegionEditor",
            timeout=120_000,
        )

        # The page then loads a workflow of its own, the default one or the last; nothing is safe before that.
        self.until("() => app.graph.nodes.length > 0", timeout=60_000)

    def use(self, renderer: str) -> None:
        self.renderer = renderer
        self.js(
            """async (vue) => {
              await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', vue);
            }""",
            renderer == "nodes2",
        )

    def empty(self) -> None:
        """An empty workflow at zoom 1, as if newly opened."""
        self.tab.mouse.up()
        self.js("() => { const { toast } = app.extensionManager; (toast.dismissAll ?? toast.removeAll)(); }")
        self.load(
            {
                "version": 0.4,
                "last_node_id": 0,
                "last_link_id": 0,
                "nodes": [],
                "links": [],
                "groups": [],
                "config": {},
                "extra": {},
            }
        )
        self.look()
        self.until("() => document.querySelectorAll('.replan-editor').length === 0")

    def look(self, x: float = 0, y: float = 0) -> None:
        """Show the graph at its zoom, with a point of it near the left top corner of the window.

        At least 60 pixels of the screen from it, whatever the zoom: what is nearer lies under the host's sidebar.
        """
        margin = 60 / min(1.0, self.zoom)
        self.js(
            "([x, y, zoom]) => { app.canvas.ds.scale = zoom; app.canvas.ds.offset = [x, y]; "
            "app.canvas.setDirty(true, true); }",
            [margin - x, margin - y, self.zoom],
        )

    def build(
        self,
        picture: str | None = "cup.png",
        plan: str | None = None,
        follow: str = "until_edited",
        pos=(460, 20),
        known: bool = True,
    ) -> int:
        """LoadImage (and RePlan Plan from Text) into an editor; the editor's id.

        known: False puts a node between that has no image before a run.
        """
        node = self.js(
            """([picture, plan, follow, pos, known]) => {
              const add = (type, x, y) => { const n = LiteGraph.createNode(type); n.pos = [x, y]; app.graph.add(n);
              return n; };
              const editor = add('RePlanRegionEditor', pos[0], pos[1]);
              editor.widgets.find((w) => w.name === 'follow_upstream').value = follow;
              editor.widgets.find((w) => w.name === 'follow_upstream').callback?.(follow);
              if (picture) {
                const image = add('LoadImage', 0, 20);
                image.widgets[0].value = picture;
                const between = known ? image : add('ImageInvert', 230, -80);
                if (!known) image.connect(0, between, 0);
                between.connect(0, editor, 0);
                if (plan !== null) {
                  const text = add('RePlanPlanFromText', 0, 420);
                  text.widgets.find((w) => w.name === 'text').value = plan;
                  image.connect(0, text, text.inputs.findIndex((i) => i.name === 'image'));
                  text.connect(0, editor, editor.inputs.findIndex((i) => i.name === 'plan'));
                }
              }
              return editor.id;
            }""",
            [picture, plan, follow, list(pos), known],
        )
        self.shown()
        if picture and known:
            self.sees_picture()
        return node

    def shown(self) -> None:
        """Wait until the editor's canvas is on the screen with its style, and at rest."""
        self.at_rest(".replan-canvas", "touch-action: none")

    def at_rest(self, selector: str, style: str) -> None:
        """Wait until an element is on the screen in this renderer, with its style, in one place for three frames."""
        self.js(
            """async ([selector, style, nodes2]) => {
              const [property, value] = style.split(': ');
              const begun = performance.now();
              let last = '', same = 0;
              while (same < 3) {
                if (performance.now() - begun > 60000) throw new Error(`${selector} did not come to rest: ${last}`);
                await new Promise((done) => requestAnimationFrame(done));
                const found = document.querySelector(selector);
                const r = found?.getBoundingClientRect();
                const here = r?.width > 50 && getComputedStyle(found).getPropertyValue(property) === value
                  && Boolean(found.closest('[data-node-id]')) === nodes2;
                const now = here ? [r.left, r.top, r.width, r.height].join() : '';
                same = now && now === last ? same + 1 : 0;
                last = now;
              }
            }""",
            [selector, style, self.renderer == "nodes2"],
        )

    def workflow(self) -> dict:
        return self.js("() => app.graph.serialize()")

    def load(self, workflow: dict) -> None:
        self.js("async (workflow) => { await app.loadGraphData(workflow); }", workflow)

    def graph_undo(self, way: str = "undo") -> None:
        """The graph's own undo or redo."""
        self.drawn()
        self.js("async (way) => { await app.extensionManager.workflow.activeWorkflow.changeTracker[way](); }", way)

    def prompt(self) -> dict:
        return self.js("async () => (await app.graphToPrompt()).output")

    def run_branch(self, button: str = "Plan") -> None:
        """Press a button that runs something, and wait for its end and until what it changed is shown."""
        self.js(
            "() => { window.ended = 0; for (const name of ['execution_success', 'execution_error']) "
            "app.api.addEventListener(name, () => { window.ended += 1; }, { once: true }); }"
        )
        self.button(button).click()
        self.until("() => window.ended > 0", timeout=180_000)
        self.shown()

    # ---- the editor -------------------------------------------------------------------------------------------

    def editor(self, selector: str = ""):
        """Elements of the editor, as they are once the page has drawn what was done before."""
        self.drawn()
        return self.tab.locator(f".replan-editor {selector}".strip())

    def button(self, name: str):
        return self.editor().get_by_role("button", name=name, exact=True)

    def stored(self) -> dict:
        """The widget's value as the workflow stores it; {} when empty."""
        text = self.js(
            "() => app.graph.nodes.find((n) => n.type === 'RePlanRegionEditor').widgets.find((w) => w.name === "
            "'regions').value"
        )
        return json.loads(text) if text else {}

    def regions(self) -> list[dict]:
        return self.stored().get("regions", [])

    def box(self, index: int = 0) -> list[float]:
        return self.regions()[index]["bbox_2d"]

    def wait_regions(self, count: int) -> None:
        self.until(
            """(count) => { const v = app.graph.nodes.find((n) => n.type === 'RePlanRegionEditor')
                ?.widgets.find((w) => w.name === 'regions').value;
              return (v ? (JSON.parse(v).regions ?? []).length : 0) === count; }""",
            count,
        )

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point on the screen for a point of the plan's image, with the view as the Fit button leaves it."""
        width, height = (int(side) for side in re.findall(r"\d+", self.editor(".replan-status").first.inner_text())[:2])
        rect = self.js(
            "() => { const c = document.querySelector('.replan-canvas'); const r = c.getBoundingClientRect(); return "
            "[r.left, r.top, r.width, r.height, r.width / c.offsetWidth]; }"
        )
        zoom = rect[4]
        scale = min((rect[2] / zoom - 16) / width, (rect[3] / zoom - 16) / height) * zoom
        left = rect[0] + (rect[2] - width * scale) / 2
        top = rect[1] + (rect[3] - height * scale) / 2
        return left + x * scale, top + y * scale

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 6) -> None:
        """Press, move and release between two points of the image."""
        self.tab.mouse.move(*self.at(*start))
        self.tab.mouse.down()
        self.tab.mouse.move(*self.at(*end), steps=steps)
        self.tab.mouse.up()

    def draw(self, box: list[float]) -> None:
        count = len(self.regions())
        self.drag((box[0], box[1]), (box[2], box[3]))
        self.wait_regions(count + 1)

    def click(self, x: float, y: float, **options) -> None:
        self.tab.mouse.click(*self.at(x, y), **options)

    def key(self, *keys: str) -> None:
        for key in keys:
            self.tab.keyboard.press(key)

    def focus(self) -> None:
        self.js("() => document.querySelector('.replan-canvas').focus()")

    def chosen(self, *wanted: str) -> None:
        """Wait until exactly these regions are selected."""
        self.until(
            "(wanted) => [...document.querySelectorAll('.replan-editor [aria-selected=true]')].map((row) => "
            "row.dataset.region).sort().join() === wanted",
            ",".join(sorted(wanted)),
        )

    def sees_picture(self) -> None:
        """Wait until the picture of the last run is shown, and the editor is at rest again."""
        self.until("() => !document.querySelector('.replan-notes').textContent.includes('No image')")
        self.shown()

    def near(self, found, wanted, by: float = 2.0) -> bool:
        """Whether boxes agree within `by` pixels of the image, more where the graph is shown small."""
        return near(found, wanted, by * max(1.0, 1.5 / self.zoom))

    def hint(self):
        return self.editor().get_by_label("Hint", exact=True)

    def picture(self, file: Path | str) -> None:
        file = Path(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.tab.screenshot(path=str(file))


def near(found, wanted, by: float = 2.0) -> bool:
    """Whether boxes agree within `by` pixels of the image."""
    return len(found) == len(wanted) and all(abs(a - b) <= by for a, b in zip(found, wanted, strict=True))

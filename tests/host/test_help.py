"""Help pages and translations: what the nodes' schemas say of them, and how ComfyUI serves them."""

import pytest
from replan.tools.node_texts import (
    BEGIN,
    END,
    NAMES,
    PAGES,
    WHOLE,
    load_schemas,
    load_table,
    locale_file,
    write_texts,
)


@pytest.fixture(scope="module")
def schemas() -> dict:
    return load_schemas()


def test_the_locale_file_and_the_pages_say_what_the_schemas_say(schemas):
    stale = [file.name for file, text in write_texts(schemas).items() if file.read_text(encoding="utf-8") != text]
    assert not stale, f"{', '.join(stale)}: run `python tools/node_texts.py`"


def test_a_changed_tooltip_changes_the_locale_file_and_the_page_and_nothing_hand_written(schemas):
    tooltip = "Ratio or pixels.\nratio: `of` <the> box *itself*; not_this but _this. pixels: of the image."
    node = schemas["RePlanExpandRegions"]
    inputs = node["input"]["optional"]
    changed = {**inputs, "mode": (inputs["mode"][0], {**inputs["mode"][1], "tooltip": tooltip})}
    other = {"RePlanExpandRegions": {**node, "input": {**node["input"], "optional": changed}}}
    page = PAGES / "RePlanExpandRegions.md"
    before, after = page.read_text(encoding="utf-8"), write_texts(other)[page]
    lines = (
        "- **`mode`** (choice): Ratio or pixels.",
        r"  - `ratio`: \`of\` \<the> box \*itself\*; not_this but \_this.",
        "  - `pixels`: of the image.",
    )
    assert "\n".join(lines) + "\n" in after
    assert r"\nratio: `of` <the>" in write_texts(other)[locale_file("en")]
    assert hand_written(before) == hand_written(after)


def hand_written(text: str) -> list[str]:
    return [part.split(END)[-1] for part in text.split(BEGIN)]


def test_the_host_serves_translations_and_pages(server, schemas):
    texts = {language: part["nodeDefs"] for language, part in server.get("/i18n").items() if "nodeDefs" in part}
    for name, node in schemas.items():
        for language in ("en", *WHOLE, *NAMES):
            assert texts[language][name]["display_name"] == title_in(language, node)
        for language in ("", *WHOLE):
            page = server._open(f"/extensions/replan/docs/{name}{language and '/'}{language}.md").decode()
            assert page.startswith(f"# {title_in(language or 'en', node)}\n")


def title_in(language: str, node: dict) -> str:
    title = node["display_name"]
    return title if language == "en" else load_table(language)[title]


def test_a_text_that_the_page_would_read_as_a_message_is_refused(schemas):
    node = schemas["RePlanExpandRegions"]
    with pytest.raises(ValueError, match=r"would not show.*is \{x\}"):
        write_texts({"RePlanExpandRegions": {**node, "description": "is {x}"}})

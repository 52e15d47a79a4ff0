"""Other languages are complete and current: the nodes' texts and names, and the help pages of Chinese."""

import json
import re

import pytest
from replan.tools import node_texts
from replan.tools.node_texts import MESSAGE_SYNTAX, NAMES, PAGES, WHOLE, load_table, locale_file, untranslated

ENGLISH = json.loads(locale_file("en").read_text(encoding="utf-8"))
SLOTS = [slot for node in ENGLISH.values() for part in ("inputs", "outputs") for slot in node[part].values()]
NODE_NAMES = {node["display_name"] for node in ENGLISH.values()}
# What stays in Latin letters, besides node ids, socket types, file names and the values of choices.
STAYS = {"CLIP", "CLIP Vision", "CLIP_VISION"}
SCRIPTS = {"zh": "\u4e00-\u9fff", "zh-TW": "\u4e00-\u9fff", "ja": "\u3040-\u30ff\u4e00-\u9fff", "ko": "\uac00-\ud7a3"}
# Characters that only one of the two ways to write Chinese has.
OTHER_SCRIPT = {
    "zh": "圖區編輯條規則預覽調節為這們對時間說話讀寫變輸應單選擇無動標籤數組張樣兩從質頁載運",
    "zh-TW": "图区编辑条规则预览调节为这们对时间说话读写变输应单选择无动标签数组张样两从质页载运",
}


@pytest.mark.parametrize("language", WHOLE)
def test_every_text_is_translated_and_no_translation_is_of_an_old_text(language):
    missing, unused = untranslated(load_table(language))
    assert not missing, "in tools/translations: not translated, or its English changed"
    assert not unused, "in tools/translations: no node says this any more"


@pytest.mark.parametrize("language", NAMES)
def test_every_name_is_translated(language):
    names = NODE_NAMES | {slot["name"] for slot in SLOTS}
    assert set(load_table(language)) == names


@pytest.mark.parametrize("language", [*WHOLE, *NAMES])
def test_no_text_is_left_in_english_or_breaks_on_the_page(language):
    for english, text in load_table(language).items():
        assert text in STAYS or re.search(f"[{SCRIPTS[language]}]", text), f"left in English: {text}"
        assert not MESSAGE_SYNTAX.search(text), f"the page would not show {{}}@|$ as they are: {text}"
        lost = [number for number in re.findall(r"\d+(?:\.\d+)?", english) if number not in text]
        assert not lost, f"{lost} of '{english}' are not in '{text}'"
        assert not set(text) & set(OTHER_SCRIPT.get(language, "")), text


@pytest.mark.parametrize("language", [*WHOLE, *NAMES])
def test_the_files_that_comfyui_reads_say_what_the_tables_say(language):
    written = json.loads(locale_file(language).read_text(encoding="utf-8"))
    assert written == node_texts.translate(ENGLISH, load_table(language)), "run `python tools/node_texts.py`"


def test_every_language_names_the_same_categories_and_socket_types():
    files = [locale_file(language).with_name("main.json") for language in (*WHOLE, *NAMES)]
    texts = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    first, *others = ({key: set(part) for key, part in one.items()} for one in texts)
    assert set(first) == {"nodeCategories", "dataTypes"}
    assert all(other == first for other in others)


def messages_quoted(page: str) -> list[str]:
    """The English messages, in italics, in the last section of a page."""
    return re.findall(r"(?<!\*)\*([ -)+-~]+ [ -)+-~]+)\*(?!\*)", page.rsplit("\n## ", 1)[1])


@pytest.mark.parametrize("language", WHOLE)
@pytest.mark.parametrize("node", ENGLISH)
def test_a_help_page_follows_the_english_one(node, language):
    english = (PAGES / f"{node}.md").read_text(encoding="utf-8")
    page = (PAGES / node / f"{language}.md").read_text(encoding="utf-8")
    name = ENGLISH[node]["display_name"]
    assert page.startswith(f"# {load_table(language)[name]}\n\n*{name}*\n\n")
    mark = node_texts.english_mark(node)
    assert page.endswith(f"\n{mark}\n"), f"the English page changed: translate that, then end this one with {mark}"
    assert len(re.findall("^## ", page, re.MULTILINE)) == len(re.findall("^## ", english, re.MULTILINE))
    assert messages_quoted(page) == messages_quoted(english)
    code = re.compile("^    .*", re.MULTILINE)
    assert code.findall(page) == code.findall(english)
    assert not set(page) & set(OTHER_SCRIPT[language])

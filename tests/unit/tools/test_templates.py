"""What the example workflows say, in every language that the page knows the pack in."""

from __future__ import annotations

import json
import re

import pytest

from helpers.paths import ROOT
from tools.generate.template_graphs import TEMPLATES

TABLES = sorted((ROOT / "tools" / "generate" / "translations" / "notes").glob("*.json"))
TEXTS = list(dict.fromkeys(text for template in TEMPLATES for text in template.texts()))
BOLD, LINK = re.compile(r"\*\*(.+?)\*\*"), re.compile(r"\[[^\]]+\]\(([^)]+)\)")


@pytest.fixture(params=TABLES, ids=[path.stem for path in TABLES])
def table(request: pytest.FixtureRequest) -> dict[str, str]:
    return json.loads(request.param.read_text(encoding="utf-8"))


def test_languages_are_those_of_the_nodes():
    nodes = sorted(path.stem for path in TABLES[0].parent.parent.glob("*.json"))
    assert [path.stem for path in TABLES] == nodes


def test_every_note_and_title_is_translated_and_no_translation_is_left_over(table):
    assert list(table) == TEXTS


def test_no_translation_is_empty_or_english(table):
    assert not [text for text, said in table.items() if not said.strip() or said == text]


def test_translations_keep_headings_paragraphs_and_addresses(table):
    for text, said in table.items():
        assert said.startswith("## ") == text.startswith("## ")
        assert said.count("\n\n") == text.count("\n\n"), text
        assert LINK.findall(said) == LINK.findall(text)


def test_bold_words_are_shown_bold(table):
    """Markdown does not end bold at `)**x`: the sign before the stars has to be a letter there."""
    for text in [*table, *table.values()]:
        for bold in BOLD.finditer(text):
            followed = text[bold.end() : bold.end() + 1]
            assert bold[1][-1].isalnum() or not followed.isalnum(), bold[0]


def test_titles_that_notes_speak_of_are_there(table):
    """In each language: what is bold in a note names a node by the title that it shows."""
    titles = {title for template in TEMPLATES for title in template.texts()[1:]}
    for text, said in table.items():
        for title in titles & set(BOLD.findall(text)):
            assert table[title] in BOLD.findall(said)


def test_names_are_file_names_everywhere():
    names = [template.name for template in TEMPLATES]
    assert len(set(names)) == len(names)
    assert not [name for name in names if not re.fullmatch(r"[A-Za-z0-9 ]+", name)]
    assert names == sorted(names), "the order of the list is that of the names"

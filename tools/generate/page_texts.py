"""What web/js/texts.js finds in locales/LANGUAGE/main.json: the page's own texts, and tables.

page:     key -> text, of the strip, the slider and the full-size view. English: web/js/english.js;
          tools/generate/translations/page/LANGUAGE.json translates each text
notes:    English -> translation, of the templates' notes, word for word; translations/notes/
messages: English -> translation, of errors and other messages of the nodes, with {names} where
          something is filled in; translations/messages/, see messages.py
options:  value -> label, of choices whose values are words; translations/options/

English has no tables: what is not found in one is shown as it is.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tools.generate.translating import (
    LANGUAGES,
    SOURCE,
    Texts,
    TranslationError,
    read_table,
    translated,
)

ENGLISH = Path(__file__).resolve().parents[2] / "web" / "js" / "english.js"
OURS = "varsr"  # one name for the pack: main.json is merged with those of all others
TABLES = ("notes", "messages", "options")
PLACE = re.compile(r"\{(\w+)\}")


def english() -> dict[str, str]:
    """Key -> text."""
    source = ENGLISH.read_text(encoding="utf-8")
    return json.loads(source[source.index("= {") + 2 : source.rindex(";")])


def page_texts(language: str) -> Texts:
    """main.json of a language; raises TranslationError where a table lacks something."""
    if language == SOURCE:
        return {OURS: {"page": english()}}
    page = read_table(f"page/{language}")
    tables = {name: table for name in TABLES if (table := _complete(name, language))}
    _same_places(page)
    return {OURS: {"page": translated(english(), page), **tables}}


def _complete(name: str, language: str) -> dict[str, str]:
    """A table that says as much as those of the other languages."""
    table = read_table(f"{name}/{language}")
    others = (read_table(f"{name}/{other}") for other in LANGUAGES if other != SOURCE)
    known = dict.fromkeys(text for other in others for text in other)
    problems = [f"{name}: no translation: {text}" for text in known if text not in table]
    problems += [f"{name}: empty: {text}" for text, other in table.items() if not other.strip()]
    if problems:
        raise TranslationError("\n".join(problems))
    _same_places(table)
    return table


def _same_places(table: dict[str, str]) -> None:
    problems = [
        f"other {{names}} than in English: {text}"
        for text, translation in table.items()
        if set(PLACE.findall(text)) != set(PLACE.findall(translation))
    ]
    if problems:
        raise TranslationError("\n".join(problems))

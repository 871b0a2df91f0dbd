"""Texts in several languages: trees of English texts, and tables that translate each of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TRANSLATIONS = Path(__file__).resolve().parent / "translations"
SOURCE = "en"
LANGUAGES = (SOURCE, "zh", "ja", "ko")

Texts = dict[str, Any]  # str -> str or Texts


class TranslationError(Exception):
    """A text without a translation, a translation without a text, or one that cannot be shown."""


def read_table(name: str) -> dict[str, str]:
    """English text -> translation; empty where there is no such file below translations/."""
    path = TRANSLATIONS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def translated(texts: Texts, table: dict[str, str]) -> Texts:
    """`texts` in the language of `table`; raises TranslationError unless both hold the same."""
    used = dict.fromkeys(strings(texts))
    problems = [f"no translation: {text}" for text in used if text not in table]
    problems += [f"no longer used: {text}" for text in table if text not in used]
    problems += [f"empty: {text}" for text, other in table.items() if not other.strip()]
    if problems:
        raise TranslationError("\n".join(problems))
    return each_string(texts, table.__getitem__)


def strings(texts: Texts) -> Iterator[str]:
    for value in texts.values():
        yield from (value,) if isinstance(value, str) else strings(value)


def each_string(texts: Texts, change: Callable[[str], str]) -> Texts:
    return {
        key: change(value) if isinstance(value, str) else each_string(value, change)
        for key, value in texts.items()
    }

"""Names, descriptions and tooltips of all nodes in every language: writes locales/.

    .venv/bin/python tools/generate/locales.py [HOST]

HOST: folder with ComfyUI's main.py; by default the one that tools/test.py sets up. English comes
from the nodes themselves; tools/generate/translations/LANGUAGE.json maps each English text to its
translation, once. Writes nothing and names the texts when one has no translation or is not used.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.generate.read_nodes import chosen_host, read_nodes

TRANSLATIONS = Path(__file__).resolve().parent / "translations"
SOURCE = "en"
LANGUAGES = (SOURCE, "zh", "ja", "ko")

# Syntax of the page's translator (vue-i18n): it would show something else, or nothing.
UNSAFE = frozenset("{}@|")

Texts = dict[str, Any]  # str -> str or Texts


class TranslationError(Exception):
    """A text without a translation, a translation without a text, or one that cannot be shown."""


def english(infos: dict[str, dict[str, Any]]) -> Texts:
    """nodeDefs.json from what ComfyUI tells the page of its nodes, as in /object_info."""
    return {_key(node): _english_node(info) for node, info in infos.items()}


def translated(texts: Texts, table: dict[str, str]) -> Texts:
    """`texts` in the language of `table`; raises TranslationError unless both hold the same."""
    used = dict.fromkeys(_strings(texts))
    problems = [f"no translation: {text}" for text in used if text not in table]
    problems += [f"no longer used: {text}" for text in table if text not in used]
    problems += [f"empty: {text}" for text, other in table.items() if not other.strip()]
    if problems:
        raise TranslationError("\n".join(problems))
    return _each_string(texts, table.__getitem__)


def files(texts: Texts) -> dict[Path, str]:
    """What locales/ must hold for these English texts: path within the pack -> content."""
    contents, problems = {}, []
    for language in LANGUAGES:
        try:
            content = texts if language == SOURCE else translated(texts, read_table(language))
        except TranslationError as error:
            problems.append(f"{language}:\n{error}")
            continue
        unsafe = [text for text in dict.fromkeys(_strings(content)) if UNSAFE & set(text)]
        problems += [f"{language}: has one of {''.join(sorted(UNSAFE))}: {t}" for t in unsafe]
        path = Path("locales") / language / "nodeDefs.json"
        contents[path] = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    if problems:
        raise TranslationError("\n".join(problems))
    return contents


def read_table(language: str) -> dict[str, str]:
    """English text -> translation."""
    return json.loads((TRANSLATIONS / f"{language}.json").read_text(encoding="utf-8"))


def _english_node(info: dict[str, Any]) -> Texts:
    declared = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {
            _key(name): {"name": options.get("display_name") or name, "tooltip": options["tooltip"]}
            for name, (_, options) in declared.items()
        },
        "outputs": {
            str(index): {"name": name, "tooltip": tooltip}
            for index, (name, tooltip) in enumerate(outputs)
        },
    }


def _key(name: str) -> str:
    """As the page looks a name up: a dot would lead one level down."""
    return name.replace(".", "_")


def _strings(texts: Texts) -> Iterator[str]:
    for value in texts.values():
        yield from (value,) if isinstance(value, str) else _strings(value)


def _each_string(texts: Texts, change: Callable[[str], str]) -> Texts:
    return {
        key: change(value) if isinstance(value, str) else _each_string(value, change)
        for key, value in texts.items()
    }


def main() -> None:
    nodes = read_nodes(chosen_host(__doc__))
    try:
        contents = files(english({id: node.GET_NODE_INFO_V1() for id, node in nodes.items()}))
    except TranslationError as error:
        raise SystemExit(str(error)) from None
    for path, content in contents.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(content, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()

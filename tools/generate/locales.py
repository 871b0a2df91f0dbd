"""All texts that the page shows in every language: writes locales/.

    .venv/bin/python tools/generate/locales.py [HOST]

HOST: folder with ComfyUI's main.py; by default the one that tools/test.py sets up. English comes
from the nodes themselves and from web/js/english.js; tools/generate/translations/ maps each English
text to its translation, once: LANGUAGE.json those of the nodes, page/, notes/ and messages/ see
page_texts.py. Writes nothing and names the texts when one has no translation or is not used.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.generate.page_texts import page_texts
from tools.generate.read_nodes import chosen_host, read_nodes
from tools.generate.translating import (
    LANGUAGES,
    SOURCE,
    Texts,
    TranslationError,
    read_table,
    strings,
    translated,
)

# Syntax of the page's translator (vue-i18n): it would show something else, or nothing. Only texts
# of nodes go through it; those of main.json are read by web/js/texts.js alone.
UNSAFE = frozenset("{}@|")


def english(infos: dict[str, dict[str, Any]]) -> Texts:
    """nodeDefs.json from what ComfyUI tells the page of its nodes, as in /object_info."""
    return {_key(node): _english_node(info) for node, info in infos.items()}


def files(texts: Texts) -> dict[Path, str]:
    """What locales/ must hold for these English texts of nodes: path within the pack -> content."""
    contents, problems = {}, []
    for language in LANGUAGES:
        try:
            nodes = texts if language == SOURCE else translated(texts, read_table(language))
            page = page_texts(language)
        except TranslationError as error:
            problems.append(f"{language}:\n{error}")
            continue
        unsafe = [text for text in dict.fromkeys(strings(nodes)) if UNSAFE & set(text)]
        problems += [f"{language}: has one of {''.join(sorted(UNSAFE))}: {t}" for t in unsafe]
        for name, content in (("main", page), ("nodeDefs", nodes)):
            path = Path("locales") / language / f"{name}.json"
            contents[path] = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    if problems:
        raise TranslationError("\n".join(problems))
    return contents


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

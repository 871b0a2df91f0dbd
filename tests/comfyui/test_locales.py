"""Every text of every node is there in every language, and the server hands all of them out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import requests

from helpers.comfyui.server import ComfyServer
from tools.generate.locales import LANGUAGES, TranslationError, english, files, translated

# What a sentence of the language has and an English one has not.
SCRIPTS = {"en": r"[a-z]", "zh": r"[\u4e00-\u9fff]", "ja": r"[\u3040-\u30ff]", "ko": r"[가-힣]"}

TEXTS = {"VARSR_A": {"display_name": "First", "inputs": {"x": {"name": "x", "tooltip": "First"}}}}


@pytest.fixture
def infos(server: ComfyServer, pack_dir: Path) -> dict[str, Any]:
    """Node id -> what the editor knows of it, for the nodes of this pack."""
    module = f"custom_nodes.{pack_dir.name}"
    every = server.object_info().items()
    return {node: info for node, info in every if info["python_module"] == module}


@pytest.fixture
def served(server: ComfyServer) -> dict[str, Any]:
    """Language -> nodeDefs, as the page gets them."""
    response = requests.get(f"{server.url}/i18n", timeout=60)
    response.raise_for_status()
    return {language: texts["nodeDefs"] for language, texts in response.json().items()}


def test_files_are_those_that_the_tool_writes(infos: dict[str, Any], pack_dir: Path) -> None:
    expected = files(english(infos))  # raises where a text and its translations differ
    found = {path.relative_to(pack_dir) for path in (pack_dir / "locales").rglob("*.*")}
    assert found == set(expected)
    for path, content in expected.items():
        assert (pack_dir / path).read_text(encoding="utf-8") == content, (
            f"{path}: tools/generate/locales.py"
        )


@pytest.mark.parametrize("language", LANGUAGES)
def test_served_texts_are_complete(
    infos: dict[str, Any], served: dict[str, Any], language: str
) -> None:
    assert infos
    assert served[language].keys() == infos.keys()
    titles = {texts["display_name"] for texts in served[language].values()}
    assert len(titles) == len(infos)
    for node, info in infos.items():
        texts = served[language][node]
        inputs = [name for group in info["input"].values() for name in group]
        assert list(texts["inputs"]) == inputs, node
        assert list(texts["outputs"]) == [str(i) for i, _ in enumerate(info["output"])], node
        assert texts["display_name"].strip(), node
        sockets = [*texts["inputs"].values(), *texts["outputs"].values()]
        assert all(socket["name"].strip() for socket in sockets), node
        for sentence in (texts["description"], *(socket["tooltip"] for socket in sockets)):
            assert re.search(SCRIPTS[language], sentence), f"{node}: {sentence}"


def test_text_without_translation_is_named() -> None:
    with pytest.raises(TranslationError, match="no translation: First"):
        translated(TEXTS, {"x": "x"})


def test_translation_without_text_is_named() -> None:
    with pytest.raises(TranslationError, match="no longer used: Last"):
        translated(TEXTS, {"x": "x", "First": "Erster", "Last": "Letzter"})

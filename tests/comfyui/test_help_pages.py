"""Help pages as the page of ComfyUI asks for them, against the nodes as ComfyUI knows them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from helpers.comfyui.server import ComfyServer

FILES = ("checkpoint", "text_encoder", "saved_text")  # inputs whose choices are the user's own
LANGUAGES = ("zh", "ja", "ko")


@pytest.fixture
def pack_nodes(server: ComfyServer, pack_dir: Path) -> dict[str, Any]:
    """Node id -> what the editor knows of it, for the nodes of this pack."""
    module = f"custom_nodes.{pack_dir.name}"
    every = server.object_info().items()
    found = {node: info for node, info in every if info["python_module"] == module}
    assert found
    return found


@pytest.fixture
def pages(server: ComfyServer, pack_dir: Path, pack_nodes: dict[str, Any]) -> dict[str, str]:
    """Node id -> its help page."""
    found = {}
    for node in pack_nodes:
        address = f"{server.url}/extensions/{pack_dir.name}/docs/{node}.md"
        response = requests.get(address, timeout=60)
        assert response.status_code == 200, address
        found[node] = response.content.decode("utf-8")
    return found


def test_pages_are_titled_as_the_nodes(pages: dict[str, str], pack_nodes: dict[str, Any]) -> None:
    wrong = [
        node
        for node, text in pages.items()
        if text.splitlines()[0] != f"# {pack_nodes[node]['display_name']}"
    ]
    assert not wrong


def test_pages_list_exactly_the_inputs(pages: dict[str, str], pack_nodes: dict[str, Any]) -> None:
    for node, text in pages.items():
        inputs = {name for name, _, _ in inputs_of(pack_nodes[node])}
        assert set(items(text, "Inputs")) == inputs, node


def test_pages_list_exactly_the_outputs(pages: dict[str, str], pack_nodes: dict[str, Any]) -> None:
    for node, text in pages.items():
        assert set(items(text, "Outputs")) == set(pack_nodes[node]["output_name"]), node


def test_pages_tell_every_choice(pages: dict[str, str], pack_nodes: dict[str, Any]) -> None:
    silent = [
        f"{node}.{name}: {choice}"
        for node, text in pages.items()
        for name, _, options in inputs_of(pack_nodes[node])
        for choice in options.get("options", [])
        if name not in FILES and f"`{choice}`" not in items(text, "Inputs")[name]
    ]
    assert not silent


def test_pages_tell_the_defaults(pages: dict[str, str], pack_nodes: dict[str, Any]) -> None:
    wrong = [
        f"{node}.{name}: {options['default']}"
        for node, text in pages.items()
        for name, _, options in inputs_of(pack_nodes[node])
        if "default" in options
        and f"Default `{options['default']}`" not in items(text, "Inputs")[name]
    ]
    assert not wrong


def test_pages_tell_what_is_optional_and_advanced(
    pages: dict[str, str], pack_nodes: dict[str, Any]
) -> None:
    for node, text in pages.items():
        for name, group, options in inputs_of(pack_nodes[node]):
            told = items(text, "Inputs")[name].partition(":")[0].strip(" ()").split(", ")
            assert ("optional" in told) == (group == "optional"), f"{node}.{name}"
            assert ("advanced" in told) == bool(options.get("advanced")), f"{node}.{name}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_translated_pages_tell_what_the_english_ones_tell(
    server: ComfyServer,
    pack_dir: Path,
    pages: dict[str, str],
    pack_nodes: dict[str, Any],
    language: str,
) -> None:
    titles = requests.get(f"{server.url}/i18n", timeout=60).json()[language]["nodeDefs"]
    for node, english in pages.items():
        address = f"{server.url}/extensions/{pack_dir.name}/docs/{node}/{language}.md"
        response = requests.get(address, timeout=60)
        assert response.status_code == 200, address
        text = response.content.decode("utf-8")
        assert text.startswith(f"# {titles[node]['display_name']}\n"), address
        assert untold(text, english, pack_nodes[node]) == [], address


def test_what_a_translation_leaves_out_is_found(
    pages: dict[str, str], pack_nodes: dict[str, Any]
) -> None:
    english, info = pages["VARSR_Sample"], pack_nodes["VARSR_Sample"]
    assert untold(english, english, info) == []
    for part, lost in {
        "- **seed**": "seed",
        "Default `linear`": "guidance_schedule: `linear`",
        "`quadratic`": "guidance_schedule: `quadratic`",
        "images/VARSR_Sample.webp": "images/VARSR_Sample.webp",
    }.items():
        whole, _, inputs = english.partition("## Inputs")
        cut = whole + "## Inputs" + inputs.replace(part, "")
        if part == "Default `linear`":
            cut = cut.replace("`linear`", "")
        assert lost in untold(cut, english, info)


def untold(text: str, english: str, info: dict[str, Any]) -> list[str]:
    """Inputs, defaults, values and pictures that a page lacks of the English one's."""
    told, ours = items(text, heading_like(text, english, "Inputs")), items(english, "Inputs")
    lost = [name for name in ours if name not in told]
    for name, _, options in inputs_of(info):
        values = [] if name in FILES else list(options.get("options", []))
        values += [options["default"]] if "default" in options else []
        quoted = [f"`{value}`" for value in values if f"`{value}`" in ours[name]]
        lost += [f"{name}: {value}" for value in quoted if value not in told.get(name, "")]
    return lost + [picture for picture in pictures(english) if picture not in pictures(text)]


def heading_like(text: str, english: str, heading: str) -> str:
    """A page's heading that stands where the English page has another."""
    theirs, ours = (re.findall(r"^## (.*)$", page, re.M) for page in (english, text))
    assert len(ours) == len(theirs)
    return ours[theirs.index(heading)]


def pictures(text: str) -> list[str]:
    return re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text)


def inputs_of(info: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Of each input its name, group and options."""
    for group in ("required", "optional"):
        for name, declaration in info["input"].get(group, {}).items():
            yield name, group, declaration[1] if len(declaration) > 1 else {}


def items(text: str, heading: str) -> dict[str, str]:
    """Name -> what is said of it, of a list under a heading: "- **name**: ..."."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
    found = re.findall(r"^- \*\*(\w+)\*\*(.*?)(?=^- |^\S|\Z)", section, re.M | re.S)
    return dict(found)

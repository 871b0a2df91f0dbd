"""What a user sees before queueing anything: the pack is there, complete and explained."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.comfyui.server import ComfyServer

NODES = {
    "VARSR_Accelerate",
    "VARSR_LoadModel",
    "VARSR_GetModel",
    "VARSR_EncodePrefix",
    "VARSR_EncodeTokens",
    "VARSR_Sample",
    "VARSR_Refine",
    "VARSR_Decode",
    "VARSR_DecodeScales",
    "VARSR_Upscale",
    "VARSR_AsUpscaleModel",
    "VARSR_UpscaleVideo",
    "VARSR_ClassToImage",
    "VARSR_LoadK2N",
    "VARSR_PredictCoarse",
    "VARSR_MatchColors",
    "VARSR_Fidelity",
    "NSARM_LoadModel",
    "NSARM_EncodeText",
    "NSARM_Prefix",
    "NSARM_Sample",
    "NSARM_Decode",
    "NSARM_Upscale",
}
CATEGORY = "image/upscaling/VARSR"

# ComfyUI goes on without a broken pack and exits with 0; only its log tells.
LOAD_FAILURES = re.compile(r"IMPORT FAILED|Cannot import|comfy_entrypoint in|Skip ")

PARSE_PYPROJECT = """
import sys
sys.path.insert(0, sys.argv[1])
from comfy_config.config_parser import extract_node_configuration
print(extract_node_configuration(sys.argv[2]).model_dump_json())
"""


@pytest.fixture
def pack_nodes(server: ComfyServer, pack_dir: Path) -> dict[str, Any]:
    """Node id -> what the editor knows of it, for the nodes of this pack."""
    module = f"custom_nodes.{pack_dir.name}"
    every = server.object_info().items()
    return {node: info for node, info in every if info["python_module"] == module}


@pytest.fixture(scope="session")
def config(hosts: dict[str, Path], pack_dir: Path) -> dict[str, Any]:
    """pyproject.toml as ComfyUI reads it; in a process of its own, since ComfyUI's top-level
    modules would shadow those of the pack."""
    command = [sys.executable, "-c", PARSE_PYPROJECT, hosts["0.30.0"], pack_dir]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def test_server_runs_the_version_it_is_named_after(
    server: ComfyServer, hosts: dict[str, Path]
) -> None:
    version = server.stats()["system"]["comfyui_version"]
    assert hosts[version] == server.host


def test_log_names_no_failure_of_the_pack(server: ComfyServer, pack_dir: Path) -> None:
    # Old hosts report failures of their own nodes, which are none of ours.
    lines = [line for line in server.log.splitlines() if pack_dir.name in line]
    assert lines, "the log does not mention the pack at all"
    assert not [line for line in lines if LOAD_FAILURES.search(line)]


def test_pack_offers_exactly_its_nodes(pack_nodes: dict[str, Any]) -> None:
    assert set(pack_nodes) == NODES


def test_every_node_has_a_description_and_the_category(pack_nodes: dict[str, Any]) -> None:
    assert pack_nodes
    for node, info in pack_nodes.items():
        assert info["category"] == CATEGORY, node
        assert info["description"].strip(), node
        assert info["display_name"].strip() != node, f"{node} has no display name"


def test_every_input_has_a_tooltip(pack_nodes: dict[str, Any]) -> None:
    assert pack_nodes
    silent = [
        f"{node}.{name}"
        for node, info in pack_nodes.items()
        for group in ("required", "optional")
        for name, declaration in info["input"].get(group, {}).items()
        if not _tooltip(declaration)
    ]
    assert not silent


def test_every_output_has_a_tooltip(pack_nodes: dict[str, Any]) -> None:
    assert pack_nodes
    for node, info in pack_nodes.items():
        tooltips = info.get("output_tooltips") or []
        assert len(tooltips) == len(info["output"]), node
        assert all(tooltip and tooltip.strip() for tooltip in tooltips), node


def test_comfyui_reads_the_project_file(config: dict[str, Any]) -> None:
    project = config["project"]
    assert re.fullmatch(r"[a-z][a-z0-9-]*", project["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["description"].strip()
    assert any(project["license"].values())


def test_project_file_names_publisher_and_supported_hosts(config: dict[str, Any]) -> None:
    assert config["tool_comfy"]["publisher_id"]
    assert config["tool_comfy"]["display_name"]
    assert "0.3.75" in config["project"]["supported_comfyui_version"]


def _tooltip(declaration: list[Any]) -> str:
    """declaration: [type] or [type, options]."""
    options = declaration[1] if len(declaration) > 1 else {}
    return (options.get("tooltip") or "").strip()


def test_search_finds_the_upscale_nodes_by_what_people_type(pack_nodes, server):
    """ComfyUI 0.3.75 knows no such words."""
    if server.stats()["system"]["comfyui_version"] == "0.3.75":
        assert "search_aliases" not in pack_nodes["VARSR_Upscale"]
        return
    for word in (
        "sharpen", "denoise", "deblur", "enhance", "restore", "jpeg artifacts", "hires", "esrgan",
        "face", "upscale image",
    ):  # fmt: skip
        found = {name for name, of in pack_nodes.items() if word in (of["search_aliases"] or ())}
        assert {"VARSR_Upscale", "NSARM_Upscale"} <= found, word

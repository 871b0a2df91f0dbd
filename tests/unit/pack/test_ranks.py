"""Who may import whom. Imports inside functions and those for types count like all others."""

import ast
import re

from helpers.paths import ROOT
from helpers.source import (
    CORE,
    MODULES,
    NODES,
    SHIPPED,
    absolute_imports_of,
    core_modules_of,
    id_of,
    imports_of,
    is_of,
    listed,
    tree_of,
)

FAMILY_RANK = 5
FAMILY_TRAINING, FAMILY_TRAINING_RANK = "training of {}", 8
DESCRIPTORS = ("family", "kind")  # that import it nevertheless, in functions that a run calls
RANKS = {
    "errors": 0,
    "files": 1,
    "images": 1,
    "runtime": 1,
    "tiling": 2,
    "nn": 3,
    "settings": 3,
    "family": 4,
    "checkpoint": 6,
    "upscaling": 6,
    "convert": 7,
    "batch": 7,
    "training": 7,
    "download": 8,
    "__init__": 9,
}
WITH_DESCRIPTOR = {path.parent.name for path in (ROOT / "varsr_core").glob("*/family.py")}
FAMILIES = sorted(WITH_DESCRIPTOR - set(RANKS))
TRAINING_OF_FAMILIES = {FAMILY_TRAINING.format(family) for family in FAMILIES}
FOLDERS = {
    "files", "images", "runtime", "tiling", "nn", "batch", "training", "download", "assets",
    *FAMILIES,
}  # fmt: skip
LISTS_OF_FAMILIES = {"varsr_core/checkpoint.py", "nodes/__init__.py"}
HOST_MODULES = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "nodes")


def room_of(module):
    """The folder or loose module of the core that a module belongs to."""
    parts = module.split(".")
    if len(parts) > 2 and parts[1] in FAMILIES and "training" in parts[2:]:
        return FAMILY_TRAINING.format(parts[1])
    return parts[1] if len(parts) > 1 else "__init__"


def rank_of(room):
    if room in TRAINING_OF_FAMILIES:
        return FAMILY_TRAINING_RANK
    return FAMILY_RANK if room in FAMILIES else RANKS[room]


def is_lazy(module, other):
    """Whether a descriptor imports how its own models are trained, in a function."""
    own = FAMILY_TRAINING.format(room_of(module))
    if module.rpartition(".")[2] not in DESCRIPTORS or room_of(other) != own:
        return False
    at_import = {name for node in tree_of(MODULES[module]).body for name in _taken(node)}
    return not any("training" in name.split(".") for name in at_import)


def _taken(node):
    return [str(node.module)] if isinstance(node, ast.ImportFrom) else []


def test_core_has_the_folders_that_have_a_rank():
    folders = {path.name for path in (ROOT / "varsr_core").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == FOLDERS
    rooms = {room_of(module) for module in MODULES}
    assert rooms - TRAINING_OF_FAMILIES == {*RANKS, *FAMILIES}


def test_core_has_at_most_7_loose_modules():
    loose = [id_of(path) for path in CORE if path.parent == ROOT / "varsr_core"]
    assert len(loose) <= 7, loose


def test_no_module_of_the_core_imports_upwards_or_from_a_neighbour():
    found = listed(
        f"{module} of rank {rank_of(room_of(module))} imports {other} of {rank_of(room_of(other))}"
        for module, path in MODULES.items()
        for other in core_modules_of(path)
        if room_of(other) != room_of(module)
        and rank_of(room_of(other)) >= rank_of(room_of(module))
        and not is_lazy(module, other)
    )
    assert not found, found


def test_this_test_sees_imports_of_every_form():
    found = core_modules_of(ROOT / "varsr_core" / "checkpoint.py")
    assert found >= {"varsr_core.errors", "varsr_core.files.tensors", "varsr_core.varsr.family"}
    assert "varsr_core" not in found


def test_core_does_not_import_comfyui():
    found = listed(
        f"{id_of(path)} imports {name}"
        for path in CORE
        for name in imports_of(path)
        if is_of(name, HOST_MODULES)
    )
    assert not found, found
    assert [name for name in imports_of(ROOT / "nodes/host.py") if is_of(name, HOST_MODULES)]


def test_families_do_not_know_each_other():
    """Neither their networks nor their nodes."""

    assert len(FAMILIES) >= 2
    found = listed(
        f"{id_of(path)} imports {name}"
        for path in SHIPPED
        for own in set(path.relative_to(ROOT).parts) & set(FAMILIES)
        for name in core_modules_of(path)
        if room_of(name) in set(FAMILIES) - {own}
    )
    assert not found, found


def test_a_family_is_named_by_the_two_lists_of_families_beside_its_own_files():
    for family in FAMILIES:
        if family != "varsr":  # the pack is called after it
            word = re.compile(rf"\b{family}\b", re.IGNORECASE)
            named = {
                id_of(path)
                for path in [*CORE, *NODES]
                if family not in id_of(path) and word.search(path.read_text(encoding="utf-8"))
            }
            assert named == LISTS_OF_FAMILIES, family


def test_nodes_import_the_pack_relatively():
    """In ComfyUI the pack has another name, and `nodes` is ComfyUI's own module."""
    found = listed(
        f"{id_of(path)} imports {name}"
        for path in NODES
        for name in absolute_imports_of(path)
        if is_of(name, ["nodes", "varsr_core"])
    )
    assert not found, found

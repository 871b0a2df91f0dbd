"""The source of the pack as trees, for rules that are checked on it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from helpers.paths import ROOT, TOOLS

CORE = sorted((ROOT / "varsr_core").rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))
SHIPPED = [*CORE, *NODES, ROOT / "__init__.py"]
TOOL_FILES = sorted(TOOLS.rglob("*.py"))
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in CORE
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def id_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imported(path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name taken from it) of every import, in functions and for types too.

    Relative ones are resolved against the file's folder.
    """
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield from ((module, alias.name) for alias in node.names)


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports, and the full names of what it takes from them."""
    found = set(_imported(path))
    return {module for module, _ in found} | {f"{m}.{name}" for m, name in found if name}


def core_modules_of(path: Path) -> set[str]:
    """Modules of the core that a file imports; a package only if a name of its own is taken."""
    named = ((module, f"{module}.{name}") for module, name in _imported(path))
    return {full if full in MODULES else module for module, full in named} & set(MODULES)


def absolute_imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module))
    return found


def functions_of(path: Path) -> list[Function]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, kinds)]


def calls_of(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]


def is_of(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def run_python(code: str) -> None:
    """In a new process at the root of the pack; fails with what it wrote."""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def listed(breaches: Iterable[str]) -> str:
    """Every breach on a line of its own; empty where there is none."""
    return "\n".join(["", *found] if (found := sorted(breaches)) else [])

"""A module of the source, and what stands in its functions, calls and assignments."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path


class Module:
    """path: of the file; root: of the pack."""

    def __init__(self, path: Path, root: Path) -> None:
        self.id = path.relative_to(root).as_posix()
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.nodes = list(ast.walk(self.tree))
        self.parents = {inner: n for n in self.nodes for inner in ast.iter_child_nodes(n)}
        self.values = dict(
            pair for n in self.tree.body if isinstance(n, ast.Assign) for pair in assigned(n)
        )
        self.functions: dict[str, list[ast.FunctionDef]] = defaultdict(list)
        for node in self.nodes:
            if isinstance(node, ast.FunctionDef):
                self.functions[node.name].append(node)
        self.imports = {
            alias.asname or alias.name: (_file(self.id, node), alias.name)
            for node in self.nodes
            if isinstance(node, ast.ImportFrom) and node.level
            for alias in node.names
        }

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        while node in self.parents:
            node = self.parents[node]
            yield node

    def function_of(self, node: ast.AST) -> ast.FunctionDef | None:
        return next((n for n in self.around(node) if isinstance(n, ast.FunctionDef)), None)


def parameters(function: ast.FunctionDef) -> tuple[list[str], dict[str, ast.expr]]:
    """Names without `self`, and defaults by name."""
    named, defaults = function.args, dict[str, ast.expr]()
    plain = [one.arg for one in (*named.posonlyargs, *named.args)]
    defaults |= zip(reversed(plain), reversed(named.defaults), strict=False)
    alone = zip(named.kwonlyargs, named.kw_defaults, strict=True)
    defaults |= {one.arg: default for one, default in alone if default}
    names = [*plain, *(one.arg for one in named.kwonlyargs)]
    return names[names[:1] in (["self"], ["cls"]) :], defaults


def argument(call: ast.Call, names: list[str], name: str) -> ast.expr | None:
    """What is passed for a parameter; names: of all of them."""
    before = call.args[: names.index(name) + 1]
    if len(before) > names.index(name) and not any(isinstance(x, ast.Starred) for x in before):
        return before[-1]
    return next((word.value for word in call.keywords if word.arg == name), None)


def assigned(node: ast.Assign) -> Iterator[tuple[str, ast.expr]]:
    for target in node.targets:
        yield from paired(target, node.value)


def paired(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Names and what they are set to, where both sides are written out."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for inner, part in zip(target.elts, value.elts, strict=False):
            yield from paired(inner, part)
    elif isinstance(target, ast.Name):
        yield target.id, value


def is_word(value: ast.expr) -> bool:
    return is_text(value) and " " not in value.value


def is_text(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def name_of(func: ast.expr) -> str:
    return getattr(func, "id", "") or getattr(func, "attr", "")


def _file(importing: str, node: ast.ImportFrom) -> str:
    """Of the module that names are imported from, as ids go."""
    folders = importing.split("/")[: -node.level]
    return "/".join((*folders, *(node.module or "").split("."))) + ".py"

"""Which texts an expression of the source may come to, found by following names through the code.

Followed are constants, choices (`a if b else c`, `a or b`), sums, what names in a function are set
to, what callers pass for a parameter, and what functions and properties return. All else is a
place, where something is filled in.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

from tools.generate.source_modules import (
    Module,
    argument,
    assigned,
    is_text,
    is_word,
    name_of,
    paired,
    parameters,
)

FEW = 7  # letters; a text of fewer beside its places would fit other texts by chance
PROPERTIES = {"property", "cached_property"}
SAME = {"replace", "strip"}  # methods whose result counts as the text itself


@dataclass(frozen=True, eq=False)
class Scope:
    """Where an expression stands; given: what is passed for parameters, if only one call counts."""

    module: Module
    function: ast.FunctionDef | None
    given: Mapping[str, tuple[ast.expr, Scope]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Place:
    """Where something is filled in."""

    value: ast.expr
    scope: Scope


Text = tuple[str | Place, ...]


class Source:
    """fields: keyword arguments that are the texts of attributes of the same name."""

    def __init__(self, paths: Iterable[Path], root: Path, fields: Iterable[str] = ()) -> None:
        self.modules = {module.id: module for module in (Module(path, root) for path in paths)}
        self.fields = set(fields)

    @cached_property
    def calls(self) -> dict[str, list[tuple[Module, ast.Call]]]:
        """By the name of what is called."""
        found = defaultdict(list)
        for module in self.modules.values():
            for node in module.nodes:
                if isinstance(node, ast.Call):
                    found[name_of(node.func)].append((module, node))
        return found

    @cached_property
    def names(self) -> set[str]:
        """All that is named anywhere."""
        nodes = (node for module in self.modules.values() for node in module.nodes)
        return {name_of(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}

    def scope_of(self, module: Module, node: ast.AST) -> Scope:
        return Scope(module, module.function_of(node))

    def texts(
        self, value: ast.expr, scope: Scope, seen: frozenset[ast.AST] = frozenset()
    ) -> list[Text]:
        """All texts that `value` may be; a lone Place for what is not known. () is no text."""
        if value in seen:
            return [(Place(value, scope),)]
        seen |= {value}
        match value:
            case ast.Constant(value=str(text)):
                return [(text,) if text else ()]
            case ast.JoinedStr(values=values):
                return joined(self._part(part, scope, seen) for part in values)
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return joined(self.texts(part, scope, seen) for part in (left, right))
            case ast.IfExp(body=body, orelse=other):
                return self.texts(body, scope, seen) + self.texts(other, scope, seen)
            case ast.BoolOp(op=ast.Or(), values=[*first, last]):
                found = [text for part in first for text in self.texts(part, scope, seen) if text]
                return found + self.texts(last, scope, seen)
            case ast.Call(func=ast.Attribute(value=inner, attr=method)) if method in SAME:
                return self.texts(inner, scope, seen)
        found = [t for v, s in self._meanings(value, scope) for t in self.texts(v, s, seen)]
        return found if any(map(has_words, found)) else [(Place(value, scope),)]

    def _part(self, part: ast.expr, scope: Scope, seen: frozenset[ast.AST]) -> list[Text]:
        """Of an f-string: words, or a place; a place is spelled out where that tells more."""
        if not isinstance(part, ast.FormattedValue):
            return self.texts(part, scope, seen)
        value = part.value
        place: Text = (Place(value, scope),)
        texts = self.texts(value, scope, seen)
        worded = [text for text in texts if has_words(text)]
        if not worded:
            return [place]
        name = value.id if isinstance(value, ast.Name) else ""
        if name in scope.given or self._constant(name, scope.module):
            return texts
        if _is_checked(value, scope):
            texts = [text for text in texts if text]
        if any(is_weak(text) for text in worded):
            return texts
        quoted: Text = ("'", *place, "'") if part.conversion == ord("r") else place
        return [quoted, ()] if () in texts else [quoted]

    def _meanings(self, value: ast.expr, scope: Scope) -> Iterator[tuple[ast.expr, Scope]]:
        """What a name, a call or an attribute stands for."""
        match value:
            case ast.Name(id=name) if name in scope.given:
                yield scope.given[name]
            case ast.Name(id=name) if constant := self._constant(name, scope.module):
                yield constant, scope
            case ast.Name(id=name) if scope.function:
                yield from _local(name, scope)
                yield from self._passed(name, scope)
            case ast.Call(func=func):
                yield from self._returned(self._called(func, scope.module))
            case ast.Attribute(attr=name):
                functions = (
                    (module, function)
                    for module in self.modules.values()
                    for function in module.functions.get(name, [])
                    if PROPERTIES & {ast.unparse(one) for one in function.decorator_list}
                )
                yield from self._returned(functions)
                if name in self.fields:
                    yield from self._keywords(name)

    def _constant(self, name: str, module: Module) -> ast.expr | None:
        """A sentence, or a part of one, of a module or of one that it imports from."""
        value = module.values.get(name)
        if value is None and name in module.imports:
            file, real = module.imports[name]
            value = self.modules[file].values.get(real) if file in self.modules else None
        return value if is_text(value) and not is_word(value) else None

    def _called(self, func: ast.expr, module: Module) -> list[tuple[Module, ast.FunctionDef]]:
        name = name_of(func)
        if isinstance(func, ast.Attribute):
            modules = list(self.modules.values())
        elif name in module.imports:
            file, name = module.imports[name]
            modules = [self.modules[file]] if file in self.modules else []
        else:
            modules = [module]
        return [(one, function) for one in modules for function in one.functions.get(name, [])]

    @staticmethod
    def _returned(
        functions: Iterable[tuple[Module, ast.FunctionDef]],
    ) -> Iterator[tuple[ast.expr, Scope]]:
        for module, function in functions:
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    yield node.value, Scope(module, function)

    def _keywords(self, name: str) -> Iterator[tuple[ast.expr, Scope]]:
        for module in self.modules.values():
            for node in module.nodes:
                if isinstance(node, ast.keyword) and node.arg == name:
                    yield node.value, self.scope_of(module, node)

    def _passed(self, name: str, scope: Scope) -> Iterator[tuple[ast.expr, Scope]]:
        """For a parameter: its default, and what callers pass. Words alone are ids of inputs."""
        function = scope.function
        names, defaults = parameters(function)
        if name not in names:
            return
        if name in defaults and not is_word(defaults[name]):
            yield defaults[name], scope
        called = function.name
        if called == "__init__":
            around = scope.module.around(function)
            called = next(node.name for node in around if isinstance(node, ast.ClassDef))
        for module, call in self.calls[called]:
            value = argument(call, names, name)
            if value is not None and not is_word(value):
                yield value, self.scope_of(module, call)


def has_words(text: Text) -> bool:
    return any(isinstance(part, str) for part in text)


def is_weak(text: Text) -> bool:
    """Whether it has places, and few letters beside them."""
    words = "".join(part for part in text if isinstance(part, str))
    return any(isinstance(part, Place) for part in text) and sum(map(str.isalpha, words)) < FEW


def joined(parts: Iterable[list[Text]]) -> list[Text]:
    """All sequences of one text of each."""
    return [tuple(part for text in texts for part in text) for texts in product(*parts)]


def _local(name: str, scope: Scope) -> Iterator[tuple[ast.expr, Scope]]:
    """What a name is set to in its function: plainly, by adding to it, by a loop over a table."""
    found: list[ast.expr] = []
    for node in ast.walk(scope.function):
        match node:
            case ast.Assign():
                found += [value for target, value in assigned(node) if target == name]
            case ast.AugAssign(target=ast.Name(id=target), value=more) if target == name:
                found += [ast.BinOp(value, ast.Add(), more) for value in found]
            case ast.For(target=target, iter=table):
                rows = scope.module.values.get(name_of(table), table)
                for row in rows.elts if isinstance(rows, ast.Tuple) else ():
                    pairs = dict(paired(target, row))
                    found += [v for v in (pairs.get(name),) if v and not is_word(v)]
    yield from ((value, scope) for value in found)


def _is_checked(value: ast.expr, scope: Scope) -> bool:
    """Whether it stands below `if value:`, so that it is not empty there."""
    tests = (node.test for node in scope.module.around(value) if isinstance(node, ast.If))
    return ast.unparse(value) in map(ast.unparse, tests)

"""What users are told while nodes run: patterns of errors and notes, read off the source.

    .venv/bin/python tools/generate/messages.py     # each with where it is made

A pattern has {1}, {2}, ... where something is filled in. That may be words of ours too, such as
"a folder" or the remedy that a caller names: these are patterns of their own, translated before
they are filled in. translations/messages/LANGUAGE.json translates each; web/js/texts.js finds the
pattern of a message as `matched()` does.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.generate.source_modules import argument, parameters
from tools.generate.source_texts import (
    Place,
    Scope,
    Source,
    Text,
    has_words,
    is_weak,
    joined,
)

CORE = ROOT / "varsr_core"
ERRORS = ("InputError", "CheckpointError")
# Others become parts of those: of sizes that weights tell, and of what did not come over a network.
SIZES = {
    f"varsr_core/{name}.py"
    for name in ("nn/schedule", "nn/guidance", "varsr/config", "nsarm/config")
}
NETWORK_ERROR = "FetchError"
NOTES = ("nodes/upscaling.py", "_notes")  # a function that returns lists of them
# What VARSR Upscale Video uses of the command for many files, beside films/.
OF_BATCH = ("disk", "jobs", "optional", "outcome", "output_format")
OF_OUTCOME = "error"  # a text that becomes an error
PLACE = re.compile(r"\{(\w+)\}")
NESTED = (
    "{1}: {2}"  # a file's name and an error: all that a pattern without words of its own is for
)


def patterns() -> dict[str, str]:
    """Pattern -> file and line that makes it."""
    source = Source(_files(), ROOT, [OF_OUTCOME])
    found: dict[str, str] = {}
    waiting, seen = list(_messages(source)), set[ast.expr]()
    for text, line in waiting:  # it grows meanwhile
        choices = [
            source.texts(part.value, part.scope) if isinstance(part, Place) else [(part,)]
            for part in text
        ]
        filled = {
            part.value: [choice for choice in choices[place] if has_words(choice)]
            for place, part in enumerate(text)
            if isinstance(part, Place)
        }
        if is_weak(text) and any(filled.values()):
            waiting += [(spelled, line) for spelled in joined(choices)]
            continue
        pattern = _numbered(text)
        if _is_prose(pattern):
            found.setdefault(pattern, line)
        for value, texts in filled.items():
            waiting += [(one, line) for one in texts if value not in seen]
        seen |= filled.keys()
    return found


def matched(message: str, known: Iterable[str]) -> tuple[str, list[str]] | None:
    """The pattern of a message, the one with most words of its own, and what is filled in."""
    for pattern in sorted(known, key=_own_words, reverse=True):
        shape = "(.+?)".join(map(re.escape, PLACE.sub("\0", pattern).split("\0")))
        if match := re.fullmatch(shape, message.strip(), re.DOTALL):
            return pattern, list(match.groups())
    return None


def _own_words(pattern: str) -> int:
    return len(PLACE.sub("", pattern).strip())


def _files() -> list[Path]:
    core = (path for path in CORE.rglob("*.py") if path.name != "__main__.py")
    apart = {"training", "batch"}  # folders of commands, those within a family's too
    films = (CORE / "batch" / "films").rglob("*.py")
    beside = (CORE / "batch" / f"{name}.py" for name in OF_BATCH)
    kept = (path for path in core if not apart & set(path.relative_to(CORE).parent.parts))
    return sorted([*(ROOT / "nodes").rglob("*.py"), *kept, *films, *beside])


def _messages(source: Source) -> Iterator[tuple[Text, str]]:
    used = source.names
    for error in (*ERRORS, "ValueError", NETWORK_ERROR):
        for module, call in source.calls[error]:
            scope = source.scope_of(module, call)
            name = scope.function.name if scope.function else "_"
            unused = not name.startswith("_") and name not in used  # the command's alone
            if unused or not call.args or (error == "ValueError" and module.id not in SIZES):
                continue
            value = call.args[0]
            if error == NETWORK_ERROR:
                value, scope = _told_by(error, call, source, scope)
            for text in source.texts(value, scope):
                yield text, f"{module.id}:{call.lineno}"
    file, name = NOTES
    module = source.modules[file]
    for (function,) in (module.functions[name],):
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.List):
                for note in node.value.elts:
                    for text in source.texts(note, Scope(module, function)):
                        yield text, f"{file}:{node.lineno}"


def _told_by(error: str, call: ast.Call, source: Source, scope: Scope) -> tuple[ast.expr, Scope]:
    """What an error makes of its arguments: what it hands to Exception."""
    module, made = next(
        (module, node)
        for module in source.modules.values()
        for node in module.nodes
        if isinstance(node, ast.ClassDef) and node.name == error
    )
    begin = next(node for node in made.body if isinstance(node, ast.FunctionDef))
    handed = next(
        node
        for node in ast.walk(begin)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__"
    )
    names, defaults = parameters(begin)
    given = {name: (argument(call, names, name) or defaults[name], scope) for name in names}
    return handed.args[0], Scope(module, begin, given)


def _is_prose(pattern: str) -> bool:
    """Whether there is something to translate: no name, no number, no address."""
    own = PLACE.sub("", pattern).strip()
    return pattern == NESTED or (own.isalpha() and own.islower()) or " " in own


def _numbered(text: Text) -> str:
    pattern, places = "", 0
    for part in text:
        places += isinstance(part, Place)
        pattern += f"{{{places}}}" if isinstance(part, Place) else part
    return pattern.strip()


if __name__ == "__main__":
    for pattern, place in patterns().items():
        print(f"{place}: {pattern}")

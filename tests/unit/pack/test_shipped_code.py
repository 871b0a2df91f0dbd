"""What the pack's code leaves alone, and how large its parts are; each test names every breach."""

import ast

from helpers.paths import ROOT
from helpers.source import (
    CORE,
    NODES,
    SHIPPED,
    TEST_FILES,
    TOOL_FILES,
    calls_of,
    core_modules_of,
    functions_of,
    id_of,
    imports_of,
    is_of,
    listed,
    tree_of,
)

# Modules that run other code, change the process or reach out of the machine.
FORBIDDEN_MODULES = {
    "subprocess", "pickle", "importlib", "urllib", "requests", "http", "socket", "ctypes",
    "marshal", "shelve", "multiprocessing", "runpy", "webbrowser", "ftplib", "smtplib", "ssl",
    "httpx", "aiohttp", "urllib3", "websocket", "websockets", "asyncio", "socketserver",
    "huggingface_hub",
}  # fmt: skip
# Fetches the released model, and only that: for the command, and for Get VARSR Model while its
# `download` is on.
NETWORK = "varsr_core/download/remote.py"
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "input", "breakpoint", "print"}
FORBIDDEN_OS = {"environ", "getenv", "putenv", "system", "popen", "spawnl", "spawnv", "execv"}
DRAWS = {
    f"torch.{name}"
    for name in ("rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli")
}
SEEDS = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed_all"}


def test_shipped_code_imports_no_module_that_reaches_out():
    """But for one, which imports one, when it is used."""
    found = {
        (id_of(path), name.split(".")[0])
        for path in SHIPPED
        for name in imports_of(path)
        if name.split(".")[0] in FORBIDDEN_MODULES
    }
    others = listed(f"{path} imports {name}" for path, name in found if path != NETWORK)
    assert not others, others
    assert {name for path, name in found if path == NETWORK} == {"huggingface_hub"}


def test_what_fetches_is_reached_by_the_node_and_the_command_alone():
    users = {
        id_of(path)
        for path in SHIPPED
        if any(is_of(module, ["varsr_core.download"]) for module in core_modules_of(path))
    }
    assert {path for path in users if not path.startswith("varsr_core/download/")} == {
        "nodes/varsr/getting.py"
    }


def test_shipped_code_neither_prints_nor_evaluates():
    found = listed(
        f"{id_of(path)}:{call.lineno} calls {call.func.id}"
        for path in SHIPPED
        for call in calls_of(path)
        if isinstance(call.func, ast.Name) and call.func.id in FORBIDDEN_CALLS
    )
    assert not found, found


def test_shipped_code_neither_reads_the_environment_nor_starts_processes():
    def used(path):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os":
                yield node.attr
        yield from (n.removeprefix("os.") for n in imports_of(path) if n.startswith("os."))

    found = listed(
        f"{id_of(path)} uses os.{name}"
        for path in SHIPPED
        for name in used(path)
        if name in FORBIDDEN_OS
    )
    assert not found, found


def test_shipped_code_loads_pickles_restricted():
    def restricted(call):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        return keywords.get("weights_only") == "True"

    found = listed(
        f"{id_of(path)}:{call.lineno} unpickles anything"
        for path in SHIPPED
        for call in calls_of(path)
        if ast.unparse(call.func) == "torch.load" and not restricted(call)
    )
    assert not found, found


def test_shipped_code_draws_only_from_generators_of_its_own():
    """Or where the global one is put back afterwards, for what torch cannot draw otherwise."""

    def forks(path):
        return [
            node
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.With)
            and ast.unparse(node.items[0].context_expr).startswith("torch.random.fork_rng(")
        ]

    def is_global(call):
        name = ast.unparse(call.func)
        if name in DRAWS:
            return "generator" not in {keyword.arg for keyword in call.keywords}
        return name in SEEDS or name.startswith(("np.random.", "random."))

    found = listed(
        f"{id_of(path)}:{call.lineno} {ast.unparse(call.func)}"
        for path in SHIPPED
        for call in calls_of(path)
        if is_global(call)
        and not any(fork.lineno < call.lineno <= fork.end_lineno for fork in forks(path))
    )
    assert not found, found


def test_every_parameter_and_result_in_the_core_is_annotated():
    def missing(function):
        given = function.args
        parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        named = [p for p in parameters if p is not None and p.arg not in ("self", "cls")]
        yield from (f"{function.name}({p.arg})" for p in named if p.annotation is None)
        if function.returns is None:
            yield f"{function.name} ->"

    found = listed(
        f"{id_of(path)} {place}"
        for path in CORE
        for function in functions_of(path)
        for place in missing(function)
    )
    assert not found, found


def test_files_are_not_long():
    limits = [(300, [*SHIPPED, *TOOL_FILES]), (450, TEST_FILES)]
    found = listed(
        f"{id_of(path)} has {lines} lines, at most {limit}"
        for limit, paths in limits
        for path in paths
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > limit
    )
    assert not found, found


def test_functions_have_at_most_60_lines():
    def lines_of(function):
        first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
        return function.end_lineno - first + 1

    found = listed(
        f"{id_of(path)} {function.name}: {lines_of(function)}"
        for path in [*SHIPPED, *TOOL_FILES]
        for function in functions_of(path)
        if lines_of(function) > 60
    )
    assert not found, found


def test_execute_of_a_node_has_at_most_15_lines():
    """It translates; the core works. The signature does not count."""
    executes = [(path, f) for path in NODES for f in functions_of(path) if f.name == "execute"]
    found = listed(
        f"{id_of(path)}:{function.lineno}"
        for path, function in executes
        if function.end_lineno - function.body[0].lineno + 1 > 15
    )
    assert not found, found
    assert len(executes) >= 5


def test_pack_defines_no_node_class_mappings():
    """With them, ComfyUI would not ask for the entry point."""
    pack = ROOT / "__init__.py"
    names = {node.id for node in ast.walk(tree_of(pack)) if isinstance(node, ast.Name)}
    assert "NODE_CLASS_MAPPINGS" not in names
    assert "comfy_entrypoint" in {function.name for function in functions_of(pack)}

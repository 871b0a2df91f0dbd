"""Rules of the code base that a reader relies on, checked on the source."""

import ast
import re
import subprocess
import sys

import pytest
import torch

from helpers import models
from helpers.paths import ROOT
from varsr_core.varsr.weights import build_model

CORE = sorted((ROOT / "varsr_core").rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))
SHIPPED = [*CORE, *NODES, ROOT / "__init__.py"]
SHARED = [path for path in CORE if path.parent == ROOT / "varsr_core"]

HOST_MODULES = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "nodes")
# Modules that run other code, change the process or reach out of the machine.
FORBIDDEN_MODULES = {
    "subprocess", "pickle", "importlib", "urllib", "requests", "http", "socket", "ctypes",
    "marshal", "shelve", "multiprocessing", "runpy", "webbrowser", "ftplib", "smtplib",
}  # fmt: skip
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "input", "breakpoint", "print"}
FORBIDDEN_OS = {"environ", "getenv", "putenv", "system", "popen", "spawnl", "spawnv", "execv"}
# Which families there are, and where the weights of one are, is known to these alone.
KNOW_A_FAMILY = {"checkpoint.py", "download.py"}
FAMILIES = ("varsr_core.varsr", "varsr_core.nsarm")
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli"}


def id_of(path):
    return path.relative_to(ROOT).as_posix()


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path):
    """Modules that a file imports anywhere, relative ones resolved against its folder."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def functions_of(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, kinds)]


def calls_of(path):
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]


def lines_of(node):
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return node.end_lineno - first + 1


def is_of(module, packages):
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def run_python(code):
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", CORE, ids=id_of)
def test_core_does_not_import_comfyui(path):
    assert not [name for name in imports_of(path) if is_of(name, HOST_MODULES)]


def test_this_test_sees_an_import_of_comfyui():
    assert [name for name in imports_of(ROOT / "nodes/host.py") if is_of(name, HOST_MODULES)]


@pytest.mark.parametrize("path", SHARED, ids=id_of)
def test_what_families_share_knows_no_family(path):
    if path.name not in KNOW_A_FAMILY:
        assert not [name for name in imports_of(path) if is_of(name, FAMILIES)]


@pytest.mark.parametrize("family", FAMILIES)
def test_families_do_not_know_each_other(family):
    others = [other for other in FAMILIES if other != family]
    own = [path for path in CORE if is_of(".".join(path.relative_to(ROOT).parts), [family])]
    assert len(own) > 5
    for path in own:
        assert not [name for name in imports_of(path) if is_of(name, others)], id_of(path)


def test_a_family_is_named_by_three_files_beside_its_own():
    """The list of families, that of nodes (the design's acceptance test), and the command's."""
    word = re.compile(r"\bnsarm\b", re.IGNORECASE)
    named = {
        id_of(path)
        for path in [*CORE, *NODES]
        if "nsarm" not in id_of(path) and word.search(path.read_text(encoding="utf-8"))
    }
    lists = {"varsr_core/checkpoint.py", "nodes/__init__.py", "varsr_core/batch/families.py"}
    assert named == lists


@pytest.mark.parametrize("name", sorted(KNOW_A_FAMILY))
def test_exceptions_to_the_rule_above_are_needed(name):
    path = ROOT / "varsr_core" / name
    assert [name for name in imports_of(path) if is_of(name, ["varsr_core.varsr"])]


@pytest.mark.parametrize("path", NODES, ids=id_of)
def test_nodes_import_the_pack_relatively(path):
    """In ComfyUI the pack has another name, and `nodes` is ComfyUI's own module."""
    imported = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(node.module)
    assert not [name for name in imported if is_of(name, ["nodes", "varsr_core"])]


@pytest.mark.parametrize("path", SHIPPED, ids=id_of)
def test_shipped_code_imports_no_module_that_reaches_out(path):
    roots = {name.split(".")[0] for name in imports_of(path)}
    assert not roots & FORBIDDEN_MODULES


@pytest.mark.parametrize("path", SHIPPED, ids=id_of)
def test_shipped_code_neither_prints_nor_evaluates(path):
    names = {call.func.id for call in calls_of(path) if isinstance(call.func, ast.Name)}
    assert not names & FORBIDDEN_CALLS


@pytest.mark.parametrize("path", SHIPPED, ids=id_of)
def test_shipped_code_neither_reads_the_environment_nor_starts_processes(path):
    used = {
        node.attr
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }
    used |= {name.removeprefix("os.") for name in imports_of(path) if name.startswith("os.")}
    assert not used & FORBIDDEN_OS


@pytest.mark.parametrize("path", SHIPPED, ids=id_of)
def test_shipped_code_loads_pickles_restricted(path):
    for call in calls_of(path):
        if ast.unparse(call.func) == "torch.load":
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert keywords.get("weights_only") == "True", f"line {call.lineno}"


@pytest.mark.parametrize("path", SHIPPED, ids=id_of)
def test_shipped_code_draws_only_from_generators_of_its_own(path):
    """Or where the global one is put back afterwards, for what torch cannot draw otherwise."""
    forks = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.With)
        and ast.unparse(node.items[0].context_expr).startswith("torch.random.fork_rng(")
    ]
    for call in calls_of(path):
        if any(fork.lineno < call.lineno <= fork.end_lineno for fork in forks):
            continue
        name, place = ast.unparse(call.func), f"line {call.lineno}"
        if name in {f"torch.{draw}" for draw in DRAWS}:
            assert "generator" in {keyword.arg for keyword in call.keywords}, place
        assert name not in {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed_all"}, place
        assert not name.startswith(("np.random.", "random.")), place


@pytest.mark.parametrize("path", CORE, ids=id_of)
def test_every_parameter_and_result_in_the_core_is_annotated(path):
    missing = []
    for function in functions_of(path):
        given = function.args
        parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        named = [p for p in parameters if p is not None and p.arg not in ("self", "cls")]
        missing += [f"{function.name}({p.arg})" for p in named if p.annotation is None]
        if function.returns is None:
            missing.append(f"{function.name} ->")
    assert not missing


@pytest.mark.parametrize("path", SHIPPED, ids=id_of)
def test_files_have_at_most_300_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", CORE, ids=id_of)
def test_functions_of_the_core_have_at_most_60_lines(path):
    assert not [f"{f.name}: {lines_of(f)}" for f in functions_of(path) if lines_of(f) > 60]


@pytest.mark.parametrize("path", NODES, ids=id_of)
def test_execute_of_a_node_has_at_most_15_lines(path):
    """It translates; the core works. The signature does not count."""
    for function in functions_of(path):
        if function.name == "execute":
            assert function.end_lineno - function.body[0].lineno + 1 <= 15


def test_there_are_nodes_whose_execute_is_checked():
    assert sum(f.name == "execute" for path in NODES for f in functions_of(path)) >= 5


def test_importing_the_core_package_imports_nothing_heavy():
    run_python(
        "import sys, varsr_core, varsr_core.errors\n"
        "heavy = {'torch', 'numpy', 'safetensors', 'einops'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )


def test_importing_the_pack_imports_nothing_and_makes_no_node():
    run_python(
        "import sys, importlib.util as util\n"
        "spec = util.spec_from_file_location('pack', '__init__.py')\n"
        "pack = util.module_from_spec(spec)\n"
        "before = set(sys.modules)\n"
        "spec.loader.exec_module(pack)\n"
        "assert set(sys.modules) == before, set(sys.modules) - before\n"
        "assert callable(pack.comfy_entrypoint)"
    )


def test_pack_defines_no_node_class_mappings():
    """With them, ComfyUI would not ask for the entry point."""
    names = {n.id for n in ast.walk(tree_of(ROOT / "__init__.py")) if isinstance(n, ast.Name)}
    assert "NODE_CLASS_MAPPINGS" not in names
    assert "comfy_entrypoint" in {f.name for f in functions_of(ROOT / "__init__.py")}


def test_importing_all_of_the_core_changes_nothing_in_the_process():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in CORE
    ]
    run_python(
        "import importlib, os, random, sys, numpy, torch\n"
        "def state():\n"
        "    return (torch.get_rng_state().tolist(), random.getstate(),\n"
        "            numpy.random.get_state()[1].tolist(), torch.get_default_dtype(),\n"
        "            torch.get_num_threads(), torch.is_grad_enabled(), dict(os.environ),\n"
        "            torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision(),\n"
        "            torch.nn.Linear.reset_parameters, torch.nn.Conv2d.reset_parameters)\n"
        "before = state()\n"
        "path = list(sys.path)\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "assert state() == before\n"
        "assert sys.path == path\n"
        "assert 'huggingface_hub' not in sys.modules"
    )


def test_building_a_model_changes_nothing_in_the_process():
    weights = models.converted_weights()
    before = torch.get_rng_state(), torch.nn.Linear.reset_parameters
    build_model(weights)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.nn.Linear.reset_parameters is before[1]

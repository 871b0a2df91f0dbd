"""Importing has no effect, in whatever order, and the front door stays open."""

import torch

from helpers import models
from helpers.source import MODULES, run_python
from varsr_core.varsr.weights import build_model


def test_importing_the_core_package_imports_nothing_heavy():
    run_python(
        "import sys, varsr_core, varsr_core.errors\n"
        "heavy = {'torch', 'numpy', 'safetensors', 'einops'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )


def test_library_needs_no_more_than_the_readme_says():
    """torch, numpy, einops, safetensors, Pillow: it loads a model without all that ComfyUI has."""
    run_python(
        "import sys\n"
        "missing = ('tqdm', 'requests', 'aiohttp', 'scipy', 'av', 'transformers', 'torchvision')\n"
        "sys.modules.update(dict.fromkeys(missing))\n"
        "from varsr_core import load_model, upscale\n"
        "load_model()"
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


def test_errors_do_not_tell_under_which_path_the_pack_lies():
    """ComfyUI's name for a pack is the path of its folder, and it shows where errors are from."""
    run_python(
        "import sys, importlib.util as util, varsr_core.errors as plain\n"
        "name = '/home/someone/ComfyUI/custom_nodes/pack.varsr_core.errors'\n"
        "spec = util.spec_from_file_location(name, plain.__file__)\n"
        "errors = util.module_from_spec(spec)\n"
        "spec.loader.exec_module(errors)\n"
        "found = [kind for kind in vars(errors).values() if isinstance(kind, type)]\n"
        "assert len(found) >= 2, found\n"
        "assert {kind.__module__ for kind in found} == {plain.__name__}, found\n"
        "import pickle\n"
        "error = pickle.loads(pickle.dumps(plain.InputError('told')))\n"
        "assert type(error) is plain.InputError\n"
    )


def test_importing_all_of_the_core_changes_nothing_in_the_process():
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
        f"for name in {sorted(MODULES)!r}:\n"
        "    importlib.import_module(name)\n"
        "assert state() == before\n"
        "assert sys.path == path\n"
        "assert 'huggingface_hub' not in sys.modules"
    )


def test_front_door_opens_after_every_module_was_imported_in_any_order(micro_file):
    """A module named like a function of the front door would take the function's place."""
    for order in (sorted(MODULES), sorted(MODULES, reverse=True)):
        run_python(
            "import importlib, torch, varsr_core\n"
            f"for name in {order!r}:\n"
            "    importlib.import_module(name)\n"
            f"restorer = varsr_core.load_model({str(micro_file)!r})\n"
            "image = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))\n"
            "restored = varsr_core.upscale(image, 2.0, restorer)\n"
            "assert restored.shape == (1, 3, 24, 32), restored.shape"
        )


def test_building_a_model_changes_nothing_in_the_process():
    weights = models.converted_weights()
    before = torch.get_rng_state(), torch.nn.Linear.reset_parameters
    build_model(weights)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.nn.Linear.reset_parameters is before[1]

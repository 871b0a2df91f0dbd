"""The fuzzer of graphs: what it makes of nodes, and which ends of a run it takes for faults."""

from types import SimpleNamespace

import pytest

from helpers.comfyui.run import Event, Run
from tools.fuzzing.common import draw
from tools.fuzzing.graphs import random_graph
from tools.fuzzing.nodes import judged

INFO = {
    "VARSR_LoadModel": {
        "input": {"required": {"checkpoint": [["micro.safetensors", "small.safetensors"]]}},
        "output": ["VARSR_MODEL"],
    },
    "VARSR_Upscale": {
        "input": {
            "required": {
                "model": ["VARSR_MODEL"],
                "image": ["IMAGE"],
                "scale": ["FLOAT", {"default": 4.0, "min": 0.05, "max": 16.0}],
                "seed": ["INT", {"default": 0, "min": 0, "max": 9}],
            },
            "optional": {"mask": ["MASK"]},
        },
        "output": ["IMAGE", "MASK"],
    },
    "LoadImage": {"input": {"required": {"image": [["a.png"]]}}, "output": ["IMAGE", "MASK"]},
}


def graphs(count):
    return [random_graph(draw("nodes", 0, number), INFO, "a.png") for number in range(count)]


def test_graphs_are_made_of_seed_and_number():
    assert graphs(20) == graphs(20)


def is_sound(graph):
    given = [node["inputs"] for node in graph.values() if node["class_type"] == "VARSR_Upscale"]
    return all(
        isinstance(one.get("scale"), float)
        and 0.05 <= one["scale"] <= 16
        and all(
            isinstance(one.get(name), list) and one[name][0] in graph for name in ("model", "image")
        )
        for one in given
    )


def test_some_graphs_are_sound_and_some_are_not():
    sound = [is_sound(graph) for graph in graphs(60)]
    assert 10 < sum(sound) < 55


def run_with(kind="", outputs=None, status="success", **data):
    events = [Event(kind, data)] if kind else []
    history = {"status": {"status_str": status}, "outputs": outputs or {}}
    return Run(200, {}, events, [], history)


def error(node, raised):
    told = {"node_type": node, "exception_type": raised, "exception_message": "", "traceback": []}
    return run_with("execution_error", status="error", **told)


RUNS = {
    "a picture": (run_with(outputs={"a": {"finite": [True]}}), False),
    "NaN": (run_with(outputs={"a": {"finite": [True]}, "b": {"finite": [False]}}), True),
    "refused": (Run(400, {"node_errors": {}}), False),
    "interrupted": (run_with("execution_interrupted", status="error"), False),
    "ours": (error("VARSR_Upscale", "custom_nodes.pack.errors.InputError"), False),
    "ours, of a file": (error("NSARM_LoadModel", "CheckpointError"), False),
    "a bug": (error("VARSR_Upscale", "ValueError"), True),
    "of another node": (error("LoadImage", "ValueError"), False),
    "no end": (run_with(status="error"), True),
}


@pytest.mark.parametrize("case", RUNS)
def test_only_what_must_not_be_is_a_fault(case):
    run, is_fault = RUNS[case]
    assert bool(judged(SimpleNamespace(), run)[1]) == is_fault

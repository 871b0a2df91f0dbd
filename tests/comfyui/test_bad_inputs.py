"""Pictures, settings and wires that cannot work: the error names the input and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from helpers.comfyui.graphs import Graph, Link, upscale_graph
from helpers.comfyui.pictures import failing, restore, structured_picture
from helpers.comfyui.server import ComfyServer

ENTRANCES = {  # node that takes a picture -> its class
    "upscale": "VARSR_Upscale",
    "prefix": "VARSR_EncodePrefix",
    "encode": "VARSR_EncodeTokens",
}
FAULTS = {  # of a picture -> what the error says of it
    "NaN": ["image contains NaN or infinite pixels", "mend it there"],
    "infinity": ["image contains NaN or infinite pixels", "mend it there"],
    "too bright": ["image has values from", "0 to 1 is expected", "Rescale it"],
    "negative": ["image has values from", "0 to 1 is expected", "Rescale it"],
    "no picture": ["image holds 0 pictures", "at least one"],
}


@pytest.fixture(autouse=True)
def _server_goes_on(server: ComfyServer) -> Iterator[None]:
    """After every test a good run on the same server."""
    yield
    name = server.upload(structured_picture(16, 16), "after.png")
    restore(server, upscale_graph(name))


def refused(server: ComfyServer, graph: Graph, node_class: str, words: Sequence[str]) -> None:
    """A run that must fail in the only node of this class, before any work."""
    message = failing(server, graph, node_class, "InputError")
    assert not [text for text in words if text not in message], message


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize(("fault", "words"), FAULTS.items())
def test_spoilt_picture_is_refused(
    server: ComfyServer, uploaded: str, entrance: str, fault: str, words: Sequence[str]
) -> None:
    graph = Graph()
    enter(graph, entrance, graph.spoil(graph.picture(uploaded), fault))
    refused(server, graph, ENTRANCES[entrance], words)


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("channels", [2, 5])
def test_picture_of_other_than_1_3_or_4_channels_is_refused(
    server: ComfyServer, uploaded: str, entrance: str, channels: int
) -> None:
    graph = Graph()
    enter(graph, entrance, graph.channels(graph.picture(uploaded), channels))
    words = [f"image has {channels} channels", "convert it to RGB"]
    refused(server, graph, ENTRANCES[entrance], words)


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_too_large_a_result_is_refused(server: ComfyServer, entrance: str) -> None:
    graph = Graph()
    enter(graph, entrance, graph.empty(2000, 2000), scale=16.0)
    words = ["scale 16 gives 32000x32000 = 1024 million pixels", "Use a smaller scale"]
    refused(server, graph, ENTRANCES[entrance], words)


def test_smallest_picture_is_restored(server: ComfyServer) -> None:
    name = server.upload(structured_picture(8, 8), "smallest.png")
    restore(server, upscale_graph(name))
    restore(server, upscale_graph(name, scale=0.25))


@pytest.mark.parametrize(
    "consumer", ["VARSR_Sample", "VARSR_Refine", "VARSR_Decode", "VARSR_DecodeScales"]
)
def test_result_of_another_model_is_refused(
    server: ComfyServer, uploaded: str, consumer: str
) -> None:
    graph = Graph()
    model, other = graph.load(), graph.load("other.safetensors", node="load other")
    prefix = graph.prefix(model, graph.picture(uploaded))
    tokens = graph.sample(model, prefix)
    ends: dict[str, Callable[[], Link]] = {
        "VARSR_Sample": lambda: graph.decode(
            other, graph.sample(other, prefix, node="sample other")
        ),
        "VARSR_Refine": lambda: graph.decode(model, graph.refine(other, tokens)),
        "VARSR_Decode": lambda: graph.decode(other, tokens),
        "VARSR_DecodeScales": lambda: graph.decode_scales(other, tokens),
    }
    graph.save(ends[consumer]())
    name = "prefix" if consumer == "VARSR_Sample" else "tokens"
    words = [f"{name} was made with another model", "connect the same Load VARSR Model"]
    refused(server, graph, consumer, words)


def test_kept_tokens_of_another_model_are_refused(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model, other = graph.load(), graph.load("other.safetensors", node="load other")
    image = graph.picture(uploaded)
    tokens = graph.encode(other, image)
    sampled = graph.sample(model, graph.prefix(model, image), tokens=tokens, first_scale=2)
    graph.save(graph.decode(model, sampled))
    refused(server, graph, "VARSR_Sample", ["tokens was made with another model"])


def test_converted_model_takes_what_its_released_files_made(
    server: ComfyServer, uploaded: str
) -> None:
    graph = Graph()
    released, converted = graph.load("VARSR.pth", node="released"), graph.load()
    prefix = graph.prefix(released, graph.picture(uploaded))
    graph.save(graph.decode(released, graph.sample(converted, prefix)))
    restore(server, graph)


def test_encoded_tokens_cannot_be_refined(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model = graph.load()
    tokens = graph.encode(model, graph.picture(uploaded))
    graph.save(graph.decode(model, graph.refine(model, tokens)))
    words = ["tokens have 4 of 4 scales and no hidden state", "Run VARSR Next-Scale Sample"]
    refused(server, graph, "VARSR_Refine", words)


def test_tokens_of_a_stopped_run_cannot_be_refined(server: ComfyServer, uploaded: str) -> None:
    graph, model, tokens = sampled(uploaded, stop_scale=3)
    graph.save(graph.decode(model, graph.refine(model, tokens)))
    words = ["tokens have 3 of 4 scales", "to the last scale first"]
    refused(server, graph, "VARSR_Refine", words)


def test_refiner_guidance_needs_guided_tokens(server: ComfyServer, uploaded: str) -> None:
    graph, model, tokens = sampled(uploaded, guidance=0.0)
    graph.save(graph.decode(model, graph.refine(model, tokens, guidance=3.0)))
    words = ["guidance 3 needs tokens that were sampled with guidance", "guidance to 0"]
    refused(server, graph, "VARSR_Refine", words)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stop_scale": 5}, ["stop_scale 5 is beyond the 4 scales"]),
        ({"first_scale": 4}, ["first_scale 4 leaves nothing to sample", "at most 3"]),
        ({"first_scale": 2, "stop_scale": 2}, ["first_scale 2 leaves nothing", "at most 1"]),
        ({"first_scale": 2}, ["tokens is not connected", "VARSR Encode Image to Tokens"]),
    ],
)
def test_scales_that_are_not_there_are_refused(
    server: ComfyServer, uploaded: str, settings: dict[str, int], words: Sequence[str]
) -> None:
    graph, model, tokens = sampled(uploaded, **settings)
    graph.save(graph.decode(model, tokens))
    refused(server, graph, "VARSR_Sample", words)


def test_more_scales_than_the_tokens_have_cannot_be_kept(
    server: ComfyServer, uploaded: str
) -> None:
    graph, model, tokens = sampled(uploaded, stop_scale=1)
    kept = graph.sample(model, ["prefix", 0], node="resumed", tokens=tokens, first_scale=2)
    graph.save(graph.decode(model, kept))
    refused(server, graph, "VARSR_Sample", ["first_scale 2", "tokens stop after 1"])


def test_kept_tokens_of_another_size_are_refused(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model, image = graph.load(), graph.picture(uploaded)
    tokens = graph.encode(model, image, scale=2.0)
    kept = graph.sample(model, graph.prefix(model, image), tokens=tokens, first_scale=2)
    graph.save(graph.decode(model, kept))
    words = ["tokens hold", "80x56", "prefix 6 of 160x112", "same output size"]
    refused(server, graph, "VARSR_Sample", words)


def test_reference_batch_of_another_length_is_refused(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    image = graph.picture(uploaded)
    three = graph.add("three", "RepeatImageBatch", image=image, amount=3)
    two = graph.add("two", "RepeatImageBatch", image=image, amount=2)
    graph.save(graph.match(three, two))
    words = ["reference holds 2 pictures, image 3", "one for all"]
    refused(server, graph, "VARSR_MatchColors", words)


@pytest.mark.parametrize(
    ("spoilt", "fault"),
    [
        ("image", "NaN"),
        ("image", "infinity"),
        ("image", "no picture"),
        ("reference", "NaN"),
        ("reference", "infinity"),
    ],
)
def test_match_colors_refuses_what_is_no_picture(
    server: ComfyServer, uploaded: str, spoilt: str, fault: str
) -> None:
    graph = Graph()
    inputs = {"image": graph.picture(uploaded), "reference": graph.picture(uploaded)}
    inputs[spoilt] = graph.spoil(inputs[spoilt], fault)
    graph.save(graph.match(inputs["image"], inputs["reference"]))
    refused(server, graph, "VARSR_MatchColors", [spoilt])


@pytest.mark.parametrize(
    ("node", "name", "value", "problem"),
    [
        ("upscale", "scale", 0.0, "value_smaller_than_min"),
        ("upscale", "scale", 17.0, "value_bigger_than_max"),
        ("upscale", "refine_steps", 1, "value_smaller_than_min"),
        ("upscale", "top_p", 0.0, "value_smaller_than_min"),
    ],
)
def test_setting_out_of_its_range_is_refused_before_the_run(
    server: ComfyServer, uploaded: str, node: str, name: str, value: float | str, problem: str
) -> None:
    graph = upscale_graph(uploaded)
    graph[node]["inputs"][name] = value
    run = server.run(graph)
    assert run.status == 400
    (error,) = run.node_errors[node]["errors"]
    assert error["type"] == problem
    assert error["extra_info"]["input_name"] == name


@pytest.mark.parametrize(
    ("node", "name"),
    [("upscale", "color_fix"), ("upscale", "guidance_schedule"), ("load", "dtype")],
)
def test_choice_that_is_not_offered_is_refused(
    server: ComfyServer, uploaded: str, node: str, name: str
) -> None:
    graph = upscale_graph(uploaded)
    graph[node]["inputs"][name] = "unheard of"
    run = server.run(graph)
    if run.status == 200:  # older versions do not look, so the node has to
        assert run.error is not None
        assert "unheard of" in run.error["exception_message"]
        return
    (error,) = run.node_errors[node]["errors"]
    assert error["type"] == "value_not_in_list"
    assert error["extra_info"]["input_name"] == name


def test_wire_of_another_kind_is_refused_before_the_run(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    model = graph.load()
    prefix = graph.prefix(model, graph.picture(uploaded))
    graph.save(graph.decode(model, prefix))
    run = server.run(graph)
    assert run.status == 400
    (error,) = run.node_errors["decode"]["errors"]
    assert error["type"] == "return_type_mismatch"
    assert error["extra_info"]["input_name"] == "tokens"


def enter(graph: Graph, entrance: str, image: Link, scale: float = 4.0) -> None:
    """Image -> the node that takes it -> an output."""
    model = graph.load()
    if entrance == "upscale":
        graph.save(graph.upscale(model, image, scale=scale))
    elif entrance == "prefix":
        tokens = graph.sample(model, graph.prefix(model, image, scale=scale))
        graph.save(graph.decode(model, tokens))
    else:
        graph.save(graph.decode(model, graph.encode(model, image, scale=scale)))


def sampled(uploaded: str, **settings: float) -> tuple[Graph, Link, Link]:
    """A graph up to tokens: the graph, the model, the tokens."""
    graph = Graph()
    model = graph.load()
    prefix = graph.prefix(model, graph.picture(uploaded))
    return graph, model, graph.sample(model, prefix, **settings)


def test_masks_of_transparency_must_be_one_or_as_many_as_pictures(
    server: ComfyServer, uploaded: str
) -> None:
    graph = Graph()
    image = graph.add("pictures", "RepeatImageBatch", image=graph.picture(uploaded), amount=3)
    mask = graph.add("white", "SolidMask", value=1.0, width=8, height=8)
    two = graph.add(
        "two", "RepeatImageBatch", image=graph.add("i", "MaskToImage", mask=mask), amount=2
    )
    masks = graph.add("masks", "ImageToMask", image=two, channel="red")
    graph.save(graph.upscale(graph.load(), image, alpha=masks))
    refused(server, graph, "VARSR_Upscale", ["alpha has 2 masks and image 3 pictures"])

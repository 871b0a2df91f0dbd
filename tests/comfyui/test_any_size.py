"""Pictures of any size and kind: the right size out, and what was not asked for left alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from helpers.comfyui.graphs import Graph, upscale_graph
from helpers.comfyui.pictures import dumped, restore, saved_pictures, structured_picture, with_alpha
from helpers.comfyui.server import ComfyServer


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 250), (33, 31)])
def test_odd_sizes_are_enlarged_to_the_pixel(server: ComfyServer, size: tuple[int, int]) -> None:
    name = server.upload(structured_picture(*size), f"odd_{size[0]}x{size[1]}.png")
    (saved,) = saved_pictures(server, restore(server, upscale_graph(name)))
    assert saved.shape == (size[1] * 4, size[0] * 4, 3)


@pytest.mark.parametrize(
    ("size_by", "target", "expected"),
    [("longer side", 90.0, (90, 63)), ("shorter side", 90.0, (129, 90))],
)
def test_a_side_fixes_the_size(
    server: ComfyServer, uploaded: str, size_by: str, target: float, expected: tuple[int, int]
) -> None:
    graph = upscale_graph(uploaded, size_by=size_by, target=target)
    (saved,) = saved_pictures(server, restore(server, graph))
    assert saved.shape == (expected[1], expected[0], 3)


def test_megapixels_fix_the_size(server: ComfyServer, uploaded: str, photo: Image.Image) -> None:
    graph = upscale_graph(uploaded, size_by="megapixels", target=0.01)
    (saved,) = saved_pictures(server, restore(server, graph))
    height, width = saved.shape[:2]
    assert abs(height * width - 10_000) < 150
    assert abs(width / height - photo.width / photo.height) < 0.02


def test_pictures_of_a_list_keep_their_own_sizes(server: ComfyServer, uploaded: str) -> None:
    graph = Graph()
    pieces = graph.add("list", "PROBE_SizeList", image=graph.picture(uploaded))
    graph.save(graph.upscale(graph.load(), pieces, scale=2.0))
    saved = saved_pictures(server, restore(server, graph))
    assert [picture.shape for picture in saved] == [(56, 80, 3), (18, 60, 3), (2, 2, 3)]


def test_only_what_the_mask_shows_is_restored(server: ComfyServer, photo: Image.Image) -> None:
    """The mask is the alpha of a picture, as Load Image gives it: 1 where it is transparent."""
    masked = photo.convert("RGBA")
    alpha = np.full((photo.height, photo.width), 255, np.uint8)
    alpha[:, : photo.width // 2] = 0
    masked.putalpha(Image.fromarray(alpha))
    name = server.upload(masked, "masked.png")
    graph = Graph()
    picture = graph.picture(name)
    settings = {"color_fix": "none", "feather": 0}
    result = graph.upscale(graph.load(), picture, mask=[picture[0], 1], **settings)
    batch = graph.add("batch", "RepeatImageBatch", image=picture, amount=3)
    three = graph.upscale(graph.load(), batch, mask=[picture[0], 1], node="three", **settings)
    plain = graph.add(
        "plain", "ImageScaleBy", image=picture, upscale_method="bicubic", scale_by=4.0
    )
    for node, image in (("one", result), ("three images", three), ("plain image", plain)):
        graph.dump(image, node)
    run = restore(server, graph)
    one, plain = dumped(run, "one")[0], dumped(run, "plain image")[0]
    middle = photo.width * 2
    # Bicubic kernels differ in their slope: -0.5 here, -0.75 in ComfyUI's.
    assert np.abs(one - plain)[:, middle + 8 :].mean() < 0.02
    assert np.abs(one - plain)[:, : middle - 8].mean() > 0.1
    for image in dumped(run, "three images"):
        np.testing.assert_array_equal(image, one)


@pytest.mark.parametrize("own", [True, False], ids=["four channels", "a mask beside it"])
def test_alpha_comes_out_as_load_image_gives_it(
    server: ComfyServer, photo: Image.Image, own: bool
) -> None:
    name = server.upload(with_alpha(photo), "transparent.png")
    graph = Graph()
    picture = graph.picture(name)
    if own:
        result = graph.upscale(graph.load(), graph.with_alpha(picture))
    else:
        result = graph.upscale(graph.load(), picture, alpha=[picture[0], 1])
    graph.dump(graph.add("mask image", "MaskToImage", mask=[result[0], 1]), "mask")
    graph.dump(result, "dump")
    run = restore(server, graph)
    image, mask = dumped(run), dumped(run, "mask")
    assert image.shape[-1] == (4 if own else 3)
    assert mask.shape[:3] == image.shape[:3]
    wanted = 1 - np.asarray(with_alpha(photo).getchannel("A")) / 255
    shrunk = mask[0, ..., 0].reshape(photo.height, 4, photo.width, 4).mean(axis=(1, 3))
    assert np.abs(shrunk - wanted).max() < 0.02
    if own:
        np.testing.assert_allclose(image[..., 3], 1 - mask[..., 0], atol=1e-6)


def test_picture_without_alpha_gives_an_opaque_mask(server: ComfyServer, uploaded: str) -> None:
    """Load Image gives an empty mask of 64 x 64 where a picture has no alpha."""
    graph = Graph()
    picture = graph.picture(uploaded)
    result = graph.upscale(graph.load(), picture, alpha=[picture[0], 1])
    graph.dump(graph.add("mask image", "MaskToImage", mask=[result[0], 1]), "mask")
    mask = dumped(restore(server, graph), "mask")
    assert mask.shape == (1, 112, 160, 3)
    assert not mask.any()

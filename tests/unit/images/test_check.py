"""What is a picture at all, whatever kind of object is given as one."""

import pytest
import torch

from helpers.each import each
from varsr_core.errors import InputError
from varsr_core.images.check import check_pixels, check_tensor

PICTURE = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
NO_PICTURES = {
    "nothing": None,
    "a list": [PICTURE],
    "an array": PICTURE.numpy(),
    "2 dimensions": PICTURE[0, 0],
    "3 dimensions": PICTURE[0],
    "5 dimensions": PICTURE[None],
    "whole numbers": PICTURE.byte(),
    "truth values": PICTURE > 0.5,
    "complex": PICTURE.to(torch.complex64),
    "sparse": PICTURE.to_sparse(),
    "meta": PICTURE.to("meta"),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_point_numbers_are_a_picture(dtype):
    check_pixels(PICTURE.to(dtype))


@each("kind", NO_PICTURES)
def test_what_is_no_picture_is_refused_by_its_name(kind):
    with pytest.raises(InputError, match=r"^photo is .*\(B, C, H, W\)"):
        check_pixels(NO_PICTURES[kind], "photo")


@pytest.mark.filterwarnings("ignore")  # torch's, once a process, that they may change
def test_nested_tensors_are_no_picture():
    nested = torch.nested.nested_tensor([PICTURE[0]])
    with pytest.raises(InputError, match="nested"):
        check_pixels(nested)


def test_one_of_several_layouts_is_enough():
    for tensor in (PICTURE[0, 0], PICTURE[0]):
        check_tensor(tensor, "mask", "(B, H, W)", "(H, W)")
    with pytest.raises(InputError, match=r"\(B, H, W\) or \(H, W\)"):
        check_tensor(PICTURE, "mask", "(B, H, W)", "(H, W)")


def test_whole_numbers_do_where_they_may():
    check_tensor(PICTURE > 0.5, "mask", "(B, 1, H, W)", real=False)
    check_tensor(PICTURE.byte(), "mask", "(B, 1, H, W)", real=False)

import numpy as np
import pytest
import torch

from helpers.each import each
from varsr_core.nn.rope import apply_rope, map_positions, rope_table

HEAD_DIM = 16


def rotated(vector, place):
    table = rope_table(torch.tensor([place], dtype=torch.float32), HEAD_DIM)
    return apply_rope(vector.view(1, 1, 1, -1), table).flatten()


@pytest.fixture
def vectors():
    return torch.randn(2, HEAD_DIM, generator=torch.Generator().manual_seed(0))


@each("place", [(0, 0), (3, 17.5), (31, 31)])
def test_rotation_preserves_length(vectors, place):
    torch.testing.assert_close(rotated(vectors[0], place).norm(), vectors[0].norm())


def test_rotation_at_the_origin_changes_nothing(vectors):
    assert torch.equal(rotated(vectors[0], (0, 0)), vectors[0])


@each("shift", [(1, 0), (0, 1), (7.5, 12)])
def test_product_of_two_tokens_depends_on_their_distance_alone(vectors, shift):
    q, k = vectors
    here = rotated(q, (4, 9)) @ rotated(k, (6, 3))
    there = rotated(q, (4 + shift[0], 9 + shift[1])) @ rotated(k, (6 + shift[0], 3 + shift[1]))
    torch.testing.assert_close(here, there, atol=1e-5, rtol=0)


def test_product_of_two_tokens_changes_with_their_distance(vectors):
    q, k = vectors
    products = [rotated(q, (0, 0)) @ rotated(k, place) for place in ((0, 0), (1, 0), (0, 1))]
    assert len({round(product.item(), 4) for product in products}) == 3


def test_rotation_equals_multiplication_of_complex_numbers(vectors):
    row, column = 5.0, 11.0
    quarter = HEAD_DIM // 4
    frequencies = 10000.0 ** (-4 * np.arange(quarter) / HEAD_DIM)
    angles = np.concatenate((row * frequencies, column * frequencies))
    points = vectors[0].numpy()[: HEAD_DIM // 2] + 1j * vectors[0].numpy()[HEAD_DIM // 2 :]
    turned = points * np.exp(1j * angles)
    expected = np.concatenate((turned.real, turned.imag))
    np.testing.assert_allclose(rotated(vectors[0], (row, column)), expected, atol=1e-5)


def test_first_half_of_the_angles_turns_with_the_row_and_second_with_the_column():
    places = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    cos, _ = rope_table(places, HEAD_DIM)
    quarter = HEAD_DIM // 4
    assert torch.equal(cos[0, quarter:], cos[1, quarter:])
    assert torch.equal(cos[0, :quarter], cos[2, :quarter])
    assert (cos[0, :quarter] != cos[1, :quarter]).any()
    assert (cos[0, quarter:] != cos[2, quarter:]).any()


@each(("coarse", "fine"), [(1, 32), (2, 4), (4, 32), (6, 18)])
def test_tokens_of_two_scales_at_the_same_place_share_their_position(coarse, fine):
    step = fine // coarse
    dense = map_positions(fine).view(fine, fine, 2)[::step, ::step]
    torch.testing.assert_close(dense.reshape(-1, 2), map_positions(coarse))


def test_positions_run_over_a_grid_of_32_row_by_row():
    assert map_positions(2).tolist() == [[0, 0], [0, 16], [16, 0], [16, 16]]
    assert map_positions(4).max() == 24


def test_head_that_cannot_turn_in_two_directions_is_refused():
    with pytest.raises(ValueError, match="head of 6 channels"):
        rope_table(map_positions(2), 6)

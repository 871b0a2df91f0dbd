"""Least squares from sums of products, against numpy's from all rows."""

import numpy as np
import pytest
import torch

from varsr_core.nn.least_squares import LeastSquares


def test_sums_of_products_give_what_all_rows_at_once_would():
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 5)) * [1, 2, 3, 0.5, 1] + [0, 0.1, 0.2, 0.5, 1]
    y = x @ random.normal(size=(5, 3)) + 2 + 0.3 * random.normal(size=(500, 3)) @ np.ones((3, 3))
    squares = LeastSquares(5, 3)
    for rows in np.split(np.arange(500), [100, 350]):
        squares.add(torch.from_numpy(x[rows]), torch.from_numpy(y[rows]))
    whole = np.concatenate((x, np.ones((500, 1))), axis=1)
    wanted = np.linalg.lstsq(whole, y, rcond=None)[0]
    weight, bias = squares.solve()
    assert np.abs(np.concatenate((weight.T, bias[None])) - wanted).max() < 0.05


def test_inputs_that_say_the_same_share_what_they_explain():
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    squares = LeastSquares(2, 1)
    squares.add(x.repeat(1, 2), 3 * x)
    assert squares.solve()[0].tolist() == [[pytest.approx(1.5, rel=0.01)] * 2]

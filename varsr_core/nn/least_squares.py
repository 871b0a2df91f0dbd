"""Least squares over more rows than memory holds: only sums of products are kept."""

from __future__ import annotations

import torch
from torch import Tensor


class LeastSquares:
    """The affine map that comes closest from inputs to targets, in float64.

    ridge: fraction of the inputs' mean square that keeps the fit well-posed
    """

    def __init__(self, inputs: int, targets: int, ridge: float = 1e-4) -> None:
        size = inputs + 1
        self.ridge = ridge
        self.squares = torch.zeros(size, size, dtype=torch.float64)  # of inputs and a constant
        self.products = torch.zeros(size, targets, dtype=torch.float64)

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """inputs: (rows, inputs); targets: (rows, targets)."""
        x, y = inputs.cpu().double(), targets.cpu().double()  # MPS has no float64
        x = torch.cat((x, torch.ones_like(x[:, :1])), dim=1)
        self.squares += x.T @ x
        self.products += x.T @ y

    def solve(self) -> tuple[Tensor, Tensor]:
        """Weights (targets, inputs) and bias (targets,), float32."""
        squares = self.squares.clone()
        squares.diagonal().add_(self.ridge * squares.diagonal().mean())
        solved = torch.linalg.solve(squares, self.products).float().T
        return solved[:, :-1], solved[:, -1]

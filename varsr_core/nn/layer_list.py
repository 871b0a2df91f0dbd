"""Layers that are run one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


class LayerList(nn.ModuleList, Generic[Layer]):
    """A ModuleList that tells a type checker what it holds."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        super().__init__(layers)

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Layer]: ...

        @overload
        def __getitem__(self, idx: slice) -> LayerList[Layer]: ...

        @overload
        def __getitem__(self, idx: int) -> Layer: ...

        def __getitem__(self, idx: slice | int) -> Any: ...

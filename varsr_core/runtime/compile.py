"""Functions of tensors through torch.compile, and without it where it cannot be had."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from .execution import is_out_of_memory

logger = logging.getLogger(__name__)

Function = Callable[..., Any]


class Compiler:
    """Compiles functions of one model; when that fails once, all of them run as written.

    Sizes are variable from the start: token maps of ten sides and any number of tiles then need
    one or two programs for each function, not one for each size.

    broken: whether compiling has failed, e.g. because no C++ compiler or no Triton is installed
    """

    def __init__(self, compile_function: Function = torch.compile) -> None:
        self.compile_function = compile_function
        self.broken = False

    def __call__(self, plain: Function) -> Function:
        """`plain`, compiled when it is first called."""
        fast = self.compile_function(plain, dynamic=True)

        def run(*arguments: Any) -> Any:
            if self.broken:
                return plain(*arguments)
            try:
                return fast(*arguments)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                found = error
            # A fault of the arguments is raised by the plain function, too, and is no warning.
            result = plain(*arguments)
            self.broken = True
            logger.warning(
                "torch.compile does not work here, the model runs without it: %s. It needs a C++ "
                "compiler, on a GPU also Triton.",
                str(found).strip().partition("\n")[0],
            )
            return result

        return run

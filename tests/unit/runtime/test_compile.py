"""Compiling functions, and going on without where it cannot be done."""

import logging

import pytest
import torch

from varsr_core.runtime.compile import Compiler


def double(x):
    return x * 2


def broken_compiler(function, **options):
    def fail(*arguments):
        raise RuntimeError("no working C++ compiler found\nand more")

    return fail


def test_what_is_compiled_gives_what_the_function_gives():
    seen = []

    def compile_function(function, **options):
        seen.append((function, options))
        return lambda x: function(x) + 1

    run = Compiler(compile_function)(double)
    assert run(torch.tensor(3)) == 7  # through what the compiler made
    assert seen == [(double, {"dynamic": True})]


def test_without_a_compiler_functions_run_as_written_and_one_warning_says_so(caplog):
    compiler = Compiler(broken_compiler)
    first, second = compiler(double), compiler(torch.neg)
    with caplog.at_level(logging.WARNING):
        assert [first(torch.tensor(3)), second(torch.tensor(3)), first(torch.tensor(4))] == [
            6,
            -3,
            8,
        ]
    assert compiler.broken
    assert len(caplog.records) == 1
    assert "no working C++ compiler found. It needs" in caplog.text


def test_a_fault_of_the_arguments_is_no_fault_of_the_compiler(caplog):
    compiler = Compiler(lambda function, **options: function)
    with pytest.raises(TypeError, match="unsupported operand"):
        compiler(lambda a, b: a + b)(None, 1)
    assert not compiler.broken
    assert not caplog.records


def test_running_out_of_memory_is_left_to_the_caller(caplog):
    def out_of_memory(*arguments):
        raise torch.OutOfMemoryError("full")

    compiler = Compiler(lambda function, **options: out_of_memory)
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        compiler(double)(torch.tensor(3))
    assert not compiler.broken

"""The fuzzer of folders finds nothing in the command, and what is wrong in worse ones."""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from tools.fuzzing import batch
from tools.fuzzing.children import in_children
from varsr_core.batch.__main__ import main
from varsr_core.batch.part_files import ENDING

CASES, SEED = 8, 1
ORDINARY = 1  # a case in which every good file has to be restored


def test_command_withstands_some_folders(tmp_path):
    found = list(in_children(batch.trial, SEED, range(CASES), tmp_path))
    assert [one for one in found if one.fault] == []
    assert len(Counter(one.kind for one in found)) >= 2, "not all are refused"


def output_of(arguments):
    return Path(arguments[arguments.index("--model") - 1])


def model_of(arguments):
    return Path(arguments[arguments.index("--model") + 1])


def raises(arguments):
    raise KeyError("a bug")


def after_all(action):
    def command(arguments):
        code = main(arguments)
        action(arguments)
        return code

    return command


WORSE = {  # command -> what its fault is
    "raises": (raises, "KeyError"),
    "unknown code": (lambda arguments: 7, "exit code 7"),
    "does nothing": (lambda arguments: 0, "neither restored nor told of"),
    "changes an input": (
        after_all(lambda arguments: model_of(arguments).write_bytes(b"")),
        "changed or removed",
    ),
    "writes elsewhere": (
        after_all(lambda arguments: (model_of(arguments).parent / "more").touch()),
        "outside of the output folder",
    ),
    "leaves a part": (
        after_all(lambda arguments: (output_of(arguments) / f".x{ENDING}").touch()),
        "left over",
    ),
    "a traceback": (
        after_all(lambda arguments: os.write(2, b"Traceback (most recent call last)")),
        "a traceback",
    ),
    "forgets": (after_all(lambda arguments: shutil.rmtree(output_of(arguments))), "cannot be read"),
    "stops": (lambda arguments: sys.exit("no"), "exit code 99"),
}


@pytest.mark.parametrize("case", WORSE)
def test_worse_command_is_a_fault(case, tmp_path):
    command, fault = WORSE[case]
    assert fault in batch.trial(SEED, ORDINARY, tmp_path, command).fault


def test_second_run_that_does_all_again_is_a_fault(tmp_path):
    def command(arguments):
        shutil.rmtree(output_of(arguments), ignore_errors=True)
        return main(arguments)

    assert "again" in batch.trial(SEED, ORDINARY, tmp_path, command).fault

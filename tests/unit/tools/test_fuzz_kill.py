"""The fuzzer that kills finds nothing in the commands, and what worse ones leave."""

import pytest

from tools.fuzzing import kill
from tools.fuzzing.common import draw
from tools.random_nsarm import MICRO

# At the first start it leaves a file and waits to be killed; undisturbed it does not.
WORSE = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
begun = folder / "begun"
if folder.name == "killed" and not begun.exists():
    begun.touch()
    time.sleep(3600)
{then}
"""
THEN = {
    "left over": "(folder / 'result').write_text('whole')",
    "other than": "(folder / 'result').write_text(str(begun.exists())); begun.unlink(True)",
    "missing": "begun.unlink() if begun.exists() else (folder / 'result').touch()",
    "it ends with": "(folder / 'result').touch(); sys.exit(3 if begun.exists() else 0)",
}


def outcome(work, folder, number=0):
    whole = kill.undisturbed(work, folder / "whole")
    return kill.killed(work, whole, draw("kill", 0, number), number, folder / "killed")


@pytest.mark.parametrize("name", ["pictures", "pickles"])
def test_command_that_is_killed_goes_on_to_the_same_results(name, tmp_path):
    works = [*kill.commands(tmp_path, count=4, frames=1), *kill.converters(tmp_path, MICRO)]
    (work,) = [work for work in works if work.name == name]
    assert outcome(work, tmp_path).fault == ""


@pytest.mark.parametrize("fault", THEN)
def test_worse_command_is_a_fault(fault, tmp_path):
    work = kill.Work("worse", ("-c", WORSE.format(then=THEN[fault]), "OUTPUT"), ())
    assert fault in outcome(work, tmp_path).fault

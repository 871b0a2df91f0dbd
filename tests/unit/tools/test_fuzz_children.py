"""What the fuzzers share: a case that dies, hangs or breaks is told, and the others are tried."""

from helpers import fuzz_trials
from helpers.each import each
from tools.fuzzing.children import in_children
from tools.fuzzing.common import Outcome, Report, draw

LARGE = 3 * 2**29  # bytes; a child holds some 0.5 GB


def outcomes(trial, folder, numbers=(0,), **options):
    found = in_children(trial, 7, numbers, folder, **options)
    return sorted(found, key=lambda one: one.number)


def test_child_that_dies_fails_its_case_alone(tmp_path):
    first, *others = outcomes(fuzz_trials.dies_at_first, tmp_path, range(3))
    assert "exit code 3" in first.fault
    assert [(one.number, one.what, one.fault) for one in others] == [
        (1, "1, []", ""),
        (2, "2, []", ""),
    ]
    assert not list(tmp_path.iterdir())


def test_child_that_works_too_long_is_ended(tmp_path):
    (found,) = outcomes(fuzz_trials.works_too_long, tmp_path)
    assert "CPU time" in found.fault


def test_child_that_waits_for_ever_is_ended(tmp_path):
    (found,) = outcomes(fuzz_trials.waits, tmp_path, patience=0.1)
    assert "no answer" in found.fault


def test_memory_of_the_process_that_began_it_does_not_count(tmp_path):
    """Linux begins a child's ru_maxrss with it."""
    held = bytearray(b"1") * LARGE
    (found,) = outcomes(fuzz_trials.tells_its_memory, tmp_path)
    assert 0 < int(found.what) < len(held)


def test_fault_of_the_fuzzer_itself_is_told(tmp_path):
    (found,) = outcomes(fuzz_trials.breaks, tmp_path)
    assert "ZeroDivisionError" in found.fault


def test_cases_are_drawn_from_fuzzer_seed_and_number_alone():
    drawn = {draw(fuzzer, seed, n).random() for fuzzer in "ab" for seed in (1, 2) for n in (1, 2)}
    assert len(drawn) == 8
    assert draw("a", 1, 2).random() == draw("a", 1, 2).random()


@each("fault", ["", "it broke"])
def test_report_tells_every_fault_with_how_to_repeat_it(fault, capsys):
    report = Report("loader", 5)
    report.add(Outcome(3, "CheckpointError", "a case", fault))
    assert report.end() == bool(fault)
    assert ("python tools/fuzz.py loader --seed 5 --only 3" in capsys.readouterr().out) == bool(
        fault
    )

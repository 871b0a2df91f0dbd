"""Which files a worker elsewhere gets at once."""

import pytest

from helpers import batch_files as files
from varsr_core.batch import grouping
from varsr_core.batch.cli import parse
from varsr_core.batch.grouping import grouped
from varsr_core.batch.jobs import Picture, Segment


@pytest.fixture
def sizes_of(tmp_path):
    """Groups of files with these sides, or a film or a broken picture, as numbers of the files."""

    def made(given, *options, workers=1, gpus=True):
        jobs = []
        for number, kind in enumerate(given):
            path = tmp_path / f"{number:03}.{'mp4' if kind == 'film' else 'png'}"
            if isinstance(kind, int):
                files.save(path, files.pixels(kind, kind))
            else:
                path.write_text("no")
            names = path.name, str(path), str(path)
            span = {"begin": 0, "end": 1, "fraction": 1.0, "film_stamp": ""}
            jobs.append(Segment(*names, **span) if kind == "film" else Picture(*names))
        found = parse([str(tmp_path), str(tmp_path / "out"), *options]).options
        return [
            [int(job.name[:3]) for job in group] for group in grouped(jobs, found, workers, gpus)
        ]

    return made


def test_small_pictures_come_as_many_as_tiles_run_at_once(sizes_of):
    assert sizes_of([8] * 40) == [[*range(16)], [*range(16, 32)], [*range(32, 40)]]


def test_every_worker_has_something(sizes_of):
    assert sizes_of([8] * 6, workers=3) == [[0, 1], [2, 3], [4, 5]]


def test_pixels_of_a_group_are_bounded_by_the_size_of_the_output(sizes_of, monkeypatch):
    monkeypatch.setattr(grouping, "PIXELS_TOGETHER", 64 * 64 * 2)
    assert sizes_of([16, 16, 16, 8, 8, 32, 8]) == [[0, 1], [2, 3, 4], [5], [6]]
    assert sizes_of([16] * 8, "--scale", "2") == [[*range(8)]]


def test_a_film_is_by_itself(sizes_of):
    assert sizes_of([8, "film", 8, 8, "film"]) == [[0], [1], [2, 3], [4]]
    assert sizes_of([8, "film", 8, 8, 8], "--together", "2") == [[0], [1], [2, 3], [4]]


def test_broken_pictures_come_with_the_others(sizes_of):
    assert sizes_of([8, "broken", 8]) == [[0, 1, 2]]


def test_a_number_that_is_asked_for_is_kept_to(sizes_of):
    assert sizes_of([8, 100, 8, 8, 8], "--together", "2", gpus=False) == [[0, 1], [2, 3], [4]]
    assert sizes_of([8] * 3, "--together", "1") == [[0], [1], [2]]


def test_without_gpus_files_come_one_by_one(sizes_of):
    assert sizes_of([8] * 3, gpus=False) == [[0], [1], [2]]

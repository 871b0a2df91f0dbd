"""Films whose frames agree: in one run, in segments that run in, and on with a stopped run."""

from fractions import Fraction

import av
import numpy as np
import pytest

from helpers import batch_files as files
from helpers import film_files as films
from varsr_core.batch.films import plan as film_plan
from varsr_core.batch.films import restorer as film_restorer
from varsr_core.batch.films import unfinished
from varsr_core.batch.model import Model
from varsr_core.tiling.steady import run_in_frames

FRAMES, EACH, STEADY = 24, 8, 0.5
NOISE = 6  # of 255
SIZE = (24, 24)


@pytest.fixture
def still(tmp_path):
    """A still film with noise of its own in every frame; FFV1 keeps it as it is."""
    path, random = tmp_path / "clip.mkv", np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=films.RATE)
        video.height, video.width, video.pix_fmt = *SIZE, "bgr0"
        scene = films.frame_pixels(0, SIZE).astype(float)
        for number in range(FRAMES):
            pixels = scene + random.normal(0, NOISE, scene.shape)
            frame = av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, films.RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


@pytest.fixture
def run(tmp_path, micro_file):
    """The command; gives the frames of the last film."""

    def done(*sources, steady=0.0, output="out"):
        quick = ("--model", micro_file, *files.QUICK, "--scale", "1", "--video-codec", "ffv1")
        more = ("--steady", steady) if steady else ()
        assert files.command(*sources, tmp_path / output, *quick, *more) == 0
        return np.stack(films.shown(tmp_path / output / sources[-1].name)[1]).astype(float)

    return done


@pytest.fixture
def cut(monkeypatch):
    for module in (film_plan, unfinished):
        monkeypatch.setattr(module, "SEGMENT_FRAMES", EACH)


@pytest.fixture
def restored(monkeypatch):
    """How many frames were restored."""
    count, restore = [0], Model.restore

    def counted(model, pixels, *more):
        count[0] += len(pixels)
        return restore(model, pixels, *more)

    monkeypatch.setattr(Model, "restore", counted)
    return count


@pytest.fixture
def apart(monkeypatch):
    """Each segment by a reader of its own, as on Ray and after a run that was stopped."""
    restore = film_restorer.FilmRestorer.restore

    def anew(self, segment):
        self.reader = None
        return restore(self, segment)

    monkeypatch.setattr(film_restorer.FilmRestorer, "restore", anew)


def test_segments_of_one_run_are_the_whole_film_to_the_bit(still, run, cut, restored, monkeypatch):
    found = run(still, steady=STEADY)
    assert restored == [FRAMES]
    monkeypatch.undo()
    whole = run(still, steady=STEADY, output="whole")
    assert np.array_equal(found, whole)
    assert not np.array_equal(whole, run(still, output="plain"))


def test_segments_that_begin_anew_run_in_on_the_frames_before(still, run, cut, apart, restored):
    found = run(still, steady=STEADY)
    begins = range(0, FRAMES, EACH)  # with as many frames before them as there are
    assert restored == [FRAMES + sum(min(run_in_frames(STEADY), begin) for begin in begins)]
    assert np.array_equal(found[:EACH], run(still, steady=STEADY, output="again")[:EACH])
    assert len(found) == FRAMES


def test_frames_by_themselves_need_no_run_in(still, run, cut, apart, restored):
    run(still)
    assert restored == [FRAMES]


def test_another_strength_is_another_film_and_none_is_what_it_was(still, run, restored):
    run(still)
    run(still, steady=0)
    assert restored == [FRAMES]
    run(still, steady=STEADY)
    assert restored == [2 * FRAMES]


def test_a_film_begins_as_if_it_were_alone(still, run, tmp_path):
    earlier = tmp_path / "earlier.mkv"
    earlier.write_bytes(still.read_bytes())
    alone = run(still, steady=STEADY)
    assert np.array_equal(run(earlier, still, steady=STEADY, output="both"), alone)

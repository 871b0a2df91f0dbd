"""Which files are found, in which order, and what their results are called."""

from pathlib import Path

import pytest

from helpers import batch_files as files
from helpers.each import each
from varsr_core.batch.inputs import find_jobs
from varsr_core.batch.jobs import Film
from varsr_core.batch.naming import Naming, check_template
from varsr_core.batch.output_format import OutputFormat
from varsr_core.errors import InputError


@pytest.fixture
def tree(tmp_path):
    """Empty files will do: nothing is opened."""
    for name in (
        "in/b.png", "in/a.jpg", "in/sub/c.TIF", "in/sub/deep/d.webp", "in/clip.mov", "in/notes.doc",
        "in/.hidden.png", "in/.trash/e.png",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def naming(tree, template="{stem}", form=None, **choices):
    fields = {"scale": "4", "seed": "7", "model": "nano"}
    return Naming(tree / "out", template, form or OutputFormat(), fields, **choices)


def names(inputs, found_by, known=()):
    jobs, refused = find_jobs([str(one) for one in inputs], found_by, set(known))
    assert not refused
    return [job.name for job in jobs]


def test_folder_gives_its_pictures_and_films_with_its_tree_in_order(tree):
    jobs, _ = find_jobs([str(tree / "in")], naming(tree), set())
    assert [job.name for job in jobs] == [
        "a.jpg", "b.png", "clip.mov", "sub/c.tif", "sub/deep/d.webp",
    ]  # fmt: skip
    assert [isinstance(job, Film) for job in jobs] == [False, False, True, False, False]
    assert jobs[3].source == str(tree / "in/sub/c.TIF")
    assert jobs[3].output == str(tree / "out/sub/c.tif")


def test_output_folder_inside_the_input_is_no_input(tree):
    (tree / "in/out").mkdir()
    (tree / "in/out/b.png").touch()
    inside = Naming(tree / "in/out", "{stem}", OutputFormat())
    assert names([tree / "in"], inside)[:2] == ["a.jpg", "b.png"]
    assert "out/b.png" not in names([tree / "in"], inside)
    assert "out/b.png" in names([tree / "in"], naming(tree))


def test_output_folder_that_is_the_input_is_refused(tree):
    with pytest.raises(InputError, match="input and output"):
        find_jobs([str(tree / "in")], Naming(tree / "in", "{stem}", OutputFormat()), set())


def test_results_of_earlier_runs_are_no_inputs(tree):
    beside = Naming(tree / "in", "{stem}_x4", OutputFormat())
    (tree / "in/b_x4.png").touch()
    pattern = tree / "in/*.png"
    assert names([tree / "in/b.png", tree / "in/b_x4.png"], beside, {tree / "in/b_x4.png"}) == [
        "b_x4.png"
    ]
    assert names([pattern], naming(tree)) == ["b.png", "b_x4.png"]


def test_pattern_keeps_the_tree_below_its_fixed_part(tree):
    assert names([tree / "in/**/*.*"], naming(tree)) == [
        "a.jpg", "b.png", "clip.mov", "sub/c.tif", "sub/deep/d.webp",
    ]  # fmt: skip
    assert names([tree / "in/s*/*.TIF"], naming(tree)) == ["sub/c.tif"]


def test_pattern_that_matches_nothing_is_refused(tree):
    with pytest.raises(InputError, match="matches no picture"):
        find_jobs([str(tree / "in/*.gif")], naming(tree), set())


def test_list_keeps_the_tree_below_its_folder(tree, tmp_path):
    other = tmp_path / "elsewhere.png"
    other.touch()
    (tree / "in/list.txt").write_text(f"sub/c.TIF\n\n{tree / 'in/b.png'}\n../elsewhere.png\n")
    jobs, _ = find_jobs([str(tree / "in/list.txt")], naming(tree), set())
    assert [job.name for job in jobs] == ["sub/c.tif", "b.png", "elsewhere.png"]
    assert [Path(job.source) for job in jobs] == [tree / "in/sub/c.TIF", tree / "in/b.png", other]


def test_same_file_by_two_ways_is_one_job(tree):
    assert names([tree / "in/b.png", tree / "in/*.png", tree / "in/b.png"], naming(tree)) == [
        "b.png"
    ]


def test_named_file_of_another_kind_is_told_and_ends_nothing(tree):
    jobs, refused = find_jobs(
        [str(tree / "in/notes.doc"), str(tree / "in/b.png")], naming(tree), set()
    )
    assert [job.name for job in jobs] == ["b.png"]
    ((job, error),) = refused
    assert job.name == job.source == "notes.doc"
    assert ".doc is none of" in str(error)


def test_missing_input_is_refused(tree):
    with pytest.raises(InputError, match="no file or folder"):
        find_jobs([str(tree / "in/none.png")], naming(tree), set())


def test_names_follow_the_template(tree):
    made = naming(tree, "{stem}_x{scale}_{suffix}_{seed}_{model}", OutputFormat("tiff"))
    assert names([tree / "in/a.jpg", tree / "in/clip.mov"], made) == [
        "a_x4_jpg_7_nano.tif", "clip_x4_mov_7_nano.mov",
    ]  # fmt: skip


def test_results_of_one_name_are_refused_before_the_work(tree):
    (tree / "in/b.jpg").touch()
    with pytest.raises(InputError, match="would both become"):
        find_jobs([str(tree / "in")], naming(tree, form=OutputFormat("png")), set())
    apart = naming(tree, "{stem}_{suffix}", OutputFormat("png"))
    assert "b_jpg.png" in names([tree / "in"], apart)


def test_result_over_an_input_is_refused(tree):
    with pytest.raises(InputError, match="written over"):
        find_jobs([str(tree / "in/b.png")], Naming(tree / "in", "{stem}", OutputFormat()), set())


@each("template", ["x", "{stem", "{stem}/{seed}", "{other}", "{stem}\\", ".{stem}"])
def test_template_that_gives_no_name_is_refused(template):
    with pytest.raises(InputError, match="name"):
        check_template(template)


def test_every_picture_has_its_mask_in_a_folder_of_masks(tree):
    (tree / "masks").mkdir()
    jobs, _ = find_jobs([str(tree / "in/*/*.TIF")], naming(tree, mask=tree / "masks"), set())
    assert jobs[0].mask == str(tree / "masks/sub/c.png")


def test_one_mask_is_for_all(tree):
    mask = files.save(tree / "mask.png", files.pixels())
    jobs, _ = find_jobs([str(tree / "in")], naming(tree, mask=mask), set())
    assert {job.mask for job in jobs} == {str(mask)}

"""A run's folder says what repeats it; measures on the way; curves where TensorBoard is there."""

import csv
import json
import sys
import types

import pytest
import torch
from PIL import Image

from helpers import models
from helpers.each import each
from helpers.training import SIZES, broken_off, settings, trained
from varsr_core.errors import InputError
from varsr_core.training import __main__ as command
from varsr_core.training.config import TrainingConfig, from_plain
from varsr_core.training.record import evaluation
from varsr_core.training.record.entries import RECORD_FILE, file_hash, listing, read_record
from varsr_core.training.record.evaluation import EVALUATION_FILE, Evaluation
from varsr_core.training.record.log import StepLog
from varsr_core.training.run import MODEL_FILE, Training
from varsr_core.varsr.restorer import VARSRRestorer


def save(folder, count, height, width):
    folder.mkdir(parents=True)
    for seed in range(count):
        picture = models.picture(height, width, seed=seed)[0].permute(1, 2, 0)
        Image.fromarray(picture.mul(255).round().byte().numpy()).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "pictures", 4, 16, 20)


@pytest.fixture
def pair(tmp_path):
    return save(tmp_path / "low", 1, 10, 10), save(tmp_path / "high", 1, 20, 20)


def config(steps=4, **others):
    return TrainingConfig(sizes=SIZES, isr=settings(steps, average=0.5), **others)


def test_record_tells_what_a_run_was_and_every_time_it_went_on(folder, tmp_path, monkeypatch):
    run, chosen = tmp_path / "run", TrainingConfig(sizes=SIZES, tokenizer=settings(1), seed=7)
    monkeypatch.setattr(sys, "argv", ["training", "--config", "x"])
    Training(chosen, run, [folder], [])
    first = read_record(run)
    assert len(first) == 1
    entry = first[0]
    assert entry["command"] == ["training", "--config", "x"]
    assert entry["seed"] == 7
    assert entry["versions"]["torch"] == torch.__version__
    assert entry["versions"]["pack"], "the version in pyproject.toml"
    assert (entry["processes"], entry["device"]) == (1, "cpu")
    assert entry["data"]["high"] == listing([folder])
    assert entry["data"]["high"]["files"] == 4
    assert entry["start"] == {}
    Training(chosen, run, [folder], []).run()
    assert read_record(run)[:1] == first
    assert len(read_record(run)) == 2
    assert from_plain(TrainingConfig, entry["recipe"], "record") == chosen, "it can be run again"

    start = run / MODEL_FILE
    Training(chosen, tmp_path / "tuned", [folder], [], start)
    assert read_record(tmp_path / "tuned")[0]["start"] == {MODEL_FILE: file_hash(start)}


def test_hash_of_data_knows_other_names_and_sizes_not_other_places(folder, tmp_path):
    before = listing([folder])["sha256_of_names_and_sizes"]
    moved = folder.rename(tmp_path / "elsewhere")
    assert listing([moved])["sha256_of_names_and_sizes"] == before
    (moved / "0.png").rename(moved / "9.png")
    renamed = listing([moved])["sha256_of_names_and_sizes"]
    with (moved / "1.png").open("ab") as file:
        file.write(b"\0")
    assert len({before, renamed, listing([moved])["sha256_of_names_and_sizes"]}) == 3


def test_tables_that_settings_name_are_hashed(folder, tmp_path):
    """Any setting may be the path of a file."""
    table = tmp_path / "table.csv"
    table.write_text("0.png,1\n")
    chosen = TrainingConfig(sizes={**SIZES, "named": str(table)}, isr=settings(1))
    Training(chosen, tmp_path / "run", [folder], [])
    assert read_record(tmp_path / "run")[0]["tables"] == {str(table): file_hash(table)}


def rows(path):
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Runs that were measured on the way, whole and broken, and one that was not; and how."""
    place = tmp_path_factory.mktemp("measured")
    folder = save(place / "pictures", 4, 16, 20)
    found = Evaluation(save(place / "low", 1, 10, 10), save(place / "high", 1, 20, 20))
    chosen = config(steps=5, evaluate_every=2)

    def training(name, **given):
        return Training(chosen, place / name, [folder], [], **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("varsr_core.training.run.save_samples", lambda *given: None)  # slow
        training("plain").run()
        training("whole", evaluation=found).run()
        with broken_off(steps=3):
            training("broken", evaluation=found).run()
        for _ in range(2):  # and once more when it is done
            assert training("broken", evaluation=found).run()
    return place, found


def test_pictures_are_measured_every_few_steps(measured):
    found = rows(measured[0] / "whole" / "isr" / EVALUATION_FILE)
    assert [row["step"] for row in found] == [2, 4, 5]
    assert found[0]["psnr"] != found[2]["psnr"]
    assert all(5 < row["psnr"] < 60 and -1 <= row["ssim"] <= 1 for row in found)
    assert all(row["niqe"] != row["niqe"] for row in found), "too small for NIQE"


def test_a_run_that_goes_on_is_measured_at_the_same_steps(measured):
    whole, broken = (
        (measured[0] / name / "isr" / EVALUATION_FILE).read_text() for name in ("whole", "broken")
    )
    assert broken == whole


def test_measuring_changes_nothing_of_what_is_learned(measured):
    plain, whole = ((measured[0] / name / MODEL_FILE).read_bytes() for name in ("plain", "whole"))
    assert plain == whole


def test_measures_are_of_the_averaged_model_that_is_saved(measured):
    place, found = measured
    row = rows(place / "whole" / "isr" / EVALUATION_FILE)[-1]
    with torch.no_grad():
        again = found(VARSRRestorer(trained(place / "whole")))
    assert row["psnr"] == pytest.approx(again["psnr"], abs=1e-6)


def test_pictures_that_do_not_fit_are_refused(tmp_path, pair):
    low, high = pair
    with pytest.raises(InputError, match="whole multiple"):
        Evaluation(low, save(tmp_path / "odd", 1, 19, 20))
    (high / "0.png").rename(high / "5.png")
    with pytest.raises(InputError, match=r"'0' and 1 others"):
        Evaluation(low, high)


def test_without_the_measures_a_sentence_says_so(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "ROOT", tmp_path)
    with pytest.raises(InputError, match="a clone of the repository"):
        Evaluation(*pair)


class Writer:
    """What torch.utils.tensorboard has, as far as it is used."""

    def __init__(self, folder, purge_step):
        self.folder, self.purge_step, self.points = folder, purge_step, []

    def add_scalar(self, name, value, step):
        self.points.append((name, value, step))

    def flush(self):
        pass


def test_curves_are_drawn_where_tensorboard_is_there(tmp_path, monkeypatch):
    made = []
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = lambda *given, **named: made.append(Writer(*given, **named)) or made[-1]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    log = StepLog(tmp_path, "log.csv")
    log.add({"step": 3, "loss": 0.5})
    log.add({"step": 4, "loss": 0.25})
    measured = StepLog(tmp_path, EVALUATION_FILE)
    measured.add({"step": 4, "psnr": 20.0})
    first, second = made
    assert first.folder == second.folder == str(tmp_path / "events")
    assert first.purge_step == 3, "points of a broken run from there on go"
    assert first.points == [("loss", 0.5, 3), ("loss", 0.25, 4)]
    assert second.points == [("evaluation/psnr", 20.0, 4)]


def test_without_tensorboard_there_is_the_table_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    StepLog(tmp_path, "log.csv").add({"step": 1, "loss": 0.5})
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
    assert rows(tmp_path / "log.csv") == [{"step": 1, "loss": 0.5}]


@each("torn", ["", "1", "3,0.", "x"])
def test_rows_after_a_checkpoint_go_and_so_does_a_torn_one(tmp_path, torn):
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n1,0.5\n2,0.5\n12,0.5\n" + torn)
    log = StepLog(tmp_path, "log.csv")
    log.cut(20)
    assert path.read_text() == "step,loss\n1,0.5\n2,0.5\n12,0.5\n"
    log.cut(2)
    assert path.read_text() == "step,loss\n1,0.5\n2,0.5\n"


def said(monkeypatch, caplog, *arguments):
    monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
    with caplog.at_level("INFO"):
        code = command.main()
    return code, caplog.text


def test_command_says_the_memory_of_a_recipe(tmp_path, monkeypatch, caplog):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps({"sizes": SIZES, "isr": {"steps": 1, "batch": 8}}))
    code, text = said(monkeypatch, caplog, "--config", path, "--memory")
    assert code == 0
    assert "8 x 80 GB" in text
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.json"]


def test_command_evaluates(folder, tmp_path, pair, monkeypatch, caplog):
    monkeypatch.setattr("varsr_core.training.run.save_samples", lambda *given: None)
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps({"sizes": SIZES, "isr": {"steps": 1, "batch": 2}}))
    arguments = ["--config", path, "--data", folder, "--out", tmp_path / "run", "--device", "cpu"]
    code, text = said(monkeypatch, caplog, *arguments, "--evaluate", *pair)
    assert code == 0
    assert "psnr" in text
    assert "a step takes" in text, "before it is taken"
    assert (tmp_path / "run" / RECORD_FILE).is_file()


def test_command_asks_for_pictures_and_a_folder(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["training", "--config", "nano"])
    with pytest.raises(SystemExit):
        command.main()
    assert "--data, --out" in capsys.readouterr().err

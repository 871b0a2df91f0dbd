"""tools/metrics/networks.py: measures of pyiqa, by a stand-in; their weights cannot be had here."""

import socket
import sys
import types
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tools.metrics import networks, scoring
from tools.metrics.case import Case
from tools.metrics.catalogue import REFERENCE
from varsr_core.errors import InputError

PAIRED = ("lpips", "dists", "topiq_fr")


class StandIn:
    """As much of pyiqa as is used: measures are means, and some want a file that is far away."""

    def __init__(self):
        self.far, self.asked, self.made = set(), [], []

    def list_models(self):
        return ["lpips", "dists", "musiq", "maniqa", "clipiqa", "fid", "topiq_fr", "brisque"]

    def create_metric(self, name, device):
        self.made.append((name, device))
        if name in self.far:
            self.asked.append(name)
            urllib.request.urlopen(f"http://{name}.invalid/weights.pth", timeout=1)
        if name == "maniqa":
            return Drawn()
        return Folders() if name == "fid" else Mean(name)


class Mean:
    def __init__(self, name):
        self.metric_mode = "FR" if name in PAIRED else "NR"
        self.lower_better = name in ("lpips", "dists", "brisque")

    def __call__(self, result, reference=None):
        assert result.shape[:2] == (1, 3)
        assert result.min() >= 0
        assert result.max() <= 1
        assert (reference is not None) == (self.metric_mode == "FR")
        return result.mean()[None, None] - (0 if reference is None else reference.mean())


class Drawn(Mean):
    """Looks at a crop drawn at random."""

    def __init__(self):
        super().__init__("maniqa")

    def __call__(self, result, reference=None):
        return torch.rand(1)


class Folders:
    lower_better, metric_mode = True, "FR"

    def __call__(self, results, references):
        means = []
        for folder in (results, references):
            files = sorted(Path(folder).iterdir())
            means.append([np.asarray(Image.open(file)).mean() for file in files])
        assert len(means[0]) == len(means[1])
        return abs(np.mean(means[0]) - np.mean(means[1]))


@pytest.fixture
def pyiqa(monkeypatch):
    found = StandIn()
    module = types.ModuleType("pyiqa")
    module.create_metric, module.list_models = found.create_metric, found.list_models
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    return found


def grey(value, size=(20, 12)):
    return Image.new("RGB", size, (value, value, value))


def load(*names, given=(REFERENCE,), fetch=False):
    return scoring.load(names, given, lenient=False, fetch=fetch, device="cpu")


def test_networks_are_given_colours_and_their_means_are_told(pyiqa):
    cases = {
        "a": lambda: Case(grey(102), grey(51)),
        "b": lambda: Case(grey(204), grey(204)),
    }
    rows = scoring.score(load("lpips", "musiq"), cases)
    assert rows["a"] == pytest.approx({"LPIPS": 0.2, "MUSIQ": 0.4})
    assert rows["b"] == pytest.approx({"LPIPS": 0, "MUSIQ": 0.8}, abs=1e-6)
    assert rows["mean"] == pytest.approx({"LPIPS": 0.1, "MUSIQ": 0.6})
    assert pyiqa.made == [("lpips", torch.device("cpu")), ("musiq", torch.device("cpu"))]


def test_fid_is_of_all_pictures_together(pyiqa):
    cases = {
        "inner/a": lambda: Case(grey(100), grey(50)),
        "b": lambda: Case(grey(200, (9, 9)), grey(110, (9, 9))),
    }
    rows = scoring.score(load("fid"), cases)
    assert rows == {"inner/a": {}, "b": {}, "mean": {"FID": 70.0}}


def test_what_is_drawn_at_random_is_the_same_each_time(pyiqa):
    cases = {"a": lambda: Case(grey(100))}
    first, second = (scoring.score(load("maniqa"), cases)["a"]["MANIQA"] for _ in range(2))
    assert first == second


def test_any_other_measure_of_pyiqa_says_itself_what_it_needs(pyiqa):
    paired, alone = (one.metric for one in load("pyiqa:topiq_fr", "pyiqa:brisque"))
    assert (paired.needs, paired.more) == ((REFERENCE,), True)
    assert (alone.needs, alone.more) == ((), False)
    with pytest.raises(InputError, match=r"pyiqa:topiq_fr needs a folder of references"):
        load("pyiqa:topiq_fr", given=())
    with pytest.raises(InputError, match="pyiqa has no psnrq; it has lpips, dists"):
        load("pyiqa:psnrq")


def test_weights_that_are_missing_are_named_all_at_once_and_nothing_is_fetched(pyiqa):
    pyiqa.far = {"lpips", "musiq"}
    known = socket.getaddrinfo, socket.socket.connect
    with pytest.raises(InputError) as told:
        load("lpips", "dists", "musiq")
    text = str(told.value)
    assert "2 measures are not on this machine" in text
    assert "lpips (from lpips.invalid), musiq (from musiq.invalid)" in text
    assert "dists" not in text
    assert "--fetch" in text
    assert "noncommercial" in text
    assert (socket.getaddrinfo, socket.socket.connect) == known


def test_a_connection_by_number_is_refused_too(pyiqa, monkeypatch):
    def build(name, device):
        with socket.create_connection(("127.0.0.1", 9), timeout=1):
            pass

    monkeypatch.setattr(sys.modules["pyiqa"], "create_metric", build)
    with pytest.raises(InputError, match=r"lpips \(from 127\.0\.0\.1\)"):
        load("lpips")


def test_the_client_of_hugging_face_is_offline_meanwhile_and_what_it_lacks_named(
    pyiqa, monkeypatch
):
    constants = pytest.importorskip("huggingface_hub").constants
    errors = pytest.importorskip("huggingface_hub.errors")
    found = []

    def build(name, device):
        found.append(constants.HF_HUB_OFFLINE)
        try:
            raise errors.OfflineModeIsEnabled("offline")
        except errors.OfflineModeIsEnabled as error:
            raise RuntimeError("no weights") from error

    monkeypatch.setattr(sys.modules["pyiqa"], "create_metric", build)
    with pytest.raises(InputError, match=r"maniqa \(from huggingface\.co\)"):
        load("maniqa")
    assert found == [True]
    assert not constants.HF_HUB_OFFLINE


def test_asked_to_fetch_connections_are_let_through_and_failures_named(pyiqa, monkeypatch):
    pyiqa.far = {"lpips"}
    opened = []

    def urlopen(address, timeout):
        opened.append(address)
        raise OSError("the network is down")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(InputError, match=r"could not be fetched or built: lpips \(the network is"):
        load("lpips", "dists", fetch=True)
    assert opened == ["http://lpips.invalid/weights.pth"]


def test_what_fails_without_asking_the_network_is_told_as_it_is(pyiqa, monkeypatch):
    def build(name, device):
        raise RuntimeError("a broken file")

    monkeypatch.setattr(sys.modules["pyiqa"], "create_metric", build)
    with pytest.raises(InputError, match="lpips: pyiqa could not build it: a broken file"):
        load("lpips")


def test_without_pyiqa_its_requirements_and_licence_are_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(InputError) as told:
        load("lpips", "musiq")
    assert "lpips, musiq" in str(told.value)
    assert "requirements-metrics.txt" in str(told.value)
    assert "noncommercial" in str(told.value)


def test_our_own_measures_do_not_ask_for_pyiqa(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    assert [one.metric.title for one in load("psnr", "niqe", "psnr")] == ["PSNR-Y", "NIQE"]


def test_the_module_says_the_licence_in_its_requirements_and_help():
    from tools.metrics.texts import HELP

    requirements = (Path(networks.__file__).parents[1] / "requirements-metrics.txt").read_text()
    for text in (HELP, requirements):
        assert "noncommercial" in text
        assert "PolyForm" in " ".join(text.split())
    assert "Never run by" in HELP

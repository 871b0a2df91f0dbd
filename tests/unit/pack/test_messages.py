"""Messages of the nodes: patterns that are read off the source, and their translations."""

from __future__ import annotations

import re

import pytest
import torch

from helpers.each import each
from tools.generate.messages import NESTED, PLACE, matched, patterns
from tools.generate.source_texts import Place, Source
from tools.generate.translating import LANGUAGES, SOURCE, read_table
from varsr_core.batch.films.reader import open_film
from varsr_core.batch.output_format import OutputFormat
from varsr_core.checkpoint import load_model
from varsr_core.download import fetching
from varsr_core.download.release import released_model
from varsr_core.download.remote import FetchError
from varsr_core.errors import CheckpointError, InputError
from varsr_core.files.tensors import check_space
from varsr_core.images.check import check_tensor
from varsr_core.images.output_size import OutputSize
from varsr_core.tiling.grid import TileGrid, TileIndex
from varsr_core.tiling.overflow import check_decoded
from varsr_core.tiling.stages import check_made_by
from varsr_core.upscaling import UpscaleSettings
from varsr_core.varsr.config import infer_config
from varsr_core.varsr.settings import RefineSettings

PATTERNS = patterns()
TRANSLATED = [language for language in LANGUAGES if language != SOURCE]
SCRIPTS = {"zh": r"[\u4e00-\u9fff]", "ja": r"[\u3040-\u30ff\u4e00-\u9fff]", "ko": r"[가-힣]"}


def table(language):
    return read_table(f"messages/{language}")


@each("language", TRANSLATED)
def test_every_pattern_has_a_translation_and_none_is_unused(language):
    assert list(table(language)) == list(PATTERNS), "in the order of tools/generate/messages.py"


@each("language", TRANSLATED)
def test_translation_fills_in_all_that_the_pattern_has(language):
    for pattern, translation in table(language).items():
        assert sorted(PLACE.findall(translation)) == sorted(PLACE.findall(pattern)), pattern


@each("language", TRANSLATED)
def test_translation_is_in_its_language(language):
    sentences = {english: text for english, text in table(language).items() if " " in english}
    assert sentences.pop(NESTED) == NESTED
    for english, text in sentences.items():
        assert re.search(SCRIPTS[language], text), english


@each("pattern", PATTERNS)
def test_no_pattern_takes_the_messages_of_another(pattern):
    for values in ("p{}", "C:\\models\\{}.pth", "(1,{})"):
        parts = [values.format(name) for name in PLACE.findall(pattern)]
        told = pattern
        for name, part in enumerate(parts, 1):
            told = told.replace(f"{{{name}}}", part)
        assert matched(told, PATTERNS) == (pattern, parts)
        assert matched(f"\n{told}\n", PATTERNS) == (pattern, parts)


def test_what_is_no_message_of_ours_has_no_pattern():
    for text in ("out of memory", "expected scalar type Half but found Float", "", "x" * 5000):
        assert matched(text, PATTERNS) is None


def raised(call):
    with pytest.raises((InputError, CheckpointError)) as caught:
        call()
    return str(caught.value)


def test_message_of_a_setting_is_told_apart():
    told = raised(lambda: OutputSize("longer side", 0.0))
    pattern = "{1} is {2}; a finite number above 0 is expected"
    assert matched(told, PATTERNS) == (pattern, ["longer side", "0.0"])
    told = raised(lambda: RefineSettings(steps=1))
    assert matched(told, PATTERNS) == ("{1} is {2}; 2 to {3} is expected", ["steps", "1", "1000"])
    told = raised(lambda: UpscaleSettings(feather=-3))
    assert matched(told, PATTERNS) == ("feather is {1}; 0 pixels or more are expected", ["-3"])
    told = raised(lambda: OutputFormat(crf=99))
    assert matched(told, PATTERNS) == (
        "{1} is {2}; {3} to {4} is expected",
        ["crf", "99", "0", "51"],
    )


def test_words_of_ours_that_are_filled_in_have_patterns():
    told = raised(lambda: check_tensor(torch.zeros(2, 3), "image", "(B, H, W, C)"))
    pattern, parts = matched(told, PATTERNS)
    assert pattern == "{1} is {2}; {3} of {4} is expected. {5}"
    name, found, axes, numbers, hint = parts
    assert (name, axes) == ("image", "(B, H, W, C)")
    assert matched(found, PATTERNS) == ("a tensor {1} of {2}", ["(2, 3)", "float32"])
    assert numbers in PATTERNS
    assert hint in PATTERNS
    grids = TileIndex([TileGrid(8, 8, tile=8, overlap=0)] * 2)
    told = raised(
        lambda: check_decoded([torch.zeros(3, 8, 8), torch.full((3, 8, 8), torch.nan)], grids)
    )
    pattern, parts = matched(told, PATTERNS)
    assert pattern.startswith("tile {1} of {2}, picture {3} of those restored together, has NaN")
    assert parts == ["1", "1", "2", "decode"]
    told = raised(lambda: check_made_by("a" * 40, "prefix", "b" * 40, "Load VARSR Model"))
    pattern, parts = matched(told, PATTERNS)
    assert parts == ["prefix", "aaaaaaaa", "bbbbbbbb", "Load VARSR Model"]
    assert parts[-1] in PATTERNS


def test_message_of_a_file_names_it_and_what_is_wrong(tmp_path):
    missing = tmp_path / "missing.safetensors"
    told = raised(lambda: load_model(missing))
    pattern = "there is no file {1}; put it there, or choose another"
    assert matched(told, PATTERNS) == (pattern, [str(missing)])
    pattern, parts = matched(raised(lambda: load_model(tmp_path)), PATTERNS)
    assert pattern == "{1} is {2}, there is no file of that name; choose a file"
    assert parts == [str(tmp_path), "a folder"]
    assert parts[1] in PATTERNS
    foreign = tmp_path / "sd.pth"
    torch.save({"model.diffusion_model.x": torch.zeros(1)}, foreign)
    pattern = "{1} is a Stable Diffusion checkpoint; use the Load Checkpoint node"
    assert matched(raised(lambda: load_model(foreign)), PATTERNS) == (pattern, ["sd.pth"])
    tokenizer = tmp_path / "VQVAE.pth"
    torch.save({"quantize.quant_resi.qresi_ls.0.weight": torch.zeros(1)}, tokenizer)
    pattern, (name, inner) = matched(raised(lambda: load_model(tokenizer)), PATTERNS)
    assert (pattern, name) == (NESTED, "VQVAE.pth")
    assert matched(inner, PATTERNS)[0].startswith("this is only the tokenizer")
    pattern, (inner,) = matched(raised(lambda: infer_config({"schedule": torch.ones(2)})), PATTERNS)
    assert pattern == "the VARSR weights lack the tensor {1}"
    assert inner.startswith("'encoder.")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert raised(lambda: open_film(str(empty))) in PATTERNS


def test_message_of_a_download_is_told_apart(tmp_path, monkeypatch):
    pattern, parts = matched(raised(lambda: check_space(tmp_path / "x", 1e18)), PATTERNS)
    assert pattern.startswith("{1} needs {2} GB, the disk has {3} GB free")
    assert parts[:2] == [str(tmp_path / "x"), "1000000000.00"]

    def fetch(may_fetch):
        with released_model([tmp_path], may_fetch=may_fetch):
            pass

    pattern, parts = matched(raised(lambda: fetch(False)), PATTERNS)
    assert pattern.startswith("the released model is not in {1}; turn on download")
    assert parts[:3] == [str(tmp_path), "VQVAE.pth and VARSR.pth", "15.1"]

    def failing(*_):
        raise FetchError("VARSR.pth could not be fetched (404; not found)")

    monkeypatch.setattr(fetching, "Repository", failing)
    pattern, (inner, *_) = matched(raised(lambda: fetch(True)), PATTERNS)
    assert pattern.startswith("{1}, or fetch {2} from {3}/{4} by hand")
    pattern, parts = matched(inner, PATTERNS)
    assert pattern.endswith("could not be fetched ({2}); try again (it goes on where it stopped)")
    assert parts == ["VARSR.pth", "404; not found"]


SAMPLE = """
REMEDY = "copy it again"
KINDS = ((1, "a pipe"), (2, "a device"))

def check(path, what=""):
    for number, words in KINDS:
        raise InputError(f"{path} is {words}")
    text = f"{what or path} is damaged: {REMEDY}"
    if number:
        text += f" ({number})"
    raise InputError(text)

def caller(path):
    check(path, "the whole film")
    check(path, "film")
"""


def test_texts_are_followed_through_names_calls_and_choices(tmp_path):
    (tmp_path / "sample.py").write_text(SAMPLE)
    source = Source([tmp_path / "sample.py"], tmp_path)

    def texts(call):
        module, node = call
        scope = source.scope_of(module, node)
        return [show(text) for text in source.texts(node.args[0], scope)]

    def show(text):
        return "".join("{}" if isinstance(part, Place) else part for part in text)

    first, second = sorted(source.calls["InputError"], key=lambda call: call[1].lineno)
    assert texts(first) == ["{} is {}"]
    (spelled,) = source.texts(first[1].args[0], source.scope_of(*first))
    words = spelled[-1]
    assert [show(text) for text in source.texts(words.value, words.scope)] == ["a pipe", "a device"]
    assert texts(second) == [
        "{} is damaged: copy it again",
        "{} is damaged: copy it again ({})",
    ]
    (place, *_) = source.texts(second[1].args[0], source.scope_of(*second))[0]
    filled = {show(text) for text in source.texts(place.value, place.scope)}
    assert filled == {"the whole film", "{}"}

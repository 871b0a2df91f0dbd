"""The options of the command; each is named and means the same as in the VARSR Upscale node."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint import DEFAULT_FAMILY, FAMILIES
from ..errors import InputError
from ..family import CUSTOM, Family
from ..images.output_size import SIZE_MODES, OutputSize
from ..runtime.dtypes import DTYPE_CHOICES
from ..settings import COLOR_CHOICES, UpscaleSettings
from ..tiling.consistency import TILING_MODES, Tiling
from .disk import absolute
from .help_texts import DESCRIPTION, FILMS
from .naming import FIELDS, Naming
from .options import Options
from .output_format import (
    AUDIO_CHOICES,
    CODEC_CHOICES,
    CONTAINER_CHOICES,
    DEINTERLACE_CHOICES,
    DEPTHS,
    FORMATS,
    OutputFormat,
)

DEFAULT_MODEL = "default"
MAX_SEED = 2**64 - 1
LOCAL = "local"


@dataclass(frozen=True)
class Command:
    """What the user asked for.

    ray: address of a cluster, LOCAL for one of this machine alone, None for no Ray
    workers: on Ray; 0 for one per GPU, or per CPU where there is none
    """

    inputs: list[str]
    naming: Naming
    options: Options
    as_json: bool
    ray: str | None
    workers: int
    overwrite: bool


def parse(arguments: Sequence[str]) -> Command:
    """Raises InputError for values that cannot be used; exits on --help and misspelt options."""
    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument("--family", choices=FAMILIES, default=DEFAULT_FAMILY)
    family = FAMILIES[chosen.parse_known_args(arguments)[0].family]
    parser = argparse.ArgumentParser(
        prog="python -m varsr_core.batch",
        description=DESCRIPTION,
        parents=[chosen],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_files(parser)
    _add_restoring(parser, family)
    family.add_to(parser)
    _add_running(parser)
    found = parser.parse_args(arguments)
    _set_preset(found, family, parser)
    model = _model(found.model, found.family)
    by_scale = found.size_by == OutputSize.mode
    size = OutputSize(found.size_by, found.scale if by_scale else found.target)
    options = Options(
        found.family,
        model,
        family.choices(found),
        size,
        UpscaleSettings(
            Tiling(found.tiling, found.overlap),
            found.color_fix,
            found.color_strength,
            found.feather,
            found.fidelity,
            found.shrink_first,
            found.steady,
        ),
        _in_range("seed", found.seed, 0, MAX_SEED),
        OutputFormat(
            found.format,
            found.depth,
            found.quality,
            found.crf,
            found.video_codec,
            found.audio,
            found.deinterlace,
            found.container,
        ),
        found.dtype,
        found.device,
        _in_range("threads", found.threads, 0, 4096),
        _in_range("together", found.together, 0, 4096),
    )
    fields = {"scale": f"{size.value:g}", "seed": str(found.seed), "model": Path(model).stem}
    mask = None if found.mask is None else absolute(Path(found.mask))
    naming = Naming(absolute(Path(found.output)), found.name, options.form, fields, mask)
    workers = _in_range("workers", found.workers, 0, 4096)
    return Command(found.inputs, naming, options, found.json, found.ray, workers, found.overwrite)


def _set_preset(found: argparse.Namespace, family: Family, parser: argparse.ArgumentParser) -> None:
    """Puts the values of the preset in. Raises InputError where the user gives others."""
    for name, value in family.presets.get(found.preset, {}).items():
        given = getattr(found, name)
        if given not in (parser.get_default(name), value):
            flag = name.replace("_", "-")
            raise InputError(
                f"--preset {found.preset} sets --{flag}, and {given} is given for it; leave one of "
                f"them out, or choose --preset {CUSTOM}"
            )
        setattr(found, name, value)


def _model(asked: str, family: str) -> str:
    """Path of the model file."""
    default = FAMILIES[family].default
    if asked != DEFAULT_MODEL:
        return os.path.abspath(asked)
    if default is None:
        raise InputError(f"no model of {family} comes with the pack; name its file with --model")
    return str(default)


def _in_range(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; {low} to {high} is expected")
    return value


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="file, folder (its tree is kept), pattern, or .txt with a path a line",
    )
    parser.add_argument("output", metavar="OUTPUT", help="folder; it also keeps the journal")
    group = parser.add_argument_group("results")
    fields = ", ".join(f"{{{name}}}" for name in FIELDS)
    group.add_argument(
        "--name", default="{stem}", help=f"of results, without suffix, with {fields}"
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files in the places of results that earlier runs did not write; inputs are "
        "never replaced",
    )
    form = OutputFormat()
    for flag, choices, default, text in (
        ("--format", FORMATS, form.picture, "of pictures"),
        ("--depth", DEPTHS, form.depth, "bits per channel, 16 for PNG and TIFF only"),
    ):
        group.add_argument(
            flag, choices=choices, default=default, help=f"{text} (default: %(default)s)"
        )
    group.add_argument(
        "--quality",
        type=int,
        default=form.quality,
        help="of JPEG and WebP, 1 to 100; WebP is lossless at 100 (default: %(default)s)",
    )
    group.add_argument(
        "--crf",
        type=int,
        default=form.crf,
        help="of films, 0 (lossless, large) to 51 (default: %(default)s)",
    )
    _add_films(parser)


def _add_films(parser: argparse.ArgumentParser) -> None:
    group, form = parser.add_argument_group("films", FILMS), OutputFormat()
    for flag, choices, default, text in (
        ("--video-codec", CODEC_CHOICES, form.video_codec, "auto: libx264, in .webm libvpx-vp9; "
         "prores_ks and ffv1 keep alpha and take no --crf"),
        ("--audio", AUDIO_CHOICES, form.audio, "auto: copied where the container can hold it, else "
         "converted: to AAC in .mp4 and .mov, FLAC in .mkv, Opus in .webm"),
        ("--container", CONTAINER_CHOICES, form.container, "same: of the film's kind"),
        ("--deinterlace", DEINTERLACE_CHOICES, form.deinterlace, "auto: frames that say they are "
         "interlaced, by FFmpeg's bwdif, one frame from each"),
    ):  # fmt: skip
        group.add_argument(
            flag, choices=choices, default=default, help=f"{text} (default: %(default)s)"
        )


def _add_restoring(parser: argparse.ArgumentParser, family: Family) -> None:
    group = parser.add_argument_group("restoring")

    def add(flag: str, default: float | str, text: str, choices: Sequence[str] = ()) -> None:
        group.add_argument(
            flag,
            type=type(default),
            default=default,
            choices=choices or None,
            help=f"{text} (default: %(default)s)",
        )

    add("--model", DEFAULT_MODEL, "file of a model, or the small VARSR that comes with the pack")
    add("--dtype", "auto", "of the weights", DTYPE_CHOICES)
    add("--scale", OutputSize.value, "output size divided by input size")
    add("--size-by", OutputSize.mode, "what fixes the output size", SIZE_MODES)
    add("--target", 2048.0, "pixels or megapixels, unless --size-by is scale")
    add("--seed", 0, "the same seed for every picture and frame")
    settings = UpscaleSettings()
    presets = (CUSTOM, *family.presets)
    sets = ", ".join(f"--{name.replace('_', '-')}" for name in family.presets.get("balanced", ()))
    add("--preset", CUSTOM, f"sets {sets}, from keeping to inventing", presets)
    add("--color-fix", settings.color_fix, "how colours are matched", COLOR_CHOICES)
    add("--color-strength", settings.color_strength, "0 to 1")
    add("--tiling", settings.tiling.mode, "of what is larger than a tile", TILING_MODES)
    add("--overlap", settings.tiling.overlap, "share of a tile, 0 to 0.5")
    add("--feather", settings.feather, "pixels over which a mask fades in")
    kept = "how much of the input is kept, coarse before fine: 0 to 1; -1 as is best for the model"
    add("--fidelity", settings.fidelity, kept)
    shrink = "megapixels to which larger inputs are shrunk for the model; 0 is off"
    add("--shrink-first", settings.shrink_first, shrink)
    add("--steady", settings.steady, "of films, 0 to 1: what is still flickers less; 0 is off")
    group.add_argument(
        "--mask",
        metavar="PATH",
        help="picture, white where to restore, for all inputs; or a folder with a PNG for each, of "
        "its stem and in the same tree",
    )


def _add_running(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("running")
    group.add_argument("--device", default="auto", help="for torch, e.g. cuda:1 (default: auto)")
    group.add_argument(
        "--threads",
        type=int,
        default=0,
        help="of a CPU, for each worker; other numbers may show in the last bits (default: torch's "
        "choice, at most as many CPUs as this process may use; one on Ray)",
    )
    group.add_argument(
        "--together",
        type=int,
        default=0,
        metavar="N",
        help="pictures, or frames of a film, restored in one call, where tiles of different "
        "pictures run at once; beside others, a picture may differ in the last bits (default: as "
        "many as fill a GPU, of any size; on a CPU one)",
    )
    group.add_argument("--json", action="store_true", help="report in lines of JSON")
    group.add_argument(
        "--ray",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help="spread the work by Ray Data: over this machine, or over the cluster at ADDRESS "
        "(auto: the one this machine belongs to). Ray's processes listen on free ports of all "
        "addresses of the machine and obey those who hold the token that Ray keeps in ~/.ray",
    )
    group.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="on Ray (default: one per GPU; without GPUs one per --threads CPUs, or per CPU)",
    )

"""Inputs that all families share, so that a name means the same and a default exists once."""

from comfy_api.latest import io

from ..varsr_core.images.color_fix import COLOR_MODES
from ..varsr_core.images.output_size import SIZE_MODES, OutputSize
from ..varsr_core.tiling.consistency import TILING_MODES, Tiling
from ..varsr_core.upscaling import UpscaleSettings
from .host import MAX_SEED, advanced


def image() -> io.Input:
    return io.Image.Input(
        "image",
        tooltip="Picture to restore, in its own size: grey, RGB or RGBA, one or a batch.",
    )


def size() -> list[io.Input]:
    """How large the output is; `output_size` makes one of their values."""
    return [
        io.Float.Input(
            "scale",
            default=OutputSize.value,
            min=0.05,
            max=16.0,
            step=0.05,
            tooltip="Output size divided by input size; 1 restores without enlarging, "
            "4 is what the model was trained for. Only used while size_by is scale.",
        ),
        advanced(
            io.Combo.Input(
                "size_by",
                options=list(SIZE_MODES),
                default=OutputSize.mode,
                tooltip="What fixes the output size: the factor `scale`, or `target` as the "
                "pixels of one side or as megapixels; the aspect is always kept.",
            )
        ),
        advanced(
            io.Float.Input(
                "target",
                default=2048.0,
                min=0.01,
                max=16384.0,
                step=0.01,
                tooltip="Pixels of the longer or shorter side, or megapixels (a million pixels "
                "each); not used while size_by is scale.",
            )
        ),
    ]


def output_size(scale: float, size_by: str, target: float) -> OutputSize:
    return OutputSize(size_by, scale if size_by == "scale" else target)


def tiling() -> io.Input:
    return advanced(
        io.Combo.Input(
            "tiling",
            options=list(TILING_MODES),
            default=Tiling.mode,
            tooltip="For pictures larger than a tile. phased: later tiles go on from their "
            "neighbours, no seams; lock-step: all advance together, needs much system memory; "
            "independent: each by itself, cross-faded, ghosting where they differ.",
        )
    )


def overlap() -> io.Input:
    return advanced(
        io.Float.Input(
            "overlap",
            default=Tiling.overlap,
            min=0.0,
            max=0.5,
            step=0.0625,
            tooltip="Share of a tile that neighbouring tiles have in common: more hides tiles "
            "better and takes longer, 0 shows them.",
        )
    )


def seed() -> io.Input:
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=MAX_SEED,
        control_after_generate=True,
        tooltip="The same seed and settings give the same picture, whatever runs beside it.",
    )


def color_mode(name: str, default: str) -> io.Input:
    return io.Combo.Input(
        name,
        options=list(COLOR_MODES),
        default=default,
        tooltip="adain matches each channel's mean and spread, wavelet takes everything coarse "
        "from the reference (stronger, may halo), lab only its coarse hues and overall lightness, "
        "none changes nothing.",
    )


def color_strength(name: str) -> io.Input:
    return io.Float.Input(
        name,
        default=UpscaleSettings.color_strength,
        min=0.0,
        max=1.0,
        step=0.05,
        tooltip="0 leaves the picture's own colours, 1 takes the reference's over fully.",
    )


def masks() -> list[io.Input]:
    return [
        advanced(
            io.Int.Input(
                "feather",
                default=UpscaleSettings.feather,
                min=0,
                max=512,
                tooltip="Pixels of the output over which a mask fades in, inwards from its edge; "
                "not used without a mask.",
            )
        ),
        io.Mask.Input(
            "mask",
            optional=True,
            tooltip="What to restore: 1 inside. The rest is enlarged plainly, and tiles that lie "
            "outside are not worked on.",
        ),
        io.Mask.Input(
            "alpha",
            optional=True,
            tooltip="Transparency from Load Image (1 is transparent), enlarged apart with its "
            "edges kept; for pictures that have no alpha of their own.",
        ),
    ]


def picture_choices(choices: dict[str, object]) -> tuple[OutputSize, UpscaleSettings]:
    """Takes those widgets out of `choices` that no family knows of."""
    size = output_size(*(choices.pop(name) for name in ("scale", "size_by", "target")))
    tiling = Tiling(choices.pop("tiling"), choices.pop("overlap"))
    names = ("color_fix", "color_strength", "feather")
    return size, UpscaleSettings(tiling, *(choices.pop(name) for name in names))

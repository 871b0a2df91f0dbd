"""Inputs that all families share, so that a name means the same and a default exists once."""

from collections.abc import Mapping

from comfy_api.latest import io

from ..varsr_core.family import CUSTOM, Preset
from ..varsr_core.images.color_fix import COLOR_MODES
from ..varsr_core.images.output_size import SIZE_MODES, OutputSize
from ..varsr_core.runtime.defaults import AUTO
from ..varsr_core.settings import COLOR_CHOICES, UpscaleSettings
from ..varsr_core.tiling.consistency import TILING_MODES, Tiling
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
        tooltip="The same seed, input and settings give the same picture on the same card with "
        "the same model and dtype, whatever runs beside it. Where memory is short, last bits may "
        "differ, which the log says.",
    )


def color_mode() -> io.Input:
    return io.Combo.Input(
        "mode",
        options=list(COLOR_MODES),
        default="adain",
        tooltip="adain matches each channel's mean and spread, wavelet takes everything coarse "
        "from the reference (stronger, may halo), lab only its coarse hues and overall lightness, "
        "none changes nothing.",
    )


def color_fix() -> io.Input:
    return io.Combo.Input(
        "color_fix",
        options=list(COLOR_CHOICES),
        default=UpscaleSettings.color_fix,
        tooltip="auto is what is best for the model; adain matches each channel's mean and spread "
        "to the input's, wavelet takes everything coarse from it (stronger, may halo), lab only "
        "its coarse hues and overall lightness, none changes nothing.",
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


def later_choices(presets: Mapping[str, Preset], sets: str) -> list[io.Input]:
    """What prompts of earlier versions lack; sets: what presets set, in words."""
    return [
        preset(presets, sets),
        fidelity(optional=True, least=AUTO),
        advanced(
            io.Float.Input(
                "shrink_first",
                optional=True,
                default=UpscaleSettings.shrink_first,
                min=0.0,
                max=64.0,
                step=0.01,
                tooltip="Megapixels to which a larger input is shrunk before the model sees it: "
                "pictures that were enlarged before, or are soft, restore better from less; the "
                "output keeps its size, 0 is off.",
            )
        ),
    ]


def preset(presets: Mapping[str, Preset], sets: str) -> io.Input:
    """sets: what presets set, in words"""
    return io.Combo.Input(
        "preset",
        optional=True,
        options=[CUSTOM, *presets],
        default=CUSTOM,
        tooltip=f"Sets {sets}: faithful keeps close to the input, balanced is what is best for "
        "the model, creative invents most; custom takes the values as they stand here.",
    )


def fidelity(*, optional: bool = False, least: float = 0.0) -> io.Input:
    """least: below 0 where a model is at hand, whose own value that stands for."""
    own = "; -1 is what is best for the model" if least < 0 else ""
    return io.Float.Input(
        "fidelity",
        optional=optional,
        default=UpscaleSettings.fidelity,
        min=least,
        max=1.0,
        step=0.05,
        tooltip="How much of the input is kept, coarse shapes before fine ones: 0 leaves the "
        f"restored picture, 1 gives the input plainly enlarged{own}.",
    )


def steady() -> io.Input:
    return io.Float.Input(
        "steady",
        optional=True,
        default=UpscaleSettings.steady,
        min=0.0,
        max=1.0,
        step=0.05,
        tooltip="For the frames of a film: what stands still flickers less, 0.5 is a good value, "
        "0 is off and takes each frame by itself. Motion is not followed, and frames run one after "
        "the other.",
    )


def set_preset(choices: dict[str, object], presets: Mapping[str, Preset]) -> None:
    """Puts the values of the chosen preset in place of the widgets'."""
    choices |= presets.get(str(choices.pop("preset", CUSTOM)), {})


def picture_choices(choices: dict[str, object]) -> tuple[OutputSize, UpscaleSettings]:
    """Takes those widgets out of `choices` that no family knows of."""
    size = output_size(*(choices.pop(name) for name in ("scale", "size_by", "target")))
    tiling = Tiling(choices.pop("tiling"), choices.pop("overlap"))
    names = ("color_fix", "color_strength", "feather")
    later = {
        name: choices.pop(name)
        for name in ("fidelity", "shrink_first", "steady")
        if name in choices
    }
    return size, UpscaleSettings(tiling, *(choices.pop(name) for name in names), **later)

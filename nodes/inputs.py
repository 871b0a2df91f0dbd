"""Inputs that several nodes share, so that a name means the same and a default exists once."""

from comfy_api.latest import io

from ..varsr_core.images.color_fix import COLOR_MODES
from ..varsr_core.images.output_size import SIZE_MODES, OutputSize
from ..varsr_core.nn.schedule import GUIDANCE_SCHEDULES
from ..varsr_core.tiling.consistency import TILING_MODES, Tiling
from ..varsr_core.upscaling import UpscaleSettings
from ..varsr_core.varsr.refiner import DIFFUSION_STEPS
from ..varsr_core.varsr.sampling import RefineSettings, SampleSettings
from .host import MAX_SEED, advanced
from .sockets import VARSRModel, VARSRTokens

MAX_SCALES = 64  # more than any schedule has; the model's own number is checked when it runs


def model() -> io.Input:
    return VARSRModel.Input("model", tooltip="From Load VARSR Model.")


def image() -> io.Input:
    return io.Image.Input(
        "image",
        tooltip="Picture to restore, in its own size: grey, RGB or RGBA, one or a batch.",
    )


def tokens() -> io.Input:
    return VARSRTokens.Input(
        "tokens",
        tooltip="From VARSR Next-Scale Sample, Diffusion Refine or Encode Image to Tokens.",
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


def guidance() -> io.Input:
    return io.Float.Input(
        "guidance",
        default=SampleSettings.guidance,
        min=0.0,
        max=20.0,
        step=0.1,
        tooltip="Push away from low quality: higher is sharper and less faithful, "
        "0 turns it off and halves the work.",
    )


def refine_guidance() -> io.Input:
    return io.Float.Input(
        "guidance",
        default=RefineSettings.guidance,
        min=0.0,
        max=20.0,
        step=0.1,
        tooltip="As in VARSR Next-Scale Sample, for the refiner: higher gives crisper detail and "
        "more noise, 0 halves the work.",
    )


def guidance_schedule() -> io.Input:
    return io.Combo.Input(
        "guidance_schedule",
        options=list(GUIDANCE_SCHEDULES),
        default=SampleSettings.guidance_schedule,
        tooltip="How guidance grows from the first scale to the last: linear is the paper's, "
        "constant also pushes the layout, quadratic spares it more.",
    )


def top_k() -> io.Input:
    return io.Int.Input(
        "top_k",
        default=SampleSettings.top_k,
        min=0,
        max=65536,
        tooltip="Tokens to choose from: 1 always takes the likeliest (the paper's choice), "
        "more adds variety and risk, 0 allows all.",
    )


def top_p() -> io.Input:
    return io.Float.Input(
        "top_p",
        default=SampleSettings.top_p,
        min=0.01,
        max=1.0,
        step=0.01,
        tooltip="Keeps the likeliest tokens up to this total probability; "
        "1 keeps all, and it does nothing while top_k is 1.",
    )


def temperature() -> io.Input:
    return io.Float.Input(
        "temperature",
        default=SampleSettings.temperature,
        min=0.0,
        max=5.0,
        step=0.05,
        tooltip="Spread of the choice among tokens: lower is safer, 0 always takes the likeliest; "
        "it does nothing while top_k is 1.",
    )


def steps(name: str = "steps") -> io.Input:
    return io.Int.Input(
        name,
        default=RefineSettings.steps,
        min=2,
        max=DIFFUSION_STEPS,
        tooltip="Diffusion steps of the refiner: 10 is the paper's choice, "
        "more takes longer and changes little.",
    )


def strength(name: str = "strength") -> io.Input:
    return io.Float.Input(
        name,
        default=RefineSettings.strength,
        min=0.0,
        max=2.0,
        step=0.05,
        tooltip="Factor on the detail that the refiner adds; 0 leaves the tokens as they are.",
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


def sampling_choices() -> list[io.Input]:
    """What few users touch, folded away."""
    return [advanced(choice()) for choice in (guidance_schedule, top_k, top_p, temperature)]


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


def upscale_choices(
    choices: dict[str, object],
) -> tuple[OutputSize, UpscaleSettings, SampleSettings, RefineSettings]:
    """The widgets of VARSR Upscale as the core takes them."""
    size, settings = picture_choices(choices)
    refining = [choices.pop(name) for name in ("refine_steps", "refine_strength")]
    sampling = SampleSettings(**choices)  # the rest
    return size, settings, sampling, RefineSettings(sampling.guidance, *refining)


def picture_choices(choices: dict[str, object]) -> tuple[OutputSize, UpscaleSettings]:
    """Takes those widgets out of `choices` that no family knows of."""
    size = output_size(*(choices.pop(name) for name in ("scale", "size_by", "target")))
    tiling = Tiling(choices.pop("tiling"), choices.pop("overlap"))
    names = ("color_fix", "color_strength", "feather")
    return size, UpscaleSettings(tiling, *(choices.pop(name) for name in names))

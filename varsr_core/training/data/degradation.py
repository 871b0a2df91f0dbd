"""Real-ESRGAN's second-order degradation: low-quality pictures made from good ones.

Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data"
(2021, arXiv 2107.10833). Blur, resize, noise and JPEG, twice, then a sinc filter. All that is
random about one picture is drawn first, as a Recipe of plain numbers; applying a recipe is
deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .blur_kernels import BLUR_KINDS, BlurRecipe
from .jpeg import TO_YCBCR, jpeg

RESIZE_MODES = ("area", "bilinear", "bicubic")
SMALL_KERNEL = 13  # pixels; sinc kernels below this size have a range of cutoffs of their own
Option = TypeVar("Option")
Range = tuple[float, float]


@dataclass(frozen=True)
class OrderSettings:
    """One order of the degradation. Defaults are the first order of the published x4 model.

    A range is drawn from uniformly; probabilities of several options sum to 1.
    """

    blur_probability: float = 1.0
    kernel_sizes: tuple[int, ...] = (7, 9, 11, 13, 15, 17, 19, 21)
    kernel_probabilities: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)  # BLUR_KINDS
    sigma: Range = (0.2, 3.0)  # pixels
    generalized_beta: Range = (0.5, 4.0)
    plateau_beta: Range = (1.0, 2.0)
    sinc_probability: float = 0.1  # of a sinc kernel in place of the others
    small_sinc_cutoff: Range = (math.pi / 3, math.pi)  # of kernels below SMALL_KERNEL
    large_sinc_cutoff: Range = (math.pi / 5, math.pi)
    resize_probabilities: tuple[float, float, float] = (0.2, 0.7, 0.1)  # up, down, keep
    resize_range: Range = (0.15, 1.5)  # down draws from its lower part, up from above 1
    gaussian_probability: float = 0.5  # otherwise Poisson
    noise_sigma: Range = (1.0, 30.0)  # of Gaussian noise, in 8-bit levels
    poisson_scale: Range = (0.05, 3.0)  # factor on the noise of a count of photons
    grey_probability: float = 0.4  # of the same noise in all channels
    jpeg_quality: tuple[int, int] = (30, 95)  # both included

    def __post_init__(self) -> None:
        if len(self.kernel_probabilities) != len(BLUR_KINDS):
            raise ValueError(
                f"{len(self.kernel_probabilities)} kernel probabilities for "
                f"{len(BLUR_KINDS)} kinds: {', '.join(BLUR_KINDS)}"
            )
        for weights in (self.kernel_probabilities, self.resize_probabilities):
            if not math.isclose(sum(weights), 1):
                raise ValueError(f"probabilities {weights} sum to {sum(weights):g}, not to 1")


@dataclass(frozen=True)
class DegradationSettings:
    """Defaults are those of the published x4 model."""

    scale: int = 4  # sides of the input divided by sides of the output
    first: OrderSettings = OrderSettings()
    second: OrderSettings = OrderSettings(
        blur_probability=0.8,
        sigma=(0.2, 1.5),
        resize_probabilities=(0.3, 0.4, 0.3),
        resize_range=(0.3, 1.2),
        noise_sigma=(1.0, 25.0),
        poisson_scale=(0.05, 2.5),
    )
    final_sinc_probability: float = 0.8
    final_sinc_cutoff: Range = (math.pi / 3, math.pi)
    sinc_first_probability: float = 0.5  # of the final sinc filter before the second JPEG


PUBLISHED = DegradationSettings()


@dataclass(frozen=True)
class OrderRecipe:
    """What was drawn for one order.

    blur:       None for no blur
    factor:     new sides divided by old ones (second order: by those of the output)
    mode:       one of RESIZE_MODES
    gaussian:   Gaussian or Poisson noise
    strength:   deviation in 8-bit levels, or the factor on Poisson noise
    grey:       the same noise in all channels
    noise_seed: of the noise itself
    quality:    of the JPEG
    """

    blur: BlurRecipe | None
    factor: float
    mode: str
    gaussian: bool
    strength: float
    grey: bool
    noise_seed: int
    quality: int


@dataclass(frozen=True)
class Recipe:
    """All that is random about the degradation of one picture."""

    scale: int
    first: OrderRecipe
    second: OrderRecipe
    final_sinc: BlurRecipe | None
    sinc_first: bool  # final size and sinc filter come before the second JPEG
    final_mode: str


def degrade(hr: Tensor, settings: DegradationSettings, generator: torch.Generator) -> Tensor:
    """Small and bad versions of pictures, each with draws of its own.

    hr:        (B, 3, H, W) in [0, 1], sides multiples of the scale
    generator: on the CPU; the only source of randomness
    returns    (B, 3, H / scale, W / scale), multiples of 1 / 255 in [0, 1]
    """
    recipes = [draw_recipe(settings, generator) for _ in hr]
    with torch.autocast(hr.device.type, enabled=False):  # bf16 cannot tell 8-bit levels apart
        return torch.stack([apply(*pair) for pair in zip(recipes, hr, strict=True)])


def draw_recipe(settings: DegradationSettings, generator: torch.Generator) -> Recipe:
    """Draws the degradation of one picture."""
    first = _draw_order(settings.first, generator)
    second = _draw_order(settings.second, generator)
    final_sinc = None
    if _chance(settings.final_sinc_probability, generator):
        size = _choose(settings.second.kernel_sizes, generator)
        cutoff = _uniform(settings.final_sinc_cutoff, generator)
        final_sinc = BlurRecipe("sinc", size, cutoff=cutoff)
    return Recipe(
        scale=settings.scale,
        first=first,
        second=second,
        final_sinc=final_sinc,
        sinc_first=_chance(settings.sinc_first_probability, generator),
        final_mode=_choose(RESIZE_MODES, generator),
    )


@torch.no_grad()
def apply(recipe: Recipe, image: Tensor) -> Tensor:
    """Degrades one picture: (3, H, W) in [0, 1] -> (3, H / scale, W / scale), 8-bit levels."""
    height, width = image.shape[1:]
    if height % recipe.scale or width % recipe.scale:
        raise ValueError(f"a {width}x{height} picture is not divisible by scale {recipe.scale}")
    size = height // recipe.scale, width // recipe.scale
    first, second = recipe.first, recipe.second
    out = _blur_resize_noise(first, image.float(), (height, width))
    out = jpeg(out[None], [first.quality])[0]
    out = _blur_resize_noise(second, out, size)
    # The last resize and the sinc filter stay together: JPEG between them would be resampled.
    if recipe.sinc_first:
        out = blur(resize(out, *size, recipe.final_mode), recipe.final_sinc)
        return jpeg(out[None], [second.quality])[0]
    out = jpeg(out[None], [second.quality])[0]
    out = blur(resize(out, *size, recipe.final_mode), recipe.final_sinc)
    return (out * 255).clamp(0, 255).round() / 255


def blur(image: Tensor, recipe: BlurRecipe | None) -> Tensor:
    """(3, H, W), reflected at the borders however small; None leaves it as it is."""
    if recipe is None:
        return image
    kernel = recipe.kernel().to(image).expand(len(image), 1, -1, -1)
    for dim in (1, 2):
        index = _reflected(image.shape[dim], recipe.size // 2)
        image = image.index_select(dim, index.to(image.device))
    return F.conv2d(image[None], kernel, groups=len(image))[0]


def resize(image: Tensor, height: int, width: int, mode: str) -> Tensor:
    """(3, H, W) to another size, without antialiasing beyond what `area` does, as published."""
    return F.interpolate(image[None], (height, width), mode=mode)[0]


def add_noise(image: Tensor, recipe: OrderRecipe) -> Tensor:
    """(3, H, W) with noise, clamped to [0, 1]. The noise is drawn on the CPU."""
    generator = torch.Generator().manual_seed(recipe.noise_seed)
    if recipe.gaussian:
        shape = (1 if recipe.grey else 3, *image.shape[1:])
        noise = torch.randn(shape, generator=generator) / 255
    else:
        noise = _photon_noise(image.cpu(), recipe.grey, generator)
    return (image + recipe.strength * noise.to(image)).clamp(0, 1)


def _photon_noise(image: Tensor, grey: bool, generator: torch.Generator) -> Tensor:
    """Poisson noise of a picture that counts as many photons as it has levels: variance x / count.

    The count is the next power of 2: 256 for most photographs, less for flat pictures.
    """
    if grey:
        image = torch.tensor(TO_YCBCR[0]).view(3, 1, 1).mul(image).sum(0, keepdim=True)
    levels = (image * 255).round().clamp(0, 255)
    count = 2 ** math.ceil(math.log2(len(levels.unique())))
    clean = levels / 255
    return torch.poisson(clean * count, generator=generator) / count - clean


def _blur_resize_noise(recipe: OrderRecipe, image: Tensor, base: tuple[int, int]) -> Tensor:
    height, width = (max(1, int(side * recipe.factor)) for side in base)
    image = resize(blur(image, recipe.blur), height, width, recipe.mode)
    return add_noise(image, recipe)


def _draw_order(settings: OrderSettings, generator: torch.Generator) -> OrderRecipe:
    blurred = _chance(settings.blur_probability, generator)
    gaussian = _chance(settings.gaussian_probability, generator)
    low, high = settings.jpeg_quality
    return OrderRecipe(
        blur=_draw_blur(settings, generator) if blurred else None,
        factor=_draw_factor(settings, generator),
        mode=_choose(RESIZE_MODES, generator),
        gaussian=gaussian,
        strength=_uniform(settings.noise_sigma if gaussian else settings.poisson_scale, generator),
        grey=_chance(settings.grey_probability, generator),
        noise_seed=int(torch.randint(2**63 - 1, (), generator=generator)),
        quality=int(torch.randint(low, high + 1, (), generator=generator)),
    )


def _draw_blur(settings: OrderSettings, generator: torch.Generator) -> BlurRecipe:
    size = _choose(settings.kernel_sizes, generator)
    if _chance(settings.sinc_probability, generator):
        small = size < SMALL_KERNEL
        cutoff = settings.small_sinc_cutoff if small else settings.large_sinc_cutoff
        return BlurRecipe("sinc", size, cutoff=_uniform(cutoff, generator))
    kind = _choose(BLUR_KINDS, generator, settings.kernel_probabilities)
    sigma_x = sigma_y = _uniform(settings.sigma, generator)
    angle, beta = 0.0, 1.0
    if kind.endswith("aniso"):
        sigma_y = _uniform(settings.sigma, generator)
        angle = _uniform((-math.pi, math.pi), generator)
    if kind.startswith("generalized"):
        beta = _draw_beta(settings.generalized_beta, generator)
    elif kind.startswith("plateau"):
        beta = _draw_beta(settings.plateau_beta, generator)
    return BlurRecipe(kind, size, sigma_x, sigma_y, angle, beta)


def _draw_beta(limits: Range, generator: torch.Generator) -> float:
    """Below 1 and above 1 equally often; a range that starts at 1 gives exactly 1 half the time."""
    low, high = limits
    part = (low, 1.0) if _chance(0.5, generator) else (1.0, high)
    return _uniform(part, generator)


def _draw_factor(settings: OrderSettings, generator: torch.Generator) -> float:
    low, high = settings.resize_range
    parts = ((1.0, high), (low, 1.0), (1.0, 1.0))
    return _uniform(_choose(parts, generator, settings.resize_probabilities), generator)


def _uniform(limits: Range, generator: torch.Generator) -> float:
    low, high = limits
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def _chance(probability: float, generator: torch.Generator) -> bool:
    return torch.rand((), generator=generator, dtype=torch.float64).item() < probability


def _choose(
    options: Sequence[Option], generator: torch.Generator, weights: Sequence[float] | None = None
) -> Option:
    weights = weights or [1.0] * len(options)
    drawn = torch.multinomial(torch.tensor(weights), 1, generator=generator)
    return options[int(drawn)]


def _reflected(length: int, margin: int) -> Tensor:
    """Indices -margin .. length - 1 + margin, folded at the border without repeating it."""
    period = max(2 * length - 2, 1)
    index = torch.arange(-margin, length + margin) % period
    return torch.minimum(index, period - index).clamp(0, length - 1)

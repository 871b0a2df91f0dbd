"""Degradations that others published, by name.

realesrgan: the published x4 model of Real-ESRGAN (Wang et al., 2021, arXiv 2107.10833)
varsr:      the public code of VARSR (arXiv 2501.18993): the same pipeline, milder
"""

from __future__ import annotations

from collections.abc import Mapping

from .degradation import PUBLISHED, DegradationSettings, OrderSettings

VARSR = DegradationSettings(
    scale=4,
    first=OrderSettings(
        blur_probability=1.0,
        kernel_sizes=(21,),
        kernel_probabilities=(0.45, 0.25, 0.12, 0.03, 0.12, 0.03),
        sigma=(0.2, 3.0),
        generalized_beta=(0.5, 4.0),
        plateau_beta=(1.0, 2.0),
        sinc_probability=0.1,
        resize_probabilities=(0.2, 0.7, 0.1),
        resize_range=(0.3, 1.5),
        gaussian_probability=0.5,
        noise_sigma=(1.0, 15.0),
        poisson_scale=(0.05, 2.0),
        grey_probability=0.4,
        jpeg_quality=(60, 95),
    ),
    second=OrderSettings(
        blur_probability=0.5,
        kernel_sizes=(21,),
        kernel_probabilities=(0.45, 0.25, 0.12, 0.03, 0.12, 0.03),
        sigma=(0.2, 1.5),
        generalized_beta=(0.5, 4.0),
        plateau_beta=(1.0, 2.0),
        sinc_probability=0.1,
        resize_probabilities=(0.3, 0.4, 0.3),
        resize_range=(0.6, 1.2),
        gaussian_probability=0.5,
        noise_sigma=(1.0, 12.0),
        poisson_scale=(0.05, 1.0),
        grey_probability=0.4,
        jpeg_quality=(60, 100),
    ),
    final_sinc_probability=0.8,
    sinc_first_probability=0.5,
)

DEGRADATIONS: Mapping[str, DegradationSettings] = {"realesrgan": PUBLISHED, "varsr": VARSR}
OLD_NAMES = {"published": "realesrgan"}


def degradation_preset(name: str) -> DegradationSettings:
    """Settings by name. Raises ValueError that lists the known names."""
    found = DEGRADATIONS.get(OLD_NAMES.get(name, name))
    if found is None:
        raise ValueError(f"{name!r} is no preset of a degradation: {', '.join(DEGRADATIONS)}")
    return found

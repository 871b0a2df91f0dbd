"""What NSARM makes, whole and stage by stage, with the small model of the recorded numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

from materials import Materials, picture
from names import find
from registry import Made, result
from torch import Tensor
from varsr_results import MODES, SEED, settings, upscale, watched


def restorer(m: Materials, text: Tensor | None = None, **sampling: Any) -> Any:
    return find("nsarm.Restorer")(m.nsarm, find("nsarm.SampleSettings")(**sampling), text)


def one_tile(m: Materials, text: Tensor | None = None, **sampling: Any) -> Tensor:
    return upscale(picture(24, 32), 4.0, restorer(m, text, **sampling))


@result("nsarm.default")
def default(m: Materials) -> Made:
    return find("upscale")(picture(24, 32), 4.0, find("nsarm.Restorer")(m.nsarm))


def _tiles(mode: str, m: Materials) -> Made:
    return upscale(picture(40, 56), 10.0, restorer(m), settings=settings(mode))


for _mode in MODES:
    result(f"nsarm.tiles.{_mode}")(partial(_tiles, _mode))


@result("nsarm.staged")
def staged(m: Materials) -> Made:
    by, execution = restorer(m), find("Execution")()
    prefix = find("nsarm.encode_prefix")(by, picture(40, 56), 10.0, execution)
    sampled = find("nsarm.sample")(by, prefix, SEED, execution)
    return {
        "prefix": list(prefix.codes),
        "latent": sampled.latent,
        "picture": find("nsarm.decode")(by, sampled, execution),
    }


@result("nsarm.draws")
def draws(m: Materials) -> Made:
    return {
        "greedy": one_tile(m, temperature=0.0),
        "wide": one_tile(m, temperature=1.5, top_p=1.0),
        "trilinear": one_tile(m, downsampling="trilinear"),
    }


@result("nsarm.text")
def text(m: Materials) -> Made:
    """A prompt, without and with a push towards it."""
    return {
        "plain": one_tile(m, m.text),
        "guided": one_tile(m, m.text, guidance=3.0),
    }


@result("nsarm.alpha")
def alpha(m: Materials) -> Made:
    image = picture(20, 24, channels=4)
    return upscale(image, 5.0, restorer(m), settings=settings(color_fix="lab"))


@result("nsarm.previews")
def previews(m: Materials) -> Made:
    return watched(partial(upscale, picture(24, 32), 4.0, restorer(m)))

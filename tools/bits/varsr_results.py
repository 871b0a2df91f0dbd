"""What VARSR makes, whole and stage by stage.

Most of it with the small model, whose tiles of 64 pixels take little time; what a user sees with
the model that comes with the pack; and one picture with the model of the recorded numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from materials import Materials, picture
from names import find, has
from registry import Made, result
from torch import Tensor

MODES = ("independent", "phased", "lock-step")
COLORS = ("adain", "wavelet", "lab", "none")
SEED = 3
STEPS = 3  # of the refiner: as telling as ten


def restorer(model: Any, refining: dict[str, Any] | None = None, **sampling: Any) -> Any:
    """sampling, refining: of its settings, what differs from the defaults"""
    return find("varsr.Restorer")(
        model,
        find("varsr.SampleSettings")(**sampling),
        find("varsr.RefineSettings")(**{"steps": STEPS, **(refining or {})}),
    )


def settings(mode: str = "phased", overlap: float = 0.25, **others: Any) -> Any:
    return find("UpscaleSettings")(tiling=find("Tiling")(mode, overlap), **others)


def upscale(image: Tensor, size: Any, by: Any, **others: Any) -> Tensor:
    return find("upscale")(image, size, by, seed=SEED, **others)


@result("varsr.default")
def default(m: Materials) -> Made:
    """Nothing is set: the defaults are part of what must stay."""
    return find("upscale")(picture(24, 32), 4.0, find("varsr.Restorer")(m.nano))


@result("varsr.front_door")
def front_door(m: Materials) -> Made:
    """The shortest way that there is; by hand, in commits that have no other."""
    exact = {"device": "cpu", "dtype": "fp32"}
    door = find("load_model") if has("load_model") else None
    by = door(m.nano_file, **exact) if door else find("varsr.Restorer")(m.nano)
    return find("upscale")(picture(20, 28), 4.0, by)


@result("varsr.default_tiles")
def default_tiles(m: Materials) -> Made:
    return upscale(picture(40, 48), 4.0, find("varsr.Restorer")(m.nano))


@result("varsr.golden")
def golden(m: Materials) -> Made:
    """One tile of 512 pixels, with the weights of the recorded numbers."""
    return staged(m.golden, picture(24, 32), 4.0, "phased", steps=2)


def _tiles(mode: str, m: Materials) -> Made:
    return upscale(picture(40, 56), 3.0, restorer(m.small), settings=settings(mode))


for _mode in MODES:
    result(f"varsr.tiles.{_mode}")(partial(_tiles, _mode))


@result("varsr.four_at_once")
def four_at_once(m: Materials) -> Made:
    """Tiles in blocks: where they lie in a block must not have changed either."""
    execution = find("Execution")(prepare=lambda: 4)
    return {
        mode: upscale(
            picture(30, 36, images=2),
            3.0,
            restorer(m.small, temperature=0.8, top_k=20),
            settings=settings(mode, 0.4),
            execution=execution,
        )
        for mode in MODES
    }


def staged(model: Any, image: Tensor, size: Any, mode: str, steps: int = STEPS) -> Made:
    """All that is handed from stage to stage."""
    execution = find("Execution")()
    tiling = find("Tiling")(mode)
    prefix = find("varsr.encode_prefix")(model, image, size, execution, tiling)
    sampling = find("varsr.SampleSettings")()
    tokens = find("varsr.sample_tokens")(model, prefix, sampling, SEED, execution)
    refining = find("varsr.RefineSettings")(steps=steps)
    refined = find("varsr.refine_tokens")(model, tokens, refining, SEED, execution)
    return {
        "prefix": prefix.tokens,
        **pyramid(tokens),
        "refined": refined.latent,
        "picture": find("varsr.decode_tokens")(model, refined, execution),
    }


def pyramid(tokens: Any) -> dict[str, Made]:
    """What token maps hold."""
    made = {"ids": torch.cat(tokens.token_ids, dim=1), "latents": torch.stack(tokens.latents)}
    return made if tokens.hidden is None else {**made, "hidden": tokens.hidden}


def _staged(mode: str, m: Materials) -> Made:
    return staged(m.small, picture(40, 56), 3.0, mode)


for _mode in MODES:
    result(f"varsr.staged.{_mode}")(partial(_staged, _mode))


@result("varsr.staged.default_model")
def staged_default_model(m: Materials) -> Made:
    return staged(m.nano, picture(24, 40), 4.0, "phased")


@result("varsr.mask")
def mask(m: Materials) -> Made:
    """Some tiles outside of it, a feather, and one mask for two pictures."""
    area = torch.zeros(1, 1, 20, 28)
    area[..., 4:12, 3:10] = 1.0
    images, by = picture(40, 56, images=2), restorer(m.small)
    return {
        "one": upscale(images, 3.0, by, mask=area, settings=settings(feather=6)),
        "nothing": upscale(images[:1], 3.0, by, mask=torch.zeros(1, 1, 8, 8)),
    }


@result("varsr.alpha")
def alpha(m: Materials) -> Made:
    return upscale(picture(30, 22, channels=4, images=2), 2.5, restorer(m.small))


@result("varsr.grey")
def grey(m: Materials) -> Made:
    return upscale(picture(30, 22, channels=1), 2.5, restorer(m.small))


@result("varsr.sizes")
def sizes(m: Materials) -> Made:
    wanted = {"longer side": 70.0, "shorter side": 50.0, "megapixels": 0.006}
    size = find("OutputSize")
    return {
        mode: upscale(picture(21, 33), size(mode, value), restorer(m.small))
        for mode, value in wanted.items()
    }


@result("varsr.mixed_sizes")
def mixed_sizes(m: Materials) -> Made:
    """Pictures of different sizes. Where no call takes them together, one by one: one tile at a
    time, that gives the same bits."""
    images = [picture(height, width, seed=height)[0] for height, width in ((40, 30), (12, 50))]
    by, chosen = restorer(m.small), settings("lock-step")
    if has("upscale_each"):
        return find("upscale_each")(images, 2.5, by, seed=SEED, settings=chosen)
    return [upscale(image[None], 2.5, by, settings=chosen)[0] for image in images]


def _sampled(m: Materials, refining: dict[str, Any] | None = None, **sampling: Any) -> Tensor:
    return upscale(picture(40, 24), 2.5, restorer(m.small, refining, **sampling))


@result("varsr.guidance")
def guidance(m: Materials) -> Made:
    return {
        "0": _sampled(m, {"guidance": 0.0}, guidance=0.0),
        "6": _sampled(m, guidance=6.0),
        "constant": _sampled(m, guidance=2.0, guidance_schedule="constant"),
        "unguided_scales": _sampled(m, unguided_scales=1),
        "quality_class": _sampled(m, quality_class=1),
    }


@result("varsr.draws")
def draws(m: Materials) -> Made:
    return {
        "top_k": _sampled(m, top_k=30),
        "top_p": _sampled(m, top_k=0, top_p=0.7),
        "temperature": _sampled(m, top_k=0, temperature=1.7),
        "all": _sampled(m, top_k=50, top_p=0.9, temperature=0.8),
    }


@result("varsr.refiner")
def refiner(m: Materials) -> Made:
    return {
        "none": _sampled(m, {"strength": 0.0}),
        "half": _sampled(m, {"strength": 0.5}),
        "unguided": _sampled(m, {"guidance": 0.0, "steps": 10}),
    }


def _colors(mode: str, m: Materials) -> Made:
    image, by = picture(24, 40), restorer(m.small)
    return {
        f"{strength:g}": upscale(
            image, 2.5, by, settings=settings(color_fix=mode, color_strength=strength)
        )
        for strength in (1.0, 0.4)
    }


for _mode in COLORS:
    result(f"varsr.colors.{_mode}")(partial(_colors, _mode))


@result("varsr.resumed")
def resumed(m: Materials) -> Made:
    """Token maps of a picture and of a stopped run, gone on from."""
    model, execution = m.small, find("Execution")()
    image = picture(40, 56)
    sampling = find("varsr.SampleSettings")(top_k=20)
    prefix = find("varsr.encode_prefix")(model, image, 3.0, execution)
    encoded = find("varsr.encode_tokens")(model, image, 3.0, execution)
    sample: Callable[..., Any] = partial(find("varsr.sample_tokens"), model, prefix, sampling)
    stopped = sample(SEED, execution, stop_scale=2)
    return {
        "encoded": pyramid(encoded),
        "stopped": pyramid(stopped),
        "from_encoded": pyramid(sample(SEED, execution, tokens=encoded, first_scale=2)),
        "from_stopped": pyramid(sample(SEED, execution, tokens=stopped, first_scale=2)),
    }


@result("varsr.scales")
def scales(m: Materials) -> Made:
    """The picture after each scale."""
    model, execution = m.small, find("Execution")()
    prefix = find("varsr.encode_prefix")(model, picture(30, 26, channels=4), 3.0, execution)
    sampling = find("varsr.SampleSettings")()
    tokens = find("varsr.sample_tokens")(model, prefix, sampling, SEED, execution)
    return find("varsr.decode_scales")(model, tokens, execution)


@result("varsr.previews")
def previews(m: Materials) -> Made:
    return watched(partial(upscale, picture(40, 56), 3.0, restorer(m.small)))


def watched(work: Callable[..., Tensor]) -> Made:
    """The picture, and what is handed out while it is made: small pictures, and numbers.

    Earlier commits hand small pictures out, later ones what draws them.
    """
    told, shown = [], []

    def look(one: Any) -> None:
        told.append(one)
        drawn = one.draw and one.draw() if hasattr(one, "draw") else one.picture
        if drawn is not None:
            shown.append(drawn)

    made = work(execution=find("Execution")(on_progress=look, pictures=True))
    steps = [(one.done, one.total, -1 if one.step is None else one.step) for one in told]
    return {"picture": made, "shown": torch.stack(shown), "steps": torch.tensor(steps)}

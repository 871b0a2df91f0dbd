"""Example workflows that run at once: with the model of the pack, on ComfyUI's own picture."""

from __future__ import annotations

from tools.generate.template import Box, Link, Template

CORNER = 192  # pixels: four times larger in less than half a minute on two CPU cores
CORNER_TITLE = "Only a corner (Ctrl+B: whole picture)"
NOISY_TITLE = "A second of noisy film from the picture"
DETAIL_TITLE = "A detail, from x and y"
FILM_TITLE = "A second of film from the picture"
BOARD_TITLE = "Decoded, side by side"
DETAIL, STEP, FRAMES = 96, 10, 5  # pixels; in the film the detail moves a step a frame
NOISE = 0.03  # of ImageAddNoise, of full scale
FACE = 320, 208  # left and top of the detail in ComfyUI's picture

QUICK = (
    f"To be quick, only the top left corner is worked on. Click **{CORNER_TITLE}** and press "
    "Ctrl+B for the whole picture; without a graphics card that takes minutes."
)


def upscale() -> Template:
    flow = Template(
        "1 Upscale a picture",
        note="## Four times larger\n\n"
        f"Choose your picture in **Load Image** and press **Run**.\n\n{QUICK}\n\n"
        "The model that comes with the pack is small and made for photographs: it sharpens and "
        "cleans. The released one invents detail; template *7 Upscale with the released model* "
        "has it.",
    )
    image = _corner(flow, flow.picture())
    flow.save(flow.upscaled(flow.model(), image, scale=4.0))
    return flow


def video() -> Template:
    flow = Template(
        "2 Upscale a video",
        note="## A video, four times larger, its sound kept\n\n"
        "Press **Run**: a second of film is made from the picture, then enlarged.\n\n"
        "For your own, add **Load Video** and connect it to **VARSR Upscale Video**. A *scale* of "
        "2 is enough for videos that are not tiny.\n\n"
        "However long a video is, a few frames are in memory at a time. Every frame has the same "
        "seed, so that what does not move stays still.",
    )
    film = _film(flow, flow.picture())
    made = flow.add("CreateVideo", images=film, fps=float(FRAMES))[0]
    video = flow.add("VARSR_UpscaleVideo", model=flow.model(), video=made, scale=4.0)[0]
    flow.add("SaveVideo", video=video, filename_prefix="video/VARSR")
    return flow


def steady() -> Template:
    flow = Template(
        "Film steady",
        note="## A film whose still parts stay still\n\n"
        "Press **Run**: a second of film is made from the picture, with noise of its own in every "
        "frame, then enlarged.\n\n"
        "*steady* of **VARSR Upscale Video** brings each frame towards the one before it where the "
        "picture stands still. Set it to 0 to see the flicker. Motion is not followed: what moves "
        "is restored frame by frame.\n\n"
        "For your own film, add **Load Video** and connect it to **VARSR Upscale Video**.",
    )
    film = _noisy_film(flow, flow.picture())
    made = flow.add("CreateVideo", images=film, fps=float(FRAMES))[0]
    chosen = {"scale": 4.0, "steady": 0.5}
    video = flow.add("VARSR_UpscaleVideo", model=flow.model(), video=made, **chosen)[0]
    flow.add("SaveVideo", video=video, filename_prefix="video/VARSR")
    return flow


def part() -> Template:
    flow = Template(
        "3 Restore a part of a picture",
        note="## Only where the mask is\n\n"
        "Outside the mask the picture is plainly enlarged, and no time is spent there; inside it "
        "is restored, fading in over *feather* pixels.\n\n"
        "Here the mask is a rectangle. For your own, right-click **Load Image**, choose **Open in "
        "Mask Editor**, paint, and connect its MASK to *mask* of **VARSR Upscale**.",
    )
    picture, model = flow.picture(), flow.model()
    nothing = flow.add("SolidMask", value=0.0, width=128, height=128)[0]
    patch = flow.add("SolidMask", value=1.0, width=40, height=36)[0]
    rectangle = {"destination": nothing, "source": patch, "x": 44, "y": 26, "operation": "add"}
    mask = flow.add("MaskComposite", **rectangle)[0]
    flow.save(flow.upscaled(model, picture, scale=2.0, mask=mask))
    return flow


def compare() -> Template:
    flow = Template(
        "4 Compare settings",
        note="## One picture, four settings\n\n"
        "VARSR draws a picture from coarse to fine. Top: after three scales, and after four. "
        "Bottom: after five, and after all of them, refined, as **VARSR Upscale** makes it.\n\n"
        "Change a setting of one **VARSR Next-Scale Sample**, press **Run**, and see what it does: "
        "the others are not worked out again.\n\n"
        f"With a picture of your own, say in **{DETAIL_TITLE}** where to look.",
    )
    picture, model = flow.picture(), flow.model()
    detail = _cut(flow, DETAIL_TITLE, picture, DETAIL, *FACE)
    prefix = flow.add("VARSR_EncodePrefix", model=model, image=detail)[0]
    made = [
        flow.add("VARSR_Sample", title=title, model=model, prefix=prefix, stop_scale=stop)[0]
        for title, stop in (("3 scales", 3), ("4 scales", 4), ("5 scales", 5), ("all scales", 0))
    ]
    made[-1] = flow.add("VARSR_Refine", title="refined", model=model, tokens=made[-1])[0]
    flow.save(_side_by_side(flow, model, made))
    return flow


def keep_structure() -> Template:
    flow = Template(
        "5 Keep the structure",
        note="## Its own coarse scales, new fine ones\n\n"
        "The picture's own tokens are kept up to *first_scale*, the finer ones are predicted anew: "
        "structure stays, texture changes. Click a scale in the strip of **VARSR Next-Scale "
        "Sample** to go on from there: the later, the closer to the picture that came in.\n\n"
        f"{QUICK}",
    )
    image, model = _corner(flow, flow.picture()), flow.model()
    own = flow.add("VARSR_EncodeTokens", model=model, image=image)[0]
    prefix = flow.add("VARSR_EncodePrefix", model=model, image=image)[0]
    tokens = flow.add("VARSR_Sample", model=model, prefix=prefix, tokens=own, first_scale=3)[0]
    refined = flow.add("VARSR_Refine", model=model, tokens=tokens)[0]
    flow.save(flow.add("VARSR_Decode", model=model, tokens=refined)[0])
    return flow


def stages() -> Template:
    flow = Template(
        "6 Step by step",
        note="## Every stage, one node each\n\n"
        "The same picture, bit for bit, as **VARSR Upscale** makes in one node. Change a setting, "
        "and only the stages after it are worked out again.\n\n"
        "*stop_scale* of **VARSR Next-Scale Sample** shows the picture before it is finished; "
        "connect **VARSR Decode** to it directly, since the refiner needs all scales.\n\n"
        f"{QUICK}",
    )
    image, model = _corner(flow, flow.picture()), flow.model()
    prefix = flow.add("VARSR_EncodePrefix", model=model, image=image)[0]
    tokens = flow.add("VARSR_Sample", model=model, prefix=prefix)[0]
    refined = flow.add("VARSR_Refine", model=model, tokens=tokens)[0]
    decoded = flow.add("VARSR_Decode", model=model, tokens=refined)[0]
    flow.save(flow.add("VARSR_MatchColors", image=decoded, reference=image, mode="wavelet")[0])
    return flow


def as_upscale_model() -> Template:
    flow = Template(
        "Upscale model for other nodes",
        note="## VARSR where an upscale model is wanted\n\n"
        "**VARSR as Upscale Model** fits every node that takes one: **Upscale Image (using "
        "Model)**, as here, tiled upscalers and detailers of other packs.\n\n"
        "For a picture on its own **VARSR Upscale** is better: other nodes cut large pictures into "
        f"tiles that do not know of each other.\n\n{QUICK}",
    )
    image = _corner(flow, flow.picture())
    wrapped = flow.add("VARSR_AsUpscaleModel", model=flow.model())[0]
    flow.save(flow.add("ImageUpscaleWithModel", upscale_model=wrapped, image=image)[0])
    return flow


def _corner(flow: Template, picture: Link) -> Link:
    """So little that it is quickly done on a CPU, one click away from the whole.

    From the top left, so that a picture that is no larger stays whole.
    """
    return _cut(flow, CORNER_TITLE, picture, CORNER, 0, 0)


def _cut(flow: Template, title: str, picture: Link, side: int, left: int, top: int) -> Link:
    """In a box: newer versions of ComfyUI mark the one node that crops in all as deprecated."""
    box = flow.box(title, image=picture)
    given = {"width": side, "height": side, "x": left, "y": top}
    crop = box.inside.add("ImageCrop", image=box.given("image"), **given)
    box.leaving = {"image": crop[0]}
    box.shown = [(crop, widget) for widget in given]
    return box[0]


def _film(flow: Template, picture: Link) -> Link:
    """Frames that pan over the picture."""
    box = flow.box(FILM_TITLE, image=picture)
    sides, (left, top) = {"width": DETAIL, "height": DETAIL}, FACE
    frames = [
        box.inside.add("ImageCrop", image=box.given("image"), x=left + k * STEP, y=top, **sides)[0]
        for k in range(FRAMES)
    ]
    box.leaving = {"images": _batch(box, frames)}
    return box[0]


def _noisy_film(flow: Template, picture: Link) -> Link:
    """Frames that differ in their noise alone."""
    box = flow.box(NOISY_TITLE, image=picture)
    sides, (left, top) = {"width": DETAIL, "height": DETAIL}, FACE
    still = box.inside.add("ImageCrop", image=box.given("image"), x=left, y=top, **sides)[0]
    frames = [
        box.inside.add("ImageAddNoise", image=still, seed=k, strength=NOISE)[0]
        for k in range(FRAMES)
    ]
    box.leaving = {"images": _batch(box, frames)}
    return box[0]


def _batch(box: Box, frames: list[Link]) -> Link:
    film = frames[0]
    for frame in frames[1:]:
        film = box.inside.add("ImageBatch", image1=film, image2=frame)[0]
    return film


def _side_by_side(flow: Template, model: Link, tokens: list[Link]) -> Link:
    """Four pictures as one."""
    box = flow.box(BOARD_TITLE, model=model, **{f"tokens {k + 1}": t for k, t in enumerate(tokens)})
    add, given = box.inside.add, box.given
    shown = [
        add("VARSR_Decode", model=given("model"), tokens=given(f"tokens {k + 1}"))[0]
        for k in range(len(tokens))
    ]
    rows = [
        add("ImageStitch", image1=left, image2=right)[0] for left, right in (shown[:2], shown[2:])
    ]
    board = add("ImageStitch", image1=rows[0], image2=rows[1], direction="down")
    box.leaving = {"image": board[0]}
    return box[0]

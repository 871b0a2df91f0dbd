"""What the example workflows are: nodes, wires and the settings that differ from the defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PHOTOGRAPH = "kitten.png"
CLIP = "clip.mp4"
NANO = "varsr_nano (built in)"
RELEASE = "https://huggingface.co/qyp2000/VARSR/resolve/main/"
INFINITY = "https://huggingface.co/FoundationVision/Infinity/resolve/main/"
NSARM_AUTOENCODER = "infinity_vae_d56_f8_14_patchify.pth"
NSARM_NOTE = (
    "Needs an NSARM model in models/nsarm: NSARM.pth from its authors "
    "(github.com/Xiangtaokong/NSARM) and, beside it, "
    f"[{NSARM_AUTOENCODER}]({INFINITY}{NSARM_AUTOENCODER}), or both converted to one file: see the "
    "pack's README."
)


@dataclass(eq=False)
class Node:
    """One node; `node[0]` is its first output."""

    number: int
    kind: str
    inputs: dict[str, Any]
    models: list[dict[str, str]] = field(default_factory=list)  # for the missing-model dialog

    def __getitem__(self, output: int) -> Link:
        return Link(self, output)


@dataclass(frozen=True)
class Link:
    node: Node
    output: int


@dataclass
class Template:
    """name: of its files; note: shown beside the graph, Markdown."""

    name: str
    note: str
    nodes: list[Node] = field(default_factory=list)

    def add(self, kind: str, *, models: list[dict[str, str]] | None = None, **inputs: Any) -> Node:
        self.nodes.append(Node(len(self.nodes) + 1, kind, inputs, models or []))
        return self.nodes[-1]

    def picture(self) -> Link:
        return self.add("LoadImage", image=PHOTOGRAPH)[0]

    def model(self) -> Link:
        return self.add("VARSR_LoadModel", checkpoint=NANO)[0]

    def nsarm(self) -> Link:
        address = INFINITY + NSARM_AUTOENCODER
        models = [{"name": NSARM_AUTOENCODER, "url": address, "directory": "nsarm"}]
        return self.add("NSARM_LoadModel", checkpoint="NSARM.pth", models=models)[0]

    def upscaled(self, model: Link, image: Link, **settings: Any) -> Link:
        return self.add("VARSR_Upscale", model=model, image=image, **settings)[0]

    def save(self, image: Link) -> None:
        self.add("SaveImage", images=image, filename_prefix="VARSR")


def upscale() -> Template:
    flow = Template("varsr_upscale", "Enlarges and restores a photograph four times, in one node.")
    picture, model = flow.picture(), flow.model()
    flow.save(flow.upscaled(model, picture))
    return flow


def stages() -> Template:
    flow = Template(
        "varsr_stages",
        "All stages, one by one: the same picture, bit for bit, as VARSR Upscale makes.\n\n"
        "**stop_scale** of the sampler shows the picture before it is finished.",
    )
    picture, model = flow.picture(), flow.model()
    prefix = flow.add("VARSR_EncodePrefix", model=model, image=picture)[0]
    tokens = flow.add("VARSR_Sample", model=model, prefix=prefix)[0]
    refined = flow.add("VARSR_Refine", model=model, tokens=tokens)[0]
    decoded = flow.add("VARSR_Decode", model=model, tokens=refined)[0]
    flow.save(flow.add("VARSR_MatchColors", image=decoded, reference=picture)[0])
    return flow


def released_model() -> Template:
    flow = Template(
        "varsr_released_model",
        "The released model, far better at inventing detail than the small one of the pack.\n\n"
        f"Needs [VARSR.pth]({RELEASE}VARSR.pth) (13.7 GB) and, beside it, "
        f"[VQVAE.pth]({RELEASE}VQVAE.pth) (1.4 GB) in models/varsr. Converted once, they are one "
        "file of 1.7 GB: see the pack's README.",
    )
    models = [
        {"name": name, "url": RELEASE + name, "directory": "varsr"}
        for name in ("VARSR.pth", "VQVAE.pth")
    ]
    picture = flow.picture()
    model = flow.add("VARSR_LoadModel", checkpoint="VARSR.pth", models=models)[0]
    flow.save(flow.upscaled(model, picture))
    return flow


def after_another_upscaler() -> Template:
    file = "RealESRGAN_x4plus.pth"
    flow = Template(
        "varsr_after_another_upscaler",
        "Another upscaler enlarges, VARSR restores what it made, at the same size "
        "(scale 1).\n\nNeeds an upscale model in models/upscale_models.",
    )
    picture, model = flow.picture(), flow.model()
    address = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.1.0/" + file
    models = [{"name": file, "url": address, "directory": "upscale_models"}]
    other = flow.add("UpscaleModelLoader", model_name=file, models=models)[0]
    enlarged = flow.add("ImageUpscaleWithModel", upscale_model=other, image=picture)[0]
    flow.save(flow.upscaled(model, enlarged, scale=1.0))
    return flow


def after_generating() -> Template:
    file = "v1-5-pruned-emaonly-fp16.safetensors"
    flow = Template(
        "varsr_after_generating",
        "A picture is generated, then enlarged with VARSR.\n\nNeeds a checkpoint in "
        "models/checkpoints.",
    )
    address = "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/" + file
    models = [{"name": file, "url": address, "directory": "checkpoints"}]
    loaded = flow.add("CheckpointLoaderSimple", ckpt_name=file, models=models)
    wanted = flow.add("CLIPTextEncode", clip=loaded[1], text="a lighthouse on a rock, evening")[0]
    unwanted = flow.add("CLIPTextEncode", clip=loaded[1], text="blurry, text, watermark")[0]
    empty = flow.add("EmptyLatentImage", width=512, height=512)[0]
    sampled = flow.add(
        "KSampler",
        model=loaded[0],
        positive=wanted,
        negative=unwanted,
        latent_image=empty,
        seed=0,
        steps=20,
        cfg=7.0,
    )[0]
    picture = flow.add("VAEDecode", samples=sampled, vae=loaded[2])[0]
    flow.save(flow.upscaled(flow.model(), picture, scale=4.0))
    return flow


def comparison() -> Template:
    flow = Template(
        "varsr_comparison",
        "Guidance 0, 3 and 6 from left to right, two seeds from top to bottom. Seeds matter "
        "because top_k is above 1.",
    )
    picture, model = flow.picture(), flow.model()
    rows = []
    for seed in range(2):
        row = None
        for guidance in (0.0, 3.0, 6.0):
            made = flow.upscaled(
                model, picture, guidance=guidance, seed=seed, top_k=50, temperature=0.8
            )
            row = made if row is None else flow.add("ImageStitch", image1=row, image2=made)[0]
        rows.append(row)
    flow.save(flow.add("ImageStitch", image1=rows[0], image2=rows[1], direction="down")[0])
    return flow


def inside_a_mask() -> Template:
    flow = Template(
        "varsr_inside_a_mask",
        "Restores inside the mask only and fades in over **feather** pixels; outside, the picture "
        "is plainly enlarged.\n\nHere the mask is a rectangle. For your own, right-click Load "
        "Image, Open in MaskEditor, and connect its MASK.",
    )
    picture, model = flow.picture(), flow.model()
    nothing = flow.add("SolidMask", value=0.0, width=128, height=128)[0]
    patch = flow.add("SolidMask", value=1.0, width=64, height=96)[0]
    mask = flow.add("MaskComposite", destination=nothing, source=patch, x=0, y=16, operation="add")[
        0
    ]
    flow.save(flow.upscaled(model, picture, mask=mask))
    return flow


def keep_structure() -> Template:
    flow = Template(
        "varsr_keep_structure",
        "The picture's own tokens are kept up to **first_scale**, the finer ones are predicted "
        "anew: structure stays, texture changes.\n\nClick a scale in the sampler's strip to go on "
        "from there.",
    )
    picture, model = flow.picture(), flow.model()
    own = flow.add("VARSR_EncodeTokens", model=model, image=picture)[0]
    prefix = flow.add("VARSR_EncodePrefix", model=model, image=picture)[0]
    tokens = flow.add("VARSR_Sample", model=model, prefix=prefix, tokens=own, first_scale=3)[0]
    refined = flow.add("VARSR_Refine", model=model, tokens=tokens)[0]
    flow.save(flow.add("VARSR_Decode", model=model, tokens=refined)[0])
    return flow


def clip() -> Template:
    flow = Template(
        "varsr_clip",
        "The frames of a clip, two times larger, sound kept. Every frame has the same seed, so "
        "that still parts stay still; memory does not grow with the number of frames.",
    )
    loaded = flow.add("LoadVideo", file=CLIP)[0]
    parts = flow.add("GetVideoComponents", video=loaded)
    frames = flow.upscaled(flow.model(), parts[0], scale=2.0)
    video = flow.add("CreateVideo", images=frames, fps=parts[2], audio=parts[1])[0]
    flow.add("SaveVideo", video=video, filename_prefix="video/VARSR")
    return flow


def nsarm_upscale() -> Template:
    flow = Template(
        "nsarm_upscale",
        f"Enlarges and restores a photograph four times with NSARM, in one node.\n\n{NSARM_NOTE}",
    )
    picture, model = flow.picture(), flow.nsarm()
    flow.save(flow.add("NSARM_Upscale", model=model, image=picture)[0])
    return flow


def nsarm_stages() -> Template:
    flow = Template(
        "nsarm_stages",
        "All stages of NSARM, one by one, under a prompt. Without **NSARM Encode Text** no text "
        "encoder is needed.\n\n"
        f"{NSARM_NOTE} The prompt needs flan-t5-xl's encoder in models/text_encoders.",
    )
    picture, model = flow.picture(), flow.nsarm()
    text = flow.add("NSARM_EncodeText", text_encoder="flan_t5_xl_encoder_bf16.safetensors")[0]
    prefix = flow.add("NSARM_Prefix", model=model, image=picture)[0]
    bits = flow.add("NSARM_Sample", model=model, prefix=prefix, text=text)[0]
    decoded = flow.add("NSARM_Decode", model=model, bits=bits)[0]
    flow.save(flow.add("VARSR_MatchColors", image=decoded, reference=picture)[0])
    return flow


TEMPLATES = [
    upscale(),
    stages(),
    released_model(),
    after_another_upscaler(),
    after_generating(),
    comparison(),
    inside_a_mask(),
    keep_structure(),
    clip(),
    nsarm_upscale(),
    nsarm_stages(),
]

"""Example workflows that need files: the released VARSR, NSARM, a generator, another upscaler."""

from __future__ import annotations

from tools.generate.template import Link, Template

RELEASE = "https://huggingface.co/qyp2000/VARSR/resolve/main/"
K2N_RELEASE, K2N_FILE = "https://huggingface.co/muzeerec/K2N/resolve/main/", "K2NSR.pth"
INFINITY = "https://huggingface.co/FoundationVision/Infinity/resolve/main/"
REAL_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.1.0/"
COMFY_ORG = "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/"

AUTOENCODER = "infinity_vae_d56_f8_14_patchify.pth"
UPSCALER = "RealESRGAN_x4plus.pth"
GENERATOR = "v1-5-pruned-emaonly-fp16.safetensors"
NSARM_FILES = (
    "Needs, in *models/nsarm*, NSARM.pth from its authors "
    "([github.com/Xiangtaokong/NSARM](https://github.com/Xiangtaokong/NSARM)) and "
    f"[{AUTOENCODER}]({INFINITY}{AUTOENCODER}), or both converted to one file: the pack's README "
    "says how. Choose your picture in **Load Image** and press **Run**."
)


def released_model() -> Template:
    flow = Template(
        "7 Upscale with the released model",
        note="## The authors' model: 1.1 billion weights\n\n"
        "It invents detail that the small model of the pack cannot.\n\n"
        "Turn *download* of **Get VARSR Model** on, choose your picture in **Load Image**, and "
        "press **Run**. The first time it fetches 15 GB from "
        f"[Hugging Face]({RELEASE.removesuffix('/resolve/main/')}) and makes one file of 1.7 GB of "
        "them in *models/varsr*; a run that was stopped goes on where it was.\n\n"
        f"Or put [VARSR.pth]({RELEASE}VARSR.pth) and [VQVAE.pth]({RELEASE}VQVAE.pth) there "
        "yourself, and leave *download* off.",
    )
    picture = flow.picture()
    model = flow.add("VARSR_GetModel")[0]
    flow.save(flow.upscaled(model, picture))
    return flow


def after_generating() -> Template:
    flow = Template(
        "8 Generate and upscale",
        note="## A picture from words, four times larger\n\n"
        f"Needs [{GENERATOR}]({COMFY_ORG}{GENERATOR}) (2.1 GB) in *models/checkpoints*; if another "
        "checkpoint is there, choose that. Say what you want in **CLIP Text Encode** and press "
        "**Run**.\n\n"
        "In your own workflow, put **Load VARSR Model** and **VARSR Upscale** between **VAE "
        "Decode** and **Save Image**, as here.",
    )
    models = [_file(GENERATOR, COMFY_ORG, "checkpoints")]
    loaded = flow.add("CheckpointLoaderSimple", ckpt_name=GENERATOR, models=models)
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


def after_another_upscaler() -> Template:
    flow = Template(
        "9 Restore after another upscaler",
        note="## Another upscaler enlarges, VARSR restores\n\n"
        "VARSR leaves the size as it is (*scale* 1) and adds what the other one smoothed away.\n\n"
        f"Needs [{UPSCALER}]({REAL_ESRGAN}{UPSCALER}) (67 MB) in *models/upscale_models*; if "
        "another upscale model is there, choose that. Choose your picture in **Load Image** and "
        "press **Run**.",
    )
    models = [_file(UPSCALER, REAL_ESRGAN, "upscale_models")]
    picture, model = flow.picture(), flow.model()
    other = flow.add("UpscaleModelLoader", model_name=UPSCALER, models=models)[0]
    enlarged = flow.add("ImageUpscaleWithModel", upscale_model=other, image=picture)[0]
    flow.save(flow.upscaled(model, enlarged, scale=1.0))
    return flow


def class_to_image() -> Template:
    flow = Template(
        "Class to image then VARSR 4x",
        note="## A picture out of nothing, then four times larger\n\n"
        "**VARSR Class to Image** makes it, of the class whose number is *label*; its help lists "
        "numbers to try. **VARSR Upscale** enlarges it with the small model of the pack, or any "
        "other VARSR.\n\n"
        f"Needs, in *models/varsr*, [VARSR_C2I.pth]({RELEASE}VARSR_C2I.pth) and "
        f"[VQVAE.pth]({RELEASE}VQVAE.pth), or both converted to one file: the pack's README says "
        "how. Press **Run**.",
    )
    models = [_file(name, RELEASE, "varsr") for name in ("VARSR_C2I.pth", "VQVAE.pth")]
    base = flow.add("VARSR_LoadModel", checkpoint="VARSR_C2I.pth", models=models)[0]
    made = flow.add("VARSR_ClassToImage", model=base)[0]
    flow.save(flow.upscaled(flow.model(), made, scale=4.0))
    return flow


def closer_to_the_input() -> Template:
    flow = Template(
        "K2N Keep closer to the input",
        note="## Its coarse scales come from the picture itself\n\n"
        "K2N, a small network made for the authors' model, predicts the first three scales from "
        "your picture; VARSR adds the others, and makes up less.\n\n"
        "Turn *download* of **Get VARSR Model** on and run it once, alone (select it, then **Run** "
        "on it): it fetches 15 GB, and K2N beside them. Or put "
        f"[{K2N_FILE}]({K2N_RELEASE}{K2N_FILE}) into *models/varsr*.\n\n"
        "Without that file, template *5 Keep the structure* has the relative that needs none.",
    )
    picture = flow.picture()
    model = flow.add("VARSR_GetModel", k2n=True)[0]
    k2n = flow.add("VARSR_LoadK2N", checkpoint="K2N (released)")[0]
    flow.save(flow.upscaled(model, picture, k2n=k2n))
    return flow


def nsarm_upscale() -> Template:
    flow = Template(
        "NSARM 1 Upscale a picture",
        note="## Four times larger, by the largest model\n\n"
        "NSARM has 8.8 billion weights: 17.7 GB in bf16, 9.5 GB in fp8.\n\n"
        f"{NSARM_FILES}",
    )
    picture, model = flow.picture(), _nsarm(flow)
    flow.save(flow.add("NSARM_Upscale", model=model, image=picture)[0])
    return flow


def nsarm_stages() -> Template:
    flow = Template(
        "NSARM 2 Step by step",
        note="## Every stage of NSARM, under a prompt\n\n"
        "**NSARM Encode Text** needs flan-t5-xl's encoder in *models/text_encoders*; without that "
        f"node everything works, but for the prompt.\n\n{NSARM_FILES}",
    )
    picture, model = flow.picture(), _nsarm(flow)
    text = flow.add("NSARM_EncodeText", text_encoder="flan_t5_xl_encoder_bf16.safetensors")[0]
    prefix = flow.add("NSARM_Prefix", model=model, image=picture)[0]
    bits = flow.add("NSARM_Sample", model=model, prefix=prefix, text=text)[0]
    decoded = flow.add("NSARM_Decode", model=model, bits=bits)[0]
    flow.save(flow.add("VARSR_MatchColors", image=decoded, reference=picture)[0])
    return flow


def _nsarm(flow: Template) -> Link:
    models = [_file(AUTOENCODER, INFINITY, "nsarm")]
    return flow.add("NSARM_LoadModel", checkpoint="NSARM.pth", models=models)[0]


def _file(name: str, address: str, folder: str) -> dict[str, str]:
    """A file as the page lists missing ones."""
    return {"name": name, "url": address + name, "directory": folder}

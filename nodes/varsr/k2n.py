"""K2N: the first token maps of the released VARSR from a small network of its own."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ...varsr_core.checkpoint import load_checkpoint
from ...varsr_core.errors import CheckpointError
from ...varsr_core.tiling.consistency import Tiling
from ...varsr_core.varsr.k2n.config import SIDES, USUAL_SCALES
from ...varsr_core.varsr.k2n.kind import (
    CONVERTED_FILE,
    K2N_KIND,
    RELEASED_FILE,
    REPOSITORY,
    noted,
)
from ...varsr_core.varsr.k2n.stages import predict_tokens
from ...varsr_core.varsr.k2n.weights import build_model
from .. import host, inputs
from ..host import schema
from ..pixels import to_core
from ..sockets import checked
from .inputs import k2n, model
from .loading import FOLDER
from .sockets import VARSRK2N, LoadedK2N, VARSRTokens

RELEASED = "K2N (released)"  # whichever of its files is there
SEARCHED = ["k2nsr", "hallucination", "faithful", "structure", "coarse", "fidelity"]


def load(checkpoint: str) -> LoadedK2N:
    """A model ready for ComfyUI's memory management. Raises CheckpointError with the remedy."""
    path = _path(checkpoint)
    if path is None:
        raise CheckpointError(f"checkpoint: {missing(checkpoint)}")
    read = noted(load_checkpoint([path], K2N_KIND), path)
    network = build_model(read.tensors, operations=host.operations(), fingerprint=read.fingerprint)
    return LoadedK2N(network, host.managed(network))


def _path(checkpoint: str) -> Path | None:
    if checkpoint != RELEASED:
        return host.model_path(checkpoint, FOLDER)
    found = (host.model_path(name, FOLDER) for name in (CONVERTED_FILE, RELEASED_FILE))
    return next(filter(None, found), None)


def missing(checkpoint: str) -> str:
    return (
        f"there is no file of {checkpoint!r} in the list of models; turn on download and k2n in "
        f"Get VARSR Model and run that first, or put {RELEASED_FILE} from "
        f"https://huggingface.co/{REPOSITORY} into {host.model_folder(FOLDER)}. Without it, VARSR "
        "Encode Image to Tokens keeps the structure, too (template 5 Keep the structure)"
    )


class LoadK2N(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_LoadK2N",
            display_name="Load K2N Model",
            description="Loads K2N, a small network that predicts the first scales of the released "
            "VARSR from the low-quality picture, so that less is made up.",
            search_aliases=["checkpoint", "super resolution", *SEARCHED],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=[RELEASED, *host.model_files(FOLDER)],
                    tooltip=f"{RELEASED} is {CONVERTED_FILE} or {RELEASED_FILE} in models/varsr, "
                    "where Get VARSR Model puts it; or choose another file of K2N.",
                ),
            ],
            outputs=[
                VARSRK2N.Output(
                    display_name="k2n",
                    tooltip="For VARSR Predict Coarse Tokens, or k2n of VARSR Upscale.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None) -> bool | str:
        """Before the run, as in Load VARSR Model; the released one may be fetched until then."""
        found = checkpoint in (None, RELEASED) or _path(checkpoint) is not None
        return found or missing(checkpoint)

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str) -> str:
        path = _path(checkpoint)
        return host.versions([path] if path else [])

    @classmethod
    @checked
    def execute(cls, checkpoint: str) -> io.NodeOutput:
        return io.NodeOutput(load(checkpoint))


class PredictCoarse(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_PredictCoarse",
            display_name="VARSR Predict Coarse Tokens",
            description="Predicts the first token maps from the low-quality picture by K2N; VARSR "
            "Next-Scale Sample goes on from them and makes up less.",
            search_aliases=["super resolution", *SEARCHED],
            inputs=[
                model(),
                k2n(),
                inputs.image(),
                *inputs.size(),
                inputs.tiling(),
                inputs.overlap(),
                io.Int.Input(
                    "scales",
                    default=USUAL_SCALES,
                    min=1,
                    max=len(SIDES),
                    tooltip="How many scales are predicted: 3 as published, at most what the file "
                    "has; set first_scale of VARSR Next-Scale Sample to the same.",
                ),
            ],
            outputs=[
                VARSRTokens.Output(
                    display_name="tokens",
                    tooltip="For tokens of VARSR Next-Scale Sample, with first_scale as scales "
                    "here and guidance 9 there and in VARSR Diffusion Refine.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, model, k2n, image, tiling, overlap, scales, **size) -> io.NodeOutput:
        tokens = predict_tokens(
            model.network,
            k2n.coarse(scales),
            to_core(image),
            inputs.output_size(**size),
            host.execution(model, beside=[k2n.patcher]),
            Tiling(tiling, overlap),
        )
        return io.NodeOutput(tokens)

"""NSARM Encode Text: flan-t5-xl's encoder by ComfyUI's own T5, and features kept in files."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import comfy.model_management as mm
import comfy.text_encoders.t5 as comfy_t5
import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from ...varsr_core.errors import CheckpointError, InputError
from ...varsr_core.family import count_numbered
from ...varsr_core.files.tensors import read_tensors
from ...varsr_core.nn.weights import check_fit
from ...varsr_core.nsarm.results import TextFeatures
from ...varsr_core.nsarm.text import UNCONDITIONAL
from ...varsr_core.nsarm.text_files import load_text, save_text
from .. import host
from ..sockets import checked
from .sockets import NSARMText

logger = logging.getLogger(__name__)

ENCODERS, SAVED = "text_encoders", "nsarm_text"
NO_TEXT = "no text"
FIRST_BLOCK = "encoder.block.0.layer"
NAME = re.compile(r"\w[\w .-]*")


def encoder_files() -> list[str]:
    return folder_paths.get_filename_list(ENCODERS)


def encoder_path(name: str) -> Path:
    found = host.listed_path(name, ENCODERS, encoder_files())
    if found is None:
        raise CheckpointError(f"text_encoder: {missing(name)}")
    return found


def missing(encoder: str) -> str:
    return (
        f"there is no file {encoder!r} in the list of models; put the encoder of flan-t5-xl, one "
        f"file, into {host.model_folder(ENCODERS)}, or leave NSARM Encode Text out"
    )


def encode(text_encoder: str, prompt: str) -> TextFeatures:
    """Features of a prompt; the encoder is read for it, and let go."""
    path = encoder_path(text_encoder)
    network = _encoder(path)
    patcher = host.core_patcher()(
        network,
        load_device=mm.text_encoder_device(),
        offload_device=mm.text_encoder_offload_device(),
    )
    mm.load_models_gpu([patcher])
    ids = _token_ids(prompt)[None].to(patcher.load_device)
    with torch.inference_mode():
        features = network(ids, attention_mask=None)[0][0].float().cpu()
    return TextFeatures(features, prompt)


def _token_ids(prompt: str) -> Tensor:
    """(n,) of the prompt and the token that ends it."""
    from transformers import T5TokenizerFast

    folder = Path(comfy_t5.__file__).parent / "t5_tokenizer"
    tokenizer = T5TokenizerFast.from_pretrained(str(folder))
    ids = tokenizer(prompt)["input_ids"]
    if len(ids) > UNCONDITIONAL:
        logger.warning("prompt has %d tokens; the first %d are used", len(ids), UNCONDITIONAL)
        ids = [*ids[: UNCONDITIONAL - 1], ids[-1]]
    return torch.tensor(ids)


def _encoder(path: Path) -> torch.nn.Module:
    """A T5 encoder of the size that its weights tell, in their dtype."""
    weights = _encoder_weights(path)
    try:
        first = weights[f"{FIRST_BLOCK}.0.SelfAttention.q.weight"]
        heads = weights[f"{FIRST_BLOCK}.0.SelfAttention.relative_attention_bias.weight"].shape[1]
        sizes = {
            "num_layers": count_numbered(weights, "encoder.block.{}.layer.0.layer_norm.weight"),
            "d_model": weights["shared.weight"].shape[1],
            "vocab_size": weights["shared.weight"].shape[0],
            "d_kv": first.shape[0] // heads,
            "num_heads": heads,
            "d_ff": weights[f"{FIRST_BLOCK}.1.DenseReluDense.wi_0.weight"].shape[0],
            "dense_act_fn": "gelu_pytorch_tanh",
            "is_gated_act": True,
            "model_type": "t5",
        }
    except KeyError as error:
        raise CheckpointError(
            f"{path.name} lacks the tensor {error}: it is no flan-t5-xl, or a part of it; one file "
            "with its whole encoder is expected"
        ) from None
    with torch.device("meta"):
        network = comfy_t5.T5(sizes, first.dtype, None, host.operations())
        # With dynamic VRAM, ComfyUI's layers have no weights until they are loaded.
        plain = comfy_t5.T5(sizes, first.dtype, None, torch.nn)
    check_fit("text encoder", plain, weights)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def _encoder_weights(path: Path) -> dict[str, Tensor]:
    """Of a file that may hold the decoder too."""
    groups, _ = read_tensors(path)
    found = {name: tensor for group in groups for name, tensor in group.items()}
    shared = found.get("shared.weight", found.get("encoder.embed_tokens.weight"))
    kept = {
        name: tensor
        for name, tensor in found.items()
        if name.startswith("encoder.") and name != "encoder.embed_tokens.weight"
    }
    return kept if shared is None else {**kept, "shared.weight": shared}


def saved_names() -> list[str]:
    """What nodes offer as `saved_text`: none first."""
    _register()
    return [NO_TEXT, *host.model_files(SAVED)]


def chosen(text: TextFeatures | None, saved_text: str) -> TextFeatures | None:
    """What is connected, else what is chosen, else nothing."""
    if text is not None or saved_text == NO_TEXT:
        return text
    path = _saved_path(saved_text)
    if path is None:
        raise CheckpointError(
            f"saved_text: there is no file {saved_text!r} in the list; NSARM Encode Text makes one "
            "with save_as"
        )
    return load_text(path)


def keep(text: TextFeatures, name: str) -> None:
    """Saves features under a name for `saved_text`, beside the pictures that ComfyUI saves."""
    if NAME.fullmatch(name) is None:
        raise InputError(
            f"save_as is {name!r}; letters, digits, spaces, dots and dashes are expected, no folder"
        )
    folder = _output_folder()
    folder.mkdir(parents=True, exist_ok=True)
    save_text(text, folder / f"{name.removesuffix('.safetensors')}.safetensors")


def version_on_disk(saved_text: str | None) -> str:
    if saved_text in (None, NO_TEXT):
        return ""
    path = _saved_path(saved_text)
    return "" if path is None else host.versions([path])


def _saved_path(name: str) -> Path | None:
    _register()
    return host.model_path(name, SAVED)


def _output_folder() -> Path:
    return Path(folder_paths.get_output_directory()) / SAVED


def _register() -> None:
    """What nodes save is found, as ComfyUI finds models in its output folder."""
    host.register_model_folder(SAVED)
    paths, extensions = folder_paths.folder_names_and_paths[SAVED]
    if str(_output_folder()) not in paths:
        folder_paths.folder_names_and_paths[SAVED] = ([*paths, str(_output_folder())], extensions)


class EncodeText(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="NSARM_EncodeText",
            display_name="NSARM Encode Text",
            description="Turns a prompt, written or from a caption node, into what NSARM reads; "
            "can save it, so that the text encoder is not needed again.",
            search_aliases=["prompt", "caption", "t5", "condition"],
            inputs=[
                io.Combo.Input(
                    "text_encoder",
                    options=encoder_files(),
                    tooltip="The encoder of flan-t5-xl, one file of models/text_encoders; it is "
                    "read for this node only and leaves memory before sampling.",
                ),
                io.String.Input(
                    "prompt",
                    default="A high-quality image with harmonious colors and rich details.",
                    multiline=True,
                    tooltip="What the picture shows, in English; the authors used captions of 50 "
                    "to 120 words. Any caption node can be connected.",
                ),
                host.advanced(
                    io.String.Input(
                        "save_as",
                        default="",
                        tooltip="Name under which the result is saved for saved_text of the other "
                        "nodes; empty saves nothing.",
                    )
                ),
            ],
            outputs=[
                NSARMText.Output(display_name="text", tooltip="For NSARM Sample or NSARM Upscale.")
            ],
        )

    @classmethod
    def validate_inputs(cls, text_encoder: str | None) -> bool | str:
        """Before the run, as in Load VARSR Model."""
        found = text_encoder is None or text_encoder in encoder_files()
        return found or missing(text_encoder)

    @classmethod
    def fingerprint_inputs(cls, text_encoder: str, **_: object) -> str:
        return host.versions([encoder_path(text_encoder)])

    @classmethod
    @checked
    def execute(cls, text_encoder: str, prompt: str, save_as: str) -> io.NodeOutput:
        text = encode(text_encoder, prompt)
        if save_as:
            keep(text, save_as)
        return io.NodeOutput(text)

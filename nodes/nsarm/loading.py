"""Finding, reading and remembering NSARM files for the Load node, and bringing their parts in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import comfy.model_management as mm
import comfy.model_patcher
from torch import Tensor

from ...varsr_core.checkpoint import load_checkpoint
from ...varsr_core.errors import CheckpointError
from ...varsr_core.nsarm.config import FORCED
from ...varsr_core.nsarm.family import AUTOENCODER_FILE, NSARM_FAMILY, TRANSFORMER_FILE, model_files
from ...varsr_core.nsarm.memory import decoding_bytes, encoding_bytes, sampling_bytes
from ...varsr_core.nsarm.model import build_model
from ...varsr_core.nsarm.restorer import NSARMRestorer, Part
from ...varsr_core.nsarm.results import TextFeatures
from ...varsr_core.nsarm.sampling import SampleSettings
from ...varsr_core.nsarm.transformer import AttentionFn
from .. import host
from ..attention import pick_attention

FOLDER = "nsarm"


@dataclass(frozen=True, kw_only=True)
class LoadedNSARM(host.LoadedModel):
    """An NSARM model whose parts ComfyUI manages one by one; `patcher` has the transformer.

    parts: so that autoencoder and map network make room while the transformer works
    """

    parts: dict[Part, comfy.model_patcher.ModelPatcher]

    def working(self, part: Part, tile_bytes: int) -> LoadedNSARM:
        """The same for a stage in which only this part works."""
        return replace(self, patcher=self.parts[part], tile_bytes=tile_bytes)

    def encoding(self) -> LoadedNSARM:
        return self.working("autoencoder", encoding_bytes(self.network))

    def sampling(self, settings: SampleSettings, text: TextFeatures | None) -> LoadedNSARM:
        texts = 1 if text is None or settings.guidance == 1 else 2
        return self.working("transformer", sampling_bytes(self.network, texts))

    def decoding(self) -> LoadedNSARM:
        return self.working("autoencoder", decoding_bytes(self.network))

    def restorer(
        self, settings: SampleSettings | None = None, text: TextFeatures | None = None
    ) -> NSARMRestorer:
        """What works with this model, each part brought to its device before, with room for it.

        Where that is short, ComfyUI offloads the parts that wait.
        """
        settings = settings or SampleSettings()
        needed: dict[Part, int] = {
            "autoencoder": decoding_bytes(self.network),  # which is more than encoding takes
            "map network": encoding_bytes(self.network),
            "transformer": self.sampling(settings, text).tile_bytes,
        }
        present: list[Part] = []

        def bring(part: Part) -> None:
            if present != [part]:
                mm.load_models_gpu([self.parts[part]], memory_required=needed[part])
                present[:] = [part]

        features: Tensor | None = text.features if text else None
        return NSARMRestorer(self.network, settings, features, bring)


def load(checkpoint: str, dtype: str) -> LoadedNSARM:
    """A model ready for ComfyUI's memory management. Raises CheckpointError with the remedy."""
    path = host.model_path(checkpoint, FOLDER)
    if not path.is_file():
        raise CheckpointError(f"checkpoint: there is no file {path}; {where_to_get()}")
    read = load_checkpoint(model_files(path), NSARM_FAMILY)
    network = build_model(
        read.tensors,
        dtype=host.pick_dtype(dtype),
        attention=_attention(),
        operations=host.operations(),
        fingerprint=read.fingerprint,
    )
    parts: dict[Part, comfy.model_patcher.ModelPatcher] = {
        "autoencoder": host.managed(network.vae),
        "map network": host.managed(network.maps),
        "transformer": host.managed(network.transformer),
    }
    # The node's strip has one box for the scales that come together.
    sides = network.config.schedule.sides[FORCED - 1 :]
    of_tile = sampling_bytes(network, 1)
    return LoadedNSARM(network, parts["transformer"], of_tile, sides, parts=parts)


def _attention() -> AttentionFn:
    plain = pick_attention()  # its softmax scale is 1, as in self-attention; at text it is not
    return lambda q, k, v, scale: plain(q if scale == 1 else q * scale, k, v)


def version_on_disk(checkpoint: str) -> str:
    """Changes when a file is replaced, so that ComfyUI loads it again."""
    return host.versions(model_files(host.model_path(checkpoint, FOLDER)))


def choices() -> list[str]:
    return host.model_files(FOLDER)


def where_to_get() -> str:
    return (
        f"put {TRANSFORMER_FILE} (its pieces joined) and {AUTOENCODER_FILE}, or a converted file, "
        f"into {host.model_folder(FOLDER)}"
    )

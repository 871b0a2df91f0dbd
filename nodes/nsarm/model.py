"""A loaded NSARM model, and how its parts are brought in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import comfy.model_patcher
from torch import Tensor

from ...varsr_core.nsarm.memory import decoding_bytes, encoding_bytes, sampling_bytes
from ...varsr_core.nsarm.restorer import NSARMRestorer, Part
from ...varsr_core.nsarm.results import TextFeatures
from ...varsr_core.nsarm.sampling import SampleSettings
from ...varsr_core.runtime.defaults import resolved
from .. import host


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
        guidance = resolved(settings, self.network.defaults).guidance
        texts = 1 if text is None or guidance == 1 else 2
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
                host.bring(self.parts[part], needed[part], host.at_once(self, needed[part]))
                present[:] = [part]

        features: Tensor | None = text.features if text else None
        return NSARMRestorer(self.network, settings, features, bring)

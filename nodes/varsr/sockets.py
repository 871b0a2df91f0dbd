"""Socket types of VARSR: its own, so that ComfyUI itself refuses a wire to another family."""

from comfy_api.latest import io

VARSRModel = io.Custom("VARSR_MODEL")
VARSRPrefix = io.Custom("VARSR_PREFIX")
VARSRTokens = io.Custom("VARSR_TOKENS")

"""Socket types. One set per family, so that ComfyUI itself refuses a wrong wire."""

from comfy_api.latest import io

VARSRModel = io.Custom("VARSR_MODEL")
VARSRPrefix = io.Custom("VARSR_PREFIX")
VARSRTokens = io.Custom("VARSR_TOKENS")

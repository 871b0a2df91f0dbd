"""Socket types of NSARM: its own, so that ComfyUI itself refuses a wire to another family."""

from comfy_api.latest import io

NSARMModel = io.Custom("NSARM_MODEL")
NSARMText = io.Custom("NSARM_TEXT")
NSARMPrefix = io.Custom("NSARM_PREFIX")
NSARMBits = io.Custom("NSARM_BITS")

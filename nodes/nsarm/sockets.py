"""Socket types of NSARM: its own, so that ComfyUI itself refuses a wire to another family."""

from ...varsr_core.nsarm.results import Prefix, Sampled, TextFeatures
from ..sockets import socket
from .model import LoadedNSARM

NSARMModel = socket("NSARM_MODEL", LoadedNSARM)
NSARMText = socket("NSARM_TEXT", TextFeatures)
NSARMPrefix = socket("NSARM_PREFIX", Prefix)
NSARMBits = socket("NSARM_BITS", Sampled)

"""The families that the command knows, under the names in their files."""

from .family import BatchFamily
from .nsarm_family import NSARM_IN_BATCH
from .varsr_family import VARSR_IN_BATCH

FAMILIES: dict[str, BatchFamily] = {"varsr": VARSR_IN_BATCH, "nsarm": NSARM_IN_BATCH}
DEFAULT_FAMILY = "varsr"

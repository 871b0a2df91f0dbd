"""The families that the command knows, under the names in their files."""

from .family import BatchFamily
from .varsr_family import VARSR_IN_BATCH

FAMILIES: dict[str, BatchFamily] = {"varsr": VARSR_IN_BATCH}
DEFAULT_FAMILY = "varsr"

"""The only code that knows ComfyUI. `varsr_core` does the work; a node translates."""

from comfy_api.latest import ComfyExtension, io

from . import fidelity, match_colors, nsarm, varsr

FAMILIES = (varsr, nsarm)
NODES: list[type[io.ComfyNode]] = [
    *(node for family in FAMILIES for node in family.NODES),
    *match_colors.NODES,
    *fidelity.NODES,
]


class VARSRExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES

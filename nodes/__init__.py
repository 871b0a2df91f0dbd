"""The only code that knows ComfyUI. `varsr_core` does the work; a node translates."""

from comfy_api.latest import ComfyExtension, io

from . import host, match_colors
from .nsarm import stages as nsarm
from .varsr import stages as varsr

NODES: list[type[io.ComfyNode]] = [*varsr.NODES, *nsarm.NODES, *match_colors.NODES]


class VARSRExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        host.register_model_folder()  # not in on_load, which older versions never call
        return NODES

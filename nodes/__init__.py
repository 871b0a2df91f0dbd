"""The only code that knows ComfyUI. `varsr_core` does the work; a node translates."""

from comfy_api.latest import ComfyExtension, io

from . import color_fix, nsarm, runtime, varsr

NODES: list[type[io.ComfyNode]] = [*varsr.NODES, *nsarm.NODES, *color_fix.NODES]


class VARSRExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        runtime.register_model_folder()  # not in on_load, which older versions never call
        return NODES

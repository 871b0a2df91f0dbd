"""ComfyUI entry point of the VARSR nodes; importing it does nothing else."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():  # noqa: ANN201 (the type would import ComfyUI)
    from .nodes import VARSRExtension

    return VARSRExtension()

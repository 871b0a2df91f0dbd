"""A host whose looks for Cancel take time: short work can then be stopped in the middle."""

import time

import comfy.model_management
from aiohttp import web
from server import PromptServer

TAKES = {"seconds": 0.0}
look = comfy.model_management.throw_exception_if_processing_interrupted


def look_slowly():
    time.sleep(TAKES["seconds"])
    look()


comfy.model_management.throw_exception_if_processing_interrupted = look_slowly


@PromptServer.instance.routes.post("/probe/slowness")
async def slow_down(request):
    TAKES.update(await request.json())
    return web.json_response({})

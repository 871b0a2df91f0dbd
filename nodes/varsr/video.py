"""VARSR Upscale Video: a film in, a larger film out, a few frames at a time in memory."""

from __future__ import annotations

import logging
from pathlib import Path

import folder_paths
from comfy.utils import ProgressBar
from comfy_api.latest import InputImpl, io

from ...varsr_core.batch.films.single import CallersModel, frames_of, restore_film
from ...varsr_core.batch.options import Options
from ...varsr_core.batch.output_format import CODEC_CHOICES, OutputFormat
from ...varsr_core.runtime.defaults import resolved
from ...varsr_core.varsr.family import VARSRChoices
from ...varsr_core.varsr.presets import PRESETS
from ...varsr_core.varsr.restorer import VARSRRestorer
from .. import host, inputs
from ..host import advanced, schema
from ..sockets import checked
from ..video_source import as_file
from .inputs import PRESET_SETS, all_stages, guidance_per_scale, model, upscale_choices

SUBFOLDER = "varsr_films"  # of ComfyUI's temporary folder, which it empties when it starts and ends
CONTAINERS = {"ffv1": "mkv", "prores_ks": "mov"}  # of codecs that MP4 does not hold
NO_MASK = {"feather": 0}

logger = logging.getLogger(__name__)


class UpscaleVideo(io.ComfyNode):
    PRESETS = PRESETS

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_UpscaleVideo",
            display_name="VARSR Upscale Video",
            description="Restores and enlarges a film frame by frame, from Load Video to Save "
            "Video; memory does not grow with its length, sound and subtitles go with it.",
            search_aliases=["video upscaler", "film", "movie", "super resolution", "restore video"],
            inputs=[
                model(),
                io.Video.Input("video", tooltip="From Load Video, Trim Video or Create Video."),
                *inputs.size(),
                *all_stages(),
                *inputs.later_choices(PRESETS, PRESET_SETS),
                advanced(
                    io.Combo.Input(
                        "video_codec",
                        options=list(CODEC_CHOICES),
                        default=OutputFormat.video_codec,
                        tooltip="Of the film, an MP4: auto is H.264, which Save Video copies as it "
                        "is; ffv1 (MKV) and prores_ks (MOV) are for other nodes and programs.",
                    )
                ),
                advanced(
                    io.Int.Input(
                        "crf",
                        default=OutputFormat.crf,
                        min=0,
                        max=51,
                        tooltip="Quality of the film: lower is better and larger, 0 loses "
                        "nothing; ffv1 and prores_ks take none.",
                    )
                ),
                inputs.steady(),
                advanced(guidance_per_scale()),
            ],
            outputs=[
                io.Video.Output(
                    display_name="video",
                    tooltip="The larger film, in ComfyUI's temporary folder until it is saved.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, model, video, seed, video_codec, crf, **choices) -> io.NodeOutput:
        choices["unguided_scales"] = model.unguided_scales
        size, settings, sampling, refining = upscale_choices(NO_MASK | choices)
        container = CONTAINERS.get(video_codec, "mp4")
        form = OutputFormat(video_codec=video_codec, crf=crf, container=container)
        chosen = VARSRChoices(sampling, refining)
        options = Options("varsr", "", chosen, size, settings, seed, form, str(model.network.dtype))
        options = resolved(options, model.network.defaults)
        return io.NodeOutput(InputImpl.VideoFromFile(str(_restored(model, video, options))))


def _restored(model, video: object, options: Options) -> Path:
    folder = Path(folder_paths.get_temp_directory()) / SUBFOLDER
    chosen = options.choices
    restorer = VARSRRestorer(model.network, chosen.sampling, chosen.refining)
    with as_file(video, folder) as source:
        frames = frames_of(source)
        bar, done = ProgressBar(frames), 0

        def show(share: float) -> None:
            nonlocal done
            done = max(done, min(round(share * frames), frames))
            bar.update_absolute(done, frames)

        film, notes = restore_film(
            source,
            folder,
            options,
            model.network.fingerprint,
            CallersModel(options, restorer, lambda watch: host.execution(model, watch=watch)),
            show,
        )
    for note in notes:
        logger.info("%s: %s", source.name, note)
    return film

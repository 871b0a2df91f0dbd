"""The example workflows, in the order in which a newcomer wants them."""

from __future__ import annotations

from tools.generate import built_in_templates, model_templates
from tools.generate.template import NANO

__all__ = ["NANO", "TEMPLATES"]

# A host lists them in no order of its own: their names begin with numbers of one digit.
TEMPLATES = [
    built_in_templates.upscale(),
    built_in_templates.video(),
    built_in_templates.part(),
    built_in_templates.compare(),
    built_in_templates.keep_structure(),
    built_in_templates.stages(),
    model_templates.released_model(),
    model_templates.after_generating(),
    model_templates.after_another_upscaler(),
    model_templates.class_to_image(),
    built_in_templates.steady(),
    model_templates.closer_to_the_input(),
    model_templates.nsarm_upscale(),
    model_templates.nsarm_stages(),
    built_in_templates.as_upscale_model(),
]

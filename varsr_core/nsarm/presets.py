"""From keeping close to the input to inventing most: sets of NSARM's settings."""

from ..runtime.defaults import AUTO, AUTO_CHOICE

# The temperature decides how much is drawn; 0.5 is the paper's. Guidance is about the text alone.
PRESETS = {
    "faithful": {"temperature": 0.25, "fidelity": 0.5, "color_fix": "wavelet"},
    "balanced": {"temperature": 0.5, "fidelity": AUTO, "color_fix": AUTO_CHOICE},
    "creative": {"temperature": 0.75, "fidelity": 0.0, "color_fix": AUTO_CHOICE},
}

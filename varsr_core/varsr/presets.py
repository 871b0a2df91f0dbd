"""From keeping close to the input to inventing most: sets of VARSR's settings."""

from ..runtime.defaults import AUTO, AUTO_CHOICE

# Guidance below 0 is so many times the model's own, which is 6 in the paper; less keeps closer to
# the input, more is crisper and invents more.
PRESETS = {
    "faithful": {
        "guidance": -0.5,
        "refine_strength": 0.8,
        "fidelity": 0.5,
        "color_fix": "wavelet",
    },
    "balanced": {
        "guidance": AUTO,
        "refine_strength": 1.0,
        "fidelity": AUTO,
        "color_fix": AUTO_CHOICE,
    },
    "creative": {
        "guidance": -1.5,
        "refine_strength": 1.2,
        "fidelity": 0.0,
        "color_fix": AUTO_CHOICE,
    },
}

// Made by tools/generate/page.py: what the page shows on which node.

export const NODES = {
    VARSR_Sample: {"scales": [1, 2, 3, 5, 8, 12, 16], "slider": false},
    VARSR_Upscale: {"scales": [1, 2, 3, 5, 8, 12, 16], "slider": true, "preset": ["guidance", "refine_strength", "fidelity", "color_fix"]},
    VARSR_AsUpscaleModel: {"preset": ["guidance", "refine_strength", "fidelity", "color_fix"]},
    VARSR_UpscaleVideo: {"preset": ["guidance", "refine_strength", "fidelity", "color_fix"]},
    VARSR_ClassToImage: {"scales": [1, 2, 3, 4, 6, 9, 12, 16, 20, 24, 28, 32], "slider": false},
    NSARM_Sample: {"scales": [16, 20, 24, 32, 40, 48, 64], "slider": false},
    NSARM_Upscale: {"scales": [16, 20, 24, 32, 40, 48, 64], "slider": true, "preset": ["temperature", "fidelity", "color_fix"]},
};

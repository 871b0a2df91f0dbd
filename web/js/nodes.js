// Made by tools/generate/page.py: what the page shows on which node.

export const NODES = {
    VARSR_Sample: {"scales": [1, 2, 3, 5, 8, 12, 16], "slider": false},
    VARSR_Upscale: {"scales": [1, 2, 3, 5, 8, 12, 16], "slider": true},
    NSARM_Sample: {"scales": [16, 20, 24, 32, 40, 48, 64], "slider": false},
    NSARM_Upscale: {"scales": [16, 20, 24, 32, 40, 48, 64], "slider": true},
};

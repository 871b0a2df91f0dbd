"""A running ComfyUI: its server and page, graphs for it, and models in its folders."""

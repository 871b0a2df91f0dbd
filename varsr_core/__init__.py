"""Restoration and enlargement of pictures with next-scale autoregressive models.

A torch library that knows nothing of ComfyUI. Read in this order: `upscale.py` (a picture in, a
larger one out), `varsr/sample.py` (the method), `varsr/transformer.py` (the network).
"""

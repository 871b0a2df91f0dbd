"""From one tile to a picture: grids, the order of tiles, blending, decoding, previews."""

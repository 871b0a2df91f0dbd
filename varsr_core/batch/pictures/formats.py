"""Kinds of picture files, and what each of them holds."""

PICTURE_FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jfif": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}
DEEP_FORMATS = ("png", "tiff")  # that hold 16 bits
LONGEST_SIDE = {"jpeg": 65535, "webp": 16383}  # pixels

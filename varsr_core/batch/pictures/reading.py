"""Pictures read from files, as ComfyUI's Load Image gives them, but with all of their 16 bits."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from ...errors import InputError
from ...images.output_size import OutputSize
from ..disk import regular_stat
from ..optional import import_av
from .metadata import Metadata, read_metadata
from .tiff import PREFIXES, TiffPage, read_deep, tiff_page

READABLE = ("PNG", "JPEG", "WEBP", "TIFF")
PNG_DEPTH = 24  # where a PNG says how many bits a sample has
MOST_PIXELS = 2**28  # of a picture that Pillow does not judge
TRANSPOSE = Image.Transpose
UPRIGHT = {  # EXIF orientation -> what undoes it
    2: TRANSPOSE.FLIP_LEFT_RIGHT,
    3: TRANSPOSE.ROTATE_180,
    4: TRANSPOSE.FLIP_TOP_BOTTOM,
    5: TRANSPOSE.TRANSPOSE,
    6: TRANSPOSE.ROTATE_270,
    7: TRANSPOSE.TRANSVERSE,
    8: TRANSPOSE.ROTATE_90,
}
UPRIGHT_ARRAY = {  # the same for arrays (H, W, C)
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True)
class DecodedPicture(Metadata):
    """A picture and what its file said about it.

    pixels: (1, C, H, W) float32 in [0, 1], C 1, 3 or 4, upright
    deep:   whether the file had 16 bits per sample
    """

    pixels: Tensor
    deep: bool = False


def read_picture(path: Path, size: OutputSize | None = None) -> DecodedPicture:
    """One picture of a PNG, JPEG, WebP or TIFF file. Raises InputError in the user's words.

    size: of the output; what would be too large is refused before it is decoded
    """
    if regular_stat(path).st_size == 0:
        raise InputError("the file is empty (0 bytes); copy it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on tags that are not as they should be
            return _read(path, size)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"refused as a decompression bomb: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever a broken file leads them to
        raise InputError(
            f"the file is damaged or truncated ({type(error).__name__}: {error}); copy it again"
        ) from error


def read_size(path: Path) -> tuple[int, int]:
    """Height and width, from the start of the file alone. Raises whatever a broken one leads to."""
    regular_stat(path)
    page = tiff_page(path)
    if page is not None:
        return page.sides
    with _opened(path) as image:
        return image.height, image.width


def read_mask(path: Path) -> Tensor:
    """(1, 1, H, W) in [0, 1]: how bright a picture is."""
    pixels = read_picture(path).pixels[:, :3]
    return pixels.mean(dim=1, keepdim=True)


def _opened(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            return Image.open(path, formats=READABLE)
        except UnidentifiedImageError:
            with path.open("rb") as file:
                start = file.read(16)
            raise InputError(
                "this TIFF is of a kind that is not read; save it in RGB or grey with 8 or 16 bits"
                if start.startswith(tuple(PREFIXES))
                else f"this is no PNG, JPEG, WebP or TIFF picture: the file begins with {start!r}"
            ) from None


def _read(path: Path, size: OutputSize | None) -> DecodedPicture:
    page = tiff_page(path)
    if page is not None:
        page.check()
        if page.deep:
            return _read_deep_tiff(path, page, size)
    with _opened(path) as image:
        frames = getattr(image, "n_frames", 1)
        if page is not None:
            image.seek(page.number)
        elif frames > 1 and image.format != "MPO":  # cameras put a preview behind a JPEG
            raise InputError(
                f"the file holds {frames} pictures; only single ones are restored, split it"
            )
        if size is not None:
            size.of(image.height, image.width)
        image.getexif()  # while the file is open
        image.load()  # raises for what is cut off, in every format
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        deep = image.format == "PNG" and _depth_of_png(path) == 16
        pixels = _deep_png(path, orientation) if deep else _pixels(image, orientation)
        return DecodedPicture(_as_tensor(pixels), deep, **vars(read_metadata(path, image, page)))


def _read_deep_tiff(path: Path, page: TiffPage, size: OutputSize | None) -> DecodedPicture:
    height, width = page.sides
    if size is not None:
        size.of(height, width)
    if height * width > MOST_PIXELS:
        raise InputError(f"refused as a decompression bomb: it says it has {width}x{height} pixels")
    try:
        image = _opened(path)
    except InputError:  # of a kind that Pillow does not know
        metadata = read_metadata(path, None, page)
    else:
        with image:
            image.seek(page.number)
            metadata = read_metadata(path, image, page)
    pixels = _upright(read_deep(path, page), page.one(ExifTags.Base.Orientation, 1))
    return DecodedPicture(_as_tensor(pixels), True, **vars(metadata))


def _as_tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, C) -> (1, C, H, W)"""
    return torch.from_numpy(pixels).movedim(-1, 0)[None].contiguous()


def _depth_of_png(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(PNG_DEPTH + 1)[PNG_DEPTH]


def _pixels(image: Image.Image, orientation: int) -> np.ndarray:
    """(H, W, C) float32 in [0, 1]."""
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode == "LAB":  # whose A is no alpha
        image = image.convert("RGB")
    elif "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    pixels = np.array(image, dtype=np.float32) / 255.0
    return _as_loaded(pixels.reshape(*pixels.shape[:2], -1))


def _deep_png(path: Path, orientation: int) -> np.ndarray:
    """The same of 16 bits, of which Pillow keeps only 8."""
    av = import_av("pictures with 16 bits per channel")
    decoder = av.CodecContext.create("png", "r")
    try:
        (frame,) = decoder.decode(av.Packet(path.read_bytes()))
    except av.error.FFmpegError as error:
        raise InputError(
            f"16 bits of this PNG cannot be read ({error.strerror}); save it again"
        ) from None
    if any(component.is_alpha for component in frame.format.components):
        form = "rgba64le"
    else:
        form = "gray16le" if len(frame.format.components) == 1 else "rgb48le"
    values = frame.to_ndarray(format=form)
    pixels = values.reshape(*values.shape[:2], -1).astype(np.float32) / 65535.0
    return _upright(pixels, orientation)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    turn = UPRIGHT_ARRAY.get(orientation, lambda a: a)
    return _as_loaded(np.ascontiguousarray(turn(pixels)))


def _as_loaded(pixels: np.ndarray) -> np.ndarray:
    """Opacity as it comes out of ComfyUI's transparency, to the last bit."""
    if pixels.shape[2] == 4:
        pixels[..., 3] = 1 - (1 - pixels[..., 3])
    return pixels

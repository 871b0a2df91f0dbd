"""Pictures read from files, as ComfyUI's Load Image gives them, but with all of their 16 bits."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from ...errors import InputError
from ...images.output_size import OutputSize
from ..disk import regular_stat
from ..optional import import_av

READABLE = ("PNG", "JPEG", "WEBP", "TIFF")
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
BITS_PER_SAMPLE = 258  # tag of TIFF
PNG_DEPTH = 24  # where a PNG says how many bits a sample has
RGB_SPACE = slice(16, 20)  # where a colour profile says what it is for
KEPT_TAGS = (270, 271, 272, 305, 306, 315, 33432)  # description, make, model, software, time, ...
STALE_TAGS = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.Base.MakerNote)
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
class DecodedPicture:
    """A picture and what its file said about it.

    pixels: (1, C, H, W) float32 in [0, 1], C 1, 3 or 4, upright
    deep:   whether the file had 16 bits per sample
    icc:    colour profile of the RGB values, or empty
    exif:   without the orientation, which was applied, and without a thumbnail; or empty
    """

    pixels: Tensor
    deep: bool = False
    icc: bytes = b""
    exif: bytes = b""


def read_picture(path: Path, size: OutputSize | None = None) -> DecodedPicture:
    """One picture of a PNG, JPEG, WebP or TIFF file. Raises InputError in the user's words.

    size: of the output; what would be too large is refused before it is decoded
    """
    if regular_stat(path).st_size == 0:
        raise InputError("the file is empty (0 bytes); copy it again")
    try:
        with warnings.catch_warnings(), _opened(path) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if size is not None:
                size.of(image.height, image.width)
            return _decoded(path, image)
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
                f"this is no PNG, JPEG, WebP or TIFF picture: the file begins with {start!r}"
            ) from None


def _decoded(path: Path, image: Image.Image) -> DecodedPicture:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # cameras put a preview behind a JPEG
        raise InputError(
            f"the file holds {frames} pictures; only single ones are restored, split it"
        )
    exif = image.getexif()
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    icc = image.info.get("icc_profile") or b""
    image.load()  # raises for what is cut off, in every format
    deep = _is_deep(path, image)
    pixels = _deep_pixels(path, image, orientation) if deep else _pixels(image, orientation)
    return DecodedPicture(
        torch.from_numpy(pixels).movedim(-1, 0)[None].contiguous(),
        deep,
        icc if icc[RGB_SPACE] == b"RGB " else b"",  # results are RGB whatever the input was
        _kept(exif),
    )


def _is_deep(path: Path, image: Image.Image) -> bool:
    if image.mode in SIXTEEN_BITS:
        return True
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(BITS_PER_SAMPLE, (1,))
        if max(bits) > 16 or image.mode in ("F", "I"):
            raise InputError("pixels of 32 bits are not read; convert them to 8 or 16 bits")
        return max(bits) == 16 and image.mode != "CMYK"  # converted, as ComfyUI does, in 8 bits
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(PNG_DEPTH + 1)[PNG_DEPTH] == 16
    return False


def _pixels(image: Image.Image, orientation: int) -> np.ndarray:
    """(H, W, C) float32 in [0, 1]."""
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    pixels = np.array(image, dtype=np.float32) / 255.0
    return _as_loaded(pixels.reshape(*pixels.shape[:2], -1))


def _deep_pixels(path: Path, image: Image.Image, orientation: int) -> np.ndarray:
    """The same of 16 bits, of which Pillow keeps only 8."""
    av = import_av("pictures with 16 bits per channel")
    decoder = av.CodecContext.create((image.format or "").lower(), "r")
    try:
        (frame,) = decoder.decode(av.Packet(path.read_bytes()))
    except av.error.FFmpegError as error:
        raise InputError(
            f"16 bits of this {image.format} cannot be read ({error.strerror}); save it as PNG, or "
            "as TIFF with LZW, deflate or no compression"
        ) from None
    if any(component.is_alpha for component in frame.format.components):
        form = "rgba64le"
    else:
        form = "gray16le" if len(frame.format.components) == 1 else "rgb48le"
    values = frame.to_ndarray(format=form)
    pixels = values.reshape(*values.shape[:2], -1).astype(np.float32) / 65535.0
    return _as_loaded(np.ascontiguousarray(UPRIGHT_ARRAY.get(orientation, lambda a: a)(pixels)))


def _as_loaded(pixels: np.ndarray) -> np.ndarray:
    """Opacity as it comes out of ComfyUI's transparency, to the last bit."""
    if pixels.shape[2] == 4:
        pixels[..., 3] = 1 - (1 - pixels[..., 3])
    return pixels


def _kept(exif: Image.Exif) -> bytes:
    """What is still true of the result: who made it, when, where and with what."""
    kept = Image.Exif()
    for tag in KEPT_TAGS:
        if tag in exif:
            kept[tag] = exif[tag]
    for group in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        said = {tag: value for tag, value in exif.get_ifd(group).items() if tag not in STALE_TAGS}
        if said:
            kept.get_ifd(group).update(said)
    try:
        return kept.tobytes() if len(kept) else b""
    except Exception:  # a maker's own tags may be beyond Pillow; the picture is worth more
        return b""

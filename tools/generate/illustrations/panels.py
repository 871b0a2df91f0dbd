"""Pictures beside each other, with no words in them: they stand on pages in four languages."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFont

WIDTH = 800  # pixels: a side panel of 400 on a screen of twice the density
GAP = 8
CLEAR = (0, 0, 0, 0)  # between pictures, since pages are light or dark
INK, PAPER, ACCENT, QUIET = "#11151c", "#f2efe6", "#e8a33d", "#5d7fa3"
BADGE = 46  # pixels high: the panel shows a third of it if it is as narrow as at first


def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The one that comes with Pillow, so that all machines draw the same."""
    return ImageFont.load_default(size)


def enlarged(picture: Image.Image, factor: float) -> Image.Image:
    """Plainly, as any viewer does it."""
    return fitted(picture, round(picture.width * factor), round(picture.height * factor))


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def in_squares(picture: Image.Image, cells: int, side: int) -> Image.Image:
    """A square picture as so many flat squares along each side."""
    small = picture.resize((cells, cells), Image.Resampling.BOX)
    return small.resize((side, side), Image.Resampling.NEAREST)


def cut(picture: Image.Image, place: tuple[float, float, float, float]) -> Image.Image:
    """A part; left, top, right and bottom are shares of the picture's sides."""
    left, top, right, bottom = place
    width, height = picture.size
    box = (left * width, top * height, right * width, bottom * height)
    return picture.crop(tuple(round(edge) for edge in box))


def difference(one: Image.Image, other: Image.Image, times: int) -> Image.Image:
    """How two pictures differ, amplified; black where they are alike."""
    return ImageChops.difference(one.convert("RGB"), other.convert("RGB")).point(
        lambda value: min(255, value * times)
    )


def badged(picture: Image.Image, text: str, high: int = BADGE) -> Image.Image:
    """With a number or the value of an option in its lower left corner."""
    if not text:
        return picture
    picture = picture.convert("RGBA")
    draw = ImageDraw.Draw(picture)
    letters = font(high * 0.66)
    width = max(high, round(draw.textlength(text, letters)) + high // 2)
    bottom = picture.height - 6
    draw.rounded_rectangle((6, bottom - high, 6 + width, bottom), 6, fill=INK)
    middle = (6 + width / 2, bottom - high / 2)
    draw.text(middle, text, fill=PAPER, font=letters, anchor="mm")
    return picture


def row(pictures: Sequence[Image.Image], *, gap: int = GAP) -> Image.Image:
    """Side by side, in the middle of the highest."""
    height = max(picture.height for picture in pictures)
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGBA", (width, height), CLEAR)
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, (height - picture.height) // 2))
        left += picture.width + gap
    return whole


def stack(pictures: Sequence[Image.Image], *, gap: int = GAP) -> Image.Image:
    """One below the other, from the left."""
    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGBA", (width, height), CLEAR)
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height + gap
    return whole


def table(
    pictures: Sequence[Image.Image],
    columns: int,
    badges: Sequence[str] = (),
    *,
    width: int = WIDTH,
    gap: int = GAP,
    badge: int = BADGE,
) -> Image.Image:
    """Pictures of one aspect in rows of so many, each with its badge; `width` wide in all."""
    side = (width - gap * (columns - 1)) // columns
    shown = [fitted(p.convert("RGB"), side, round(p.height * side / p.width)) for p in pictures]
    texts = badges or [""] * len(shown)
    marked = [badged(p, text, badge) for p, text in zip(shown, texts, strict=True)]
    rows = [row(marked[k : k + columns], gap=gap) for k in range(0, len(marked), columns)]
    return stack(rows, gap=gap)


def arrow(height: int, length: int = 48) -> Image.Image:
    """To the right, in the middle of so much height."""
    whole = Image.new("RGBA", (length, height), CLEAR)
    draw, middle = ImageDraw.Draw(whole), height // 2
    draw.line((4, middle, length - 14, middle), fill=ACCENT, width=6)
    draw.polygon(
        [(length - 20, middle - 13), (length - 2, middle), (length - 20, middle + 13)], ACCENT
    )
    return whole


def halves(left: Image.Image, right: Image.Image) -> Image.Image:
    """The left half of one picture beside the right half of another of its size."""
    whole = right.convert("RGB").copy()
    middle = whole.width // 2
    whole.paste(left.crop((0, 0, middle, left.height)), (0, 0))
    ImageDraw.Draw(whole).line((middle, 0, middle, whole.height), fill="white", width=3)
    return whole

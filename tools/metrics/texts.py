"""What `tools/evaluate.py --help` says on measures, protocols and tests."""

from __future__ import annotations

from tools.metrics.catalogue import FREE, METRICS, PYIQA, UNTOUCHED
from tools.metrics.networks import LICENSE, REQUIREMENTS


def _list() -> str:
    lines = []
    for name, metric in METRICS.items():
        arrow = "more" if metric.more else "less"
        package = f" [{metric.package}]" if metric.package else ""
        lines.append(f"  {name:13} {arrow} is better; {metric.says}{package}")
    return "\n".join(lines)


HELP = f"""\
Measures, NAME (in brackets: the package they are of, if any):
{_list()}
  {FREE + "NAME":13} any other of {PYIQA}, by its name there

[{PYIQA}] needs pip install -r {REQUIREMENTS}.
{LICENSE.replace(" (", chr(10) + "(", 1)}.
Its networks' weights are fetched with --fetch only; without it, what is missing is named.
Never run by this project, for want of the weights: {", ".join(UNTOUCHED)};
the tests have a stand-in for the package.

How papers measure (VARSR, and StableSR, SeeSR, OSEDiff, with whose test sets it does): inputs of
128x128, results of 512x512 (3,000 crops of DIV2K-Val; the middles of RealSR and DRealSR), scale 4,
nothing resized once it was restored. Order: restore, match colours at the size of the result, write
8 bits, measure. PSNR and SSIM are of luma of YCbCr (BT.601, 16 to 235), as here; of {PYIQA} that is
color_space ycbcr, its own default is 1.32 dB lower. A border of 0 or of 4 pixels: few say which,
numbers of SeeSR were met with 4; they differ by up to a tenth of a dB. With --border 0, psnr is
that of {PYIQA}; its SSIM counts negative likeness as 0, which adds some thousandths where there is
much noise. NIQE of papers is {FREE}niqe, of luma from 0 to 255; ours is of 16 to 235, as in
BasicSR. There are two MANIQA about: maniqa, and {FREE}maniqa-pipal. FID is of all crops of a set.

compare: Wilcoxon's signed-rank test on the differences picture by picture, exact; change is the
Hodges-Lehmann estimate, with its 95 % interval; p (Holm) is raised for the number of measures. Six
pictures are the fewest that can show anything. It takes pictures for independent: crops of one
picture are not. A difference that is shown may still be too small to be seen.
"""

"""All measures by the names they have on the command line; a new one is a row here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tools.metrics import artefacts, fidelity, niqe
from tools.metrics.case import Case, Measure, colors
from varsr_core.errors import InputError

REFERENCE, LOW = "reference", "low"  # fields of Case
PICTURE, SET, MODEL = "picture", "set", "model"
OWN, PIQ, STLPIPS, PYIQA = "", "piq", "stlpips_pytorch", "pyiqa"
FREE = "pyiqa:"  # before the name of any other measure of pyiqa


@dataclass(frozen=True)
class Metric:
    """A measure, before it is loaded.

    title:   in tables and files of scores
    more:    whether more is better
    needs:   fields of Case beside the result
    of:      one picture, a whole set of them, or a model
    package: where it is from; OWN needs nothing
    inner:   its name there, of pyiqa
    make:    builds the measure; None for a network of pyiqa
    says:    a line of the help
    """

    title: str
    more: bool
    says: str
    make: Callable[[], Measure] | None = None
    needs: tuple[str, ...] = field(default=())
    of: str = PICTURE
    package: str = OWN
    inner: str = ""


def _stlpips(net: str) -> Callable[[], Measure]:
    def make() -> Measure:
        from stlpips_pytorch import stlpips

        network = stlpips.LPIPS(net=net, variant="shift_tolerant", verbose=False)

        def measure(case: Case) -> float:
            assert case.reference is not None
            return float(network(colors(case.result), colors(case.reference), normalize=True))

        return measure

    return make


def _piq(function: str) -> Callable[[], Measure]:
    def make() -> Measure:
        import piq

        def measure(case: Case) -> float:
            assert case.reference is not None
            pair = colors(case.result), colors(case.reference)
            return float(getattr(piq, function)(*pair, data_range=1.0))

        return measure

    return make


def _own(measure: Measure) -> Callable[[], Measure]:
    return lambda: measure


def _network(title: str, more: bool, says: str, *needs: str, of: str = PICTURE) -> Metric:
    return Metric(title, more, says, None, needs, of, PYIQA, title.lower())


PAIR = (REFERENCE,)
METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR-Y", True, "of luma", _own(fidelity.psnr_y), PAIR),
    "ssim": Metric("SSIM-Y", True, "of luma", _own(fidelity.ssim_y), PAIR),
    "lr-psnr": Metric(
        "LR-PSNR", True, "of luma, of the result brought back to its input's size: "
        "faithfulness", _own(fidelity.lr_psnr), (LOW,)
    ),
    "gmsd": Metric("GMSD", False, "gradients", _piq("gmsd"), PAIR, package=PIQ),
    "haarpsi": Metric("HaarPSI", True, "wavelets", _piq("haarpsi"), PAIR, package=PIQ),
    "st-lpips": Metric(
        "ST-LPIPS alex", False, "LPIPS that forgives shifts, by AlexNet",
        _stlpips("alex"), PAIR, package=STLPIPS
    ),
    "st-lpips-vgg": Metric(
        "ST-LPIPS vgg", False, "the same by VGG", _stlpips("vgg"), PAIR, package=STLPIPS
    ),
    "niqe": Metric("NIQE", False, "no reference; from 96x192 pixels", _own(niqe.niqe)),
    "niqe-matlab": Metric(
        "NIQE matlab", False, "the same but for MATLAB's way to halve", _own(niqe.niqe_matlab)
    ),
    "grid": Metric(
        "GRID", False, "dB of a lattice of 8 pixels: weave", _own(artefacts.grid)
    ),
    "noise": Metric(
        "NOISE LEFT", False, "of 255, of what the model makes of grey with noise of 6", of=MODEL
    ),
    "lpips": _network("LPIPS", False, "by AlexNet", REFERENCE),
    "dists": _network("DISTS", False, "structure and texture", REFERENCE),
    "musiq": _network("MUSIQ", True, "no reference; KonIQ-10k"),
    "maniqa": _network("MANIQA", True, "no reference; KonIQ-10k"),
    "clipiqa": _network("CLIPIQA", True, "no reference"),
    "fid": _network("FID", False, "of the whole set; of few pictures it says little", REFERENCE,
                    of=SET),
}  # fmt: skip
DEFAULT = ("psnr", "lr-psnr", "ssim", "gmsd", "haarpsi", "st-lpips", "st-lpips-vgg")
UNTOUCHED = [name for name, metric in METRICS.items() if metric.package == PYIQA]
TITLES = {metric.title: metric for metric in METRICS.values()}


def named(name: str) -> Metric:
    """Raises InputError."""
    if name in METRICS:
        return METRICS[name]
    if name.startswith(FREE) and name != FREE:
        inner = name.removeprefix(FREE)
        return Metric(name, True, "", None, (), PICTURE, PYIQA, inner)
    raise InputError(
        f"there is no measure {name}; {', '.join(METRICS)} are known, and {FREE}NAME for any other "
        "of pyiqa. Folders stand before --metrics"
    )

"""What is read, and how it is cropped, beyond the folders of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CROPS = ("random", "public")
ORDERS = ("process", "global")


@dataclass(frozen=True)
class DataSettings:
    """Nothing of this changes a run unless it is asked for.

    crop:          "random": a random place of the picture, turned and mirrored; "public": as the
                   public code of VARSR, see PublicCrop in crops.py; pairs of files are always
                   cropped at random
    rotations:     whether random crops of pictures are also turned by multiples of 90 degrees
    order:         of the samples: "process": each process shuffles its own part of the files;
                   "global": one order, of which the processes take turns, so that the n-th batch
                   does not depend on how many they are. Tar files and classes always have one
    class_table:   CSV or TSV file with the header `file,class`, see class_table.py
    num_classes:   N; 0 for one more than the highest class there is. The null row is the N-th
    class_dropout: share of the samples that get the null row in place of their class
    score_table:   CSV or TSV file with the header `file,score,set`: its pictures of low scores
                   are bad ones, see score_table.py
    score_shares:  of the range of scores below which a picture is bad, by the name of its set;
                   goes before the public values
    shuffle:       tar files come in random order, and their pictures are shuffled among this many
                   that follow each other; more takes 4 bytes each, and lets a disk read ahead less
    damaged:       as many pictures of tar files and of class tables may be damaged before a run
                   ends; each is told once
    """

    crop: str = "random"
    rotations: bool = True
    order: str = "process"
    class_table: str | None = None
    num_classes: int = 0
    class_dropout: float = 0.1
    score_table: str | None = None
    score_shares: Mapping[str, float] = field(default_factory=dict)
    shuffle: int = 10_000
    damaged: int = 100

    def __post_init__(self) -> None:
        for name, value, known in (("crop", self.crop, CROPS), ("order", self.order, ORDERS)):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; known are {', '.join(known)}")
        shares = {"class_dropout": self.class_dropout, **self.score_shares}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share:g}; it is a share from 0 to 1")
        if self.shuffle < 1 or self.damaged < 0 or self.num_classes < 0:
            raise ValueError(
                f"shuffle is {self.shuffle}, damaged {self.damaged}, num_classes "
                f"{self.num_classes}; the first is at least 1, the others at least 0"
            )

"""The file of a restored segment of a film: its packets, until the film is joined from them.

No container keeps time stamps, durations and packets of every codec as they are; this one does:
the data of all packets, then a table of them in JSON, then its length in 8 bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import InputError
from ..optional import import_av

LENGTH_BYTES = 8
SIZE, CHECKSUM = 4, 5  # places in what a table says of a packet


@dataclass
class Table:
    """What a segment holds.

    header:  of the encoder, in hexadecimal digits
    sought:  whether its frames were reached by seeking
    packets: pts, dts, duration, whether a key frame, bytes, CRC-32 of their data, which segments
             of 0.1.0 do not have; in the order of decoding
    """

    header: str = ""
    sought: bool = False
    packets: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def times(self) -> list[int]:
        """In the order of showing."""
        return sorted(pts for pts, *_ in self.packets)

    @property
    def delay(self) -> int:
        """Packets that are decoded before the first frame is shown."""
        first = min((pts for pts, *_ in self.packets), default=0)
        return sum(dts < first for _, dts, *_ in self.packets)


def write_packet(file: BinaryIO, table: Table, packet: Any) -> None:
    """Adds a packet to the file and to its table."""
    data = bytes(packet)
    size, duration = file.write(data), packet.duration or 0
    times = (packet.pts, packet.dts, duration)
    table.packets.append((*times, packet.is_keyframe, size, zlib.crc32(data)))


def write_table(file: BinaryIO, table: Table) -> None:
    """Ends the file."""
    values = {"header": table.header, "sought": table.sought, "packets": table.packets}
    size = file.write(json.dumps(values).encode())
    file.write(size.to_bytes(LENGTH_BYTES, "little"))


def read_table(path: Path) -> Table:
    """Raises InputError for what is no whole segment."""
    try:
        whole = path.stat().st_size
        with path.open("rb") as file:
            file.seek(whole - LENGTH_BYTES)
            size = int.from_bytes(file.read(LENGTH_BYTES), "little")
            file.seek(whole - LENGTH_BYTES - size)
            values = json.loads(file.read(size))
        table = Table(values["header"], values["sought"], values["packets"])
        if sum(packet[SIZE] for packet in table.packets) + size + LENGTH_BYTES == whole:
            return table
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise _damaged(path)


def check_data(path: Path, table: Table) -> None:
    """Raises InputError where the packets are not those that were written."""
    for _ in _data(path, table):
        pass


def _data(path: Path, table: Table) -> Iterator[bytes]:
    """Of all packets, one at a time."""
    with path.open("rb") as file:
        for packet in table.packets:
            data = file.read(packet[SIZE])
            if len(packet) > CHECKSUM and zlib.crc32(data) != packet[CHECKSUM]:
                raise _damaged(path)
            yield data


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is no segment of a film, or damaged; remove it")


def read_packets(path: Path, table: Table, time_base: Any) -> Iterator[Any]:
    """One at a time."""
    av = import_av("films")
    for data, (pts, dts, duration, key, *_) in zip(_data(path, table), table.packets, strict=True):
        packet = av.Packet(data)
        packet.pts, packet.dts, packet.time_base = pts, dts, time_base
        packet.duration, packet.is_keyframe = duration, key
        yield packet

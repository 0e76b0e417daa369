"""Valid and invalid image files."""

import io
import struct
import zlib

from PIL import Image, ImageDraw

from tests import ROOT

EXAMPLE = ROOT / "tools/serving/example.png"
STROKES = {
    "four": [[(170, 60), (70, 240), (240, 240)], [(180, 160), (180, 350)]],
    "seven": [[(70, 70), (230, 70), (130, 345)]],
    "one": [[(120, 110), (150, 60), (150, 340)]],
}


def drawn(name: str = "four", *, size: tuple[int, int] = (300, 400), width: int = 28) -> Image.Image:
    """A digit, black on white, with thick strokes."""
    image = Image.new("L", (300, 400), 255)
    for stroke in STROKES[name]:
        ImageDraw.Draw(image).line(stroke, fill=0, width=width, joint="curve")
    return image.resize(size)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def declared(width: int, height: int) -> bytes:
    """A PNG file with a header of this size, but without pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


VALID = saved(drawn())

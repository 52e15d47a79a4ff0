"""Image files of any kind as the judge and the plans read them: as ComfyUI's Load Image shows them, or a fault told."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from replan.planner.plan import PlanError
from replan.tools.iv_edit.asking import read_image
from replan.tools.iv_edit.image_files import read_rgb, size_of
from replan.tools.iv_edit.methods import plans, recorded_plan
from replan.tools.iv_edit.records import Record


def claims(file: Path, width: int, height: int) -> Path:
    """A PNG whose head says this size, with hardly any pixels behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 9))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b""))
    return file


def broken(folder: Path, name: str) -> Path:
    file = folder / name
    whole = folder / "whole.png"
    Image.effect_noise((32, 32), 50).convert("RGB").save(whole)
    contents = {
        "empty.png": b"", "text.png": b"no image", "cut.png": whole.read_bytes()[:200],
        "head.png": b"\x89PNG\r\n\x1a\n",
        "bad.gif": b"GIF89a" + b"\xff" * 30, "bad.tif": b"II*\0" + b"\xff" * 30, "bad.bmp": b"BM" + b"\xff" * 60,
        "bad.webp": b"RIFF\0\0\0\0WEBP" + b"\xff" * 30, "bad.jpg": b"\xff\xd8" + b"\xff" * 30,
    }  # fmt: skip
    if name in contents:
        file.write_bytes(contents[name])
    elif name == "bomb.png":
        claims(file, 60000, 60000)
    elif name == "larger.png":
        claims(file, 2**31 - 1, 2**31 - 1)
    return file


@pytest.mark.parametrize(
    "name",
    ["empty.png", "text.png", "cut.png", "head.png", "bad.gif", "bad.tif", "bad.bmp", "bad.webp", "bad.jpg", "bomb.png",
     "larger.png", "missing.png"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_image_is_told_of_its_record_alone(tmp_path, name):
    file, good = broken(tmp_path, name), tmp_path / "good.png"
    Image.new("RGB", (8, 8), "white").save(good)
    with pytest.raises(PlanError, match="cannot be read as an image"):
        read_rgb(file)
    with pytest.raises(PlanError, match="cannot be read as an image"):
        recorded_plan(Record("a", "a", 1, str(good), "x", mask=str(file)))
    said: list[str] = []
    records = [Record("a", "a", 1, str(file), "x", mask=str(good)), Record("b", "b", 2, str(good), "x", mask=str(good))]
    found = list(plans("replan_boxes", records, recorded_plan, 0, said.append))
    assert [record.id for record, _ in found][-1] == "b"
    assert name == "cut.png" or (len(found) == 1 and str(file) in said[0])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_photo_is_upright_as_its_exif_says(tmp_path, orientation, suffix):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32] = 200
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / f"photo{suffix}", exif=exif)
    bright = {1: (0, 0), 3: (1, 1), 6: (0, 1), 8: (1, 0)}[orientation]
    seen = read_image(tmp_path / f"photo{suffix}")[0]
    assert size_of(tmp_path / f"photo{suffix}") == (seen.shape[1], seen.shape[0])
    assert seen.shape[:2] == ((48, 64) if orientation < 5 else (64, 48))
    rows, columns = seen.shape[0] // 2, seen.shape[1] // 2
    for place in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = place
        part = seen[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns].mean()
        assert (part > 0.5) == (place == bright)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_a_colour_keep_their_brightness(tmp_path, suffix):
    levels = np.linspace(0, 65535, 64 * 48).reshape(48, 64)
    Image.fromarray(levels.astype(np.uint16)).save(tmp_path / f"deep{suffix}")
    seen = read_image(tmp_path / f"deep{suffix}")[0, ..., 0].numpy()
    assert np.abs(seen - levels / 65535).max() < 0.003


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "LA", "RGBA", "1", "YCbCr"])
def test_other_kinds_of_colours_come_as_rgb(tmp_path, mode):
    file = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.new("RGB", (16, 16), "white").convert(mode).save(file)
    assert read_image(file).shape == (1, 16, 16, 3) and read_image(file).min() > 0.95

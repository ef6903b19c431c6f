#!/usr/bin/env python3
"""A box of photos of every kind that photo files come in, and some that are none, through one batch.

    python3 tests/apps/mixed_photos.py build/apps/lumachrome [--photos 200] [--keep DIR]

Needs Pillow and numpy, and is no part of ./run-tests. Checks that every good photo has an output of
its upright size, with its luma (Rec. 601, within 1 step of 8 or 16 bits) and its metadata; that every bad
one has one line and one `error`; that a run which is killed leaves nothing behind that the next one
does not use or clear; and that the next one does the rest and nothing twice.
"""

import argparse
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

Image.MAX_IMAGE_PIXELS = None
MANIFEST = ".lumachrome-manifest.jsonl"
SIZES = [(1, 1), (1, 2), (2, 1), (3, 5), (7, 9), (17, 33), (64, 64), (120, 81), (333, 222), (640, 481),
         (1, 4000), (4000, 1), (2, 1999), (1024, 683)]


# ---- pictures

def scene(width, height, seed):
    """RGB of soft shapes and noise, [height, width, 3] in 0..1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(width, height, 2)
    waves = [0.5 + 0.45 * np.sin(rng.uniform(2, 9) * x + rng.uniform(2, 9) * y + rng.uniform(0, 6)) for _ in range(3)]
    return np.clip(np.stack(waves, -1) + rng.normal(0, 0.02, (height, width, 3)), 0, 1)


def gray_of(rgb):
    return rgb @ [0.299, 0.587, 0.114]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, bits, color_type, extra=(), interlaced=False):
    """A PNG written by hand, for what Pillow cannot write. samples: [height, width, channels] of integers."""
    height, width, channels = samples.shape

    def pack(rows):
        if rows.size == 0:
            return b""
        flat = rows.reshape(rows.shape[0], -1)
        if bits == 16:
            lines = flat.astype(">u2").view(np.uint8)
        elif bits == 8:
            lines = flat.astype(np.uint8)
        else:
            every = (flat[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
            lines = np.packbits(every.reshape(flat.shape[0], -1).astype(np.uint8), axis=1)
        return b"".join(b"\0" + line.tobytes() for line in lines)

    if interlaced:
        adam7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        data = b"".join(pack(samples[y::dy, x::dx]) for y, x, dy, dx in adam7)
    else:
        data = pack(samples)
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) +
            chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b""))


def exif_bytes(orientation, description="Grandmother, 1931"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = description
    return exif.tobytes()


XMP = ('<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
       'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
       'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:creator>Aunt</dc:creator></rdf:Description></rdf:RDF>'
       '</x:xmpmeta><?xpacket end="w"?>').encode()


class Photo:
    """name, bytes; upright samples [height, width, 1 or 3] of `bits`; alpha or None; what metadata to expect."""

    def __init__(self, name, data, samples, bits=8, alpha=None, metadata=(), tolerance=1.0):
        self.name, self.data, self.samples, self.bits = name, data, samples, bits
        self.alpha, self.metadata, self.tolerance = alpha, set(metadata), tolerance

    def luma(self):
        return gray_of(self.samples.astype(float)) if self.samples.shape[2] == 3 else self.samples[:, :, 0].astype(float)


def quantized(values, bits):
    return np.rint(values * ((1 << bits) - 1)).astype(np.int64)


def png_gray(bits, interlaced=False):
    def make(rgb):
        samples = quantized(gray_of(rgb), bits)[:, :, None]
        text = chunk(b"tEXt", b"Comment\0From the attic")
        resolution = chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1))
        scale = 1 if bits >= 8 else 255 // ((1 << bits) - 1)
        return png(samples, bits, 0, (text, resolution), interlaced), samples * scale, max(bits, 8), None, {"text", "dpi"}
    return make


def png_gray_alpha(bits):
    def make(rgb):
        samples = quantized(np.stack([gray_of(rgb), rgb[:, :, 0]], -1), bits)
        return png(samples, bits, 4), samples[:, :, :1], bits, samples[:, :, 1], set()
    return make


def png_color(bits, alpha, interlaced=False):
    def make(rgb):
        every = np.concatenate([rgb, rgb[:, :, :1]], -1) if alpha else rgb
        samples = quantized(every, bits)
        exif = chunk(b"eXIf", exif_bytes(1)[6:])
        xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
        return (png(samples, bits, 6 if alpha else 2, (exif, xmp), interlaced), samples[:, :, :3], bits,
                samples[:, :, 3] if alpha else None, {"exif", "xmp"})
    return make


def png_palette(bits, transparent):
    def make(rgb):
        levels = quantized(gray_of(rgb), bits)
        count = 1 << bits
        ramp = np.linspace(0, 255, count).round().astype(np.uint8)
        palette = np.stack([ramp, ramp[::-1] // 2 + ramp // 2, ramp], -1)
        extra = [chunk(b"PLTE", palette.tobytes())]
        alpha = None
        if transparent:
            opacity = np.full(count, 255, np.uint8)
            opacity[0] = 0
            extra.append(chunk(b"tRNS", opacity.tobytes()))
            alpha = opacity[levels]
        return png(levels[:, :, None], bits, 3, extra), palette[levels], 8, alpha, set()
    return make


def png_gray_key():  # one gray value is transparent
    def make(rgb):
        samples = quantized(gray_of(rgb), 8)[:, :, None]
        key = int(samples[0, 0, 0])
        return (png(samples, 8, 0, (chunk(b"tRNS", struct.pack(">H", key)),)), samples, 8,
                np.where(samples[:, :, 0] == key, 0, 255), set())
    return make


def turned(samples, orientation):
    """How the stored samples look upright."""
    turn = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
            5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1),
            7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: np.rot90(a, 1)}
    return turn[orientation](samples)


def jpeg(mode, orientation=1, **options):
    def make(rgb):
        eight = Image.fromarray(quantized(rgb, 8).astype(np.uint8), "RGB")
        image = eight.convert(mode)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=90, exif=exif_bytes(orientation), dpi=(300, 300),
                   comment=b"Seen by the sea", xmp=XMP, **options)
        data = out.getvalue()
        stored = np.asarray(Image.open(io.BytesIO(data)).convert(mode if mode == "L" else "RGB")).astype(np.int64)
        stored = stored[:, :, None] if stored.ndim == 2 else stored
        return data, turned(stored, orientation), 8, None, {"exif", "comment", "xmp", "dpi"}
    return make


def jpeg_cmyk(ycck):
    """As Adobe writes it: inverted, with an APP14 marker. Pillow writes plain CMYK with transform 0."""
    def make(rgb):
        out = io.BytesIO()
        image = Image.fromarray(quantized(rgb, 8).astype(np.uint8), "RGB").convert("CMYK")
        image.save(out, "JPEG", quality=95)
        data = out.getvalue()
        at = data.find(b"Adobe")
        if ycck and at >= 0:  # the channels are read as YCCK then: other colours, still a photo
            data = data[:at + 11] + b"\x02" + data[at + 12:]
        cmyk = np.asarray(Image.open(io.BytesIO(data))).astype(float)
        # 0 is no ink in what Pillow returns.
        rgb_read = np.rint((255 - cmyk[:, :, :3]) * (255 - cmyk[:, :, 3:]) / 255).astype(np.int64)
        return data, rgb_read, 8, None, set()
    return make


def pnm(color):
    def make(rgb):
        samples = quantized(rgb if color else gray_of(rgb)[:, :, None], 8)
        header = f"P{6 if color else 5}\n{rgb.shape[1]} {rgb.shape[0]}\n255\n".encode()
        return header + samples.astype(np.uint8).tobytes(), samples, 8, None, set()
    return make


KINDS = {
    "gray1.png": png_gray(1), "gray2.png": png_gray(2), "gray4.png": png_gray(4), "gray8.png": png_gray(8),
    "gray16.png": png_gray(16), "gray8-adam7.png": png_gray(8, True), "gray16-adam7.png": png_gray(16, True),
    "gray2-adam7.png": png_gray(2, True), "gray-alpha8.png": png_gray_alpha(8), "gray-alpha16.png": png_gray_alpha(16),
    "gray-key.png": png_gray_key(), "palette4.png": png_palette(4, False), "palette8.png": png_palette(8, False),
    "palette2-trns.png": png_palette(2, True), "palette8-trns.png": png_palette(8, True), "rgb8.png": png_color(8, False),
    "rgba8.png": png_color(8, True), "rgb16.png": png_color(16, False), "rgba16.png": png_color(16, True),
    "rgb8-adam7.png": png_color(8, False, True), "gray.jpg": jpeg("L"), "gray-progressive.jpeg": jpeg("L", progressive=True),
    "ycc444.jpg": jpeg("RGB", subsampling=0), "ycc420.jpg": jpeg("RGB", subsampling=2),
    "progressive.JPG": jpeg("RGB", progressive=True), "cmyk.jpg": jpeg_cmyk(False), "ycck.jpg": jpeg_cmyk(True),
    "gray.pgm": pnm(False), "rgb.ppm": pnm(True),
    **{f"orientation{o}.jpg": jpeg("L", o) for o in range(1, 9)},
}


def good_photos(count):
    photos = []
    kinds = list(KINDS.items())
    for i in range(count):
        kind, make = kinds[i % len(kinds)]
        size = SIZES[(i * 5 + i // len(kinds)) % len(SIZES)]
        data, samples, bits, alpha, metadata = make(scene(*size, i))
        photos.append(Photo(f"{i:03d}-{size[0]}x{size[1]}-{kind}", data, samples, bits, alpha, metadata))
    return photos


def make_bad(album):
    """Writes what is no photo; returns the names."""
    whole = png(quantized(gray_of(scene(200, 150, 1)), 8)[:, :, None], 8, 0)
    out = io.BytesIO()
    Image.new("L", (300, 200), 99).save(out, "JPEG")
    at = whole.index(b"IDAT") + 40
    files = {
        "bad-empty.png": b"", "bad-zero.jpg": b"", "bad-cut.png": whole[:len(whole) // 2],
        "bad-half.jpg": out.getvalue()[:len(out.getvalue()) // 2], "bad-text.jpg": b"Dear diary, no photo here.\n" * 20,
        "bad-html.png": b"<!DOCTYPE html><title>404</title>" * 9,
        "bad-bomb.png": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 16, 6, 0, 0, 0)) +
                        chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""),
        "bad-crc.png": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:],
        "bad-size.ppm": b"P6\n99999 99999\n255\nabc",
    }
    for name, data in files.items():
        (album / name).write_bytes(data)
    (album / "bad-folder.jpg").mkdir()
    (album / "bad-dangling.jpg").symlink_to("nowhere.jpg")
    names = [*files, "bad-folder.jpg", "bad-dangling.jpg"]
    if os.geteuid() != 0:  # root reads everything
        (album / "bad-unreadable.jpg").write_bytes(out.getvalue())
        (album / "bad-unreadable.jpg").chmod(0)
        names.append("bad-unreadable.jpg")
    return names


# ---- checks

class Check:
    def __init__(self):
        self.done = self.failed = 0

    def __call__(self, right, text):
        self.done += 1
        if not right:
            self.failed += 1
            print("FAILED:", text)


def png_samples(path):
    """[height, width, channels] of an 8- or 16-bit PNG as libpng's reference filters give it."""
    data = path.read_bytes()
    at, idat = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, bits, color_type, _, _, interlaced = struct.unpack(">IIBBBBB", body)
        elif kind == b"IDAT":
            idat += body
        at += 12 + length
    assert not interlaced and bits in (8, 16)
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color_type]
    step = channels * bits // 8
    raw = np.frombuffer(zlib.decompress(idat), np.uint8).reshape(height, 1 + width * step)
    rows = np.zeros((height + 1, width, step), np.int64)
    for y in range(height):
        line = raw[y, 1:].reshape(width, step).astype(np.int64)
        kind, above, here = raw[y, 0], rows[y], rows[y + 1]
        if kind == 0:
            here[:] = line
        elif kind == 1:
            here[:] = np.cumsum(line, axis=0) & 255
        elif kind == 2:
            here[:] = (line + above) & 255
        else:
            left, corner = np.zeros(step, np.int64), np.zeros(step, np.int64)
            for x in range(width):
                if kind == 3:
                    guess = (left + above[x]) >> 1
                else:
                    a, b, c = abs(above[x] - corner), abs(left - corner), abs(left + above[x] - 2 * corner)
                    guess = np.where((a <= b) & (a <= c), left, np.where(b <= c, above[x], corner))
                here[x] = left = (line[x] + guess) & 255
                corner = above[x]
    rows = rows[1:]
    if bits == 16:
        rows = (rows[:, :, 0::2] << 8) | rows[:, :, 1::2]
    return rows, bits


def check_output(photo, path, check):
    if not path.exists():
        return check(False, f"{photo.name}: no output {path.name}")
    image = Image.open(path)
    check(image.size == photo.samples.shape[1::-1], f"{photo.name}: size {image.size} of {photo.samples.shape}")
    if image.size != photo.samples.shape[1::-1]:
        return
    if photo.bits == 8:
        image.load()
        samples, bits = np.asarray(image).astype(np.int64), 8
    else:
        samples, bits = png_samples(path)
    check(bits == photo.bits, f"{photo.name}: {bits} bits, {photo.bits} before")
    worst = np.abs(np.rint(gray_of(samples[:, :, :3].astype(float))) - np.rint(photo.luma())).max()
    check(worst <= photo.tolerance, f"{photo.name}: luma off by {worst} steps")
    has_alpha = samples.shape[2] == 4
    check(has_alpha == (photo.alpha is not None), f"{photo.name}: alpha {has_alpha}")
    if has_alpha and photo.alpha is not None:
        check((samples[:, :, 3] == photo.alpha).all(), f"{photo.name}: alpha changed")
    image.load()
    found = set()
    if image.getexif().get(0x010E) == "Grandmother, 1931" and image.getexif().get(0x0112, 1) == 1:
        found.add("exif")
    if b"Aunt" in path.read_bytes():
        found.add("xmp")
    texts = set(getattr(image, "text", {}).values())
    if "From the attic" in texts:
        found.add("text")
    if "Seen by the sea" in texts:
        found.add("comment")
    if abs(image.info.get("dpi", (0, 0))[0] - 300) < 1:
        found.add("dpi")
    check(photo.metadata <= found, f"{photo.name}: lost {sorted(photo.metadata - found)}")


def output_of(name):
    return Path(name).stem + "-color.png"


def identities(folder):
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir() if p.name != MANIFEST}


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


def lines_naming(err, name):
    return [line for line in err.splitlines() if line.startswith("lumachrome: ") and name + ":" in line]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--keep", help="folder to work in, kept afterwards")
    parser.add_argument("--kills", type=int, default=6)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(args.keep or temporary)
        album, out = place / "album", place / "out"
        album.mkdir(parents=True)
        photos = good_photos(args.photos)
        for photo in photos:
            (album / photo.name).write_bytes(photo.data)
        bad = make_bad(album)
        command = [args.binary, "colorize", str(album), "-o", f"{out}/", "--json"]
        check = Check()

        # One batch.
        done = run(command)
        report = json.loads(done.stdout)
        check(done.returncode == 5, f"exit code {done.returncode}")
        check(report["done"] == len(photos), f"{report['done']} of {len(photos)} done")
        check(report["failed"] == len(bad), f"{report['failed']} of {len(bad)} failed")
        records = {Path(r["input"]).name: r for r in report["images"]}
        for photo in photos:
            check("error" not in records[photo.name], f"{photo.name}: {records[photo.name].get('error')}")
            check_output(photo, out / output_of(photo.name), check)
        for name in bad:
            check("error" in records[name], f"{name}: no error")
            check(len(lines_naming(done.stderr, name)) == 1, f"{name}: {lines_naming(done.stderr, name)}")
            check(not (out / output_of(name)).exists(), f"{name}: has an output")

        # Again: nothing to do, nothing touched, the bad ones tried again.
        before = identities(out)
        again = json.loads(run(command).stdout)
        check((again["done"], again["skipped"], again["failed"]) == (0, len(photos), len(bad)), f"again: {again['done']}")
        check(identities(out) == before, "the second run changed something")

        # Killed again and again at any moment, then to its end.
        killed = place / "killed"
        command[command.index(f"{out}/")] = f"{killed}/"
        rng = random.Random(7)
        for _ in range(args.kills):
            finished = identities(killed) if killed.exists() else {}
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.2, 1) * report["seconds"] / args.kills)
            process.send_signal(signal.SIGKILL)
            process.wait()
            now = identities(killed) if killed.exists() else {}
            check(all(now.get(n) == i for n, i in finished.items() if ".tmp" not in n), "a finished photo was touched")
        finished = {n: i for n, i in identities(killed).items() if ".tmp" not in n}
        last = json.loads(run(command).stdout)
        check(last["failed"] == len(bad), f"after kills: {last['failed']} failed, not {len(bad)}")
        check(last["skipped"] == len(finished), f"after kills: {last['skipped']} skipped, {len(finished)} were there")
        check(last["done"] == len(photos) - len(finished), f"after kills: {last['done']} done")
        now = identities(killed)
        check(all(now[n] == i for n, i in finished.items()), "after kills: a finished photo was made again")
        check(set(now) == set(before), f"after kills: {sorted(set(now) ^ set(before))}")
        same = sum((out / n).read_bytes() == (killed / n).read_bytes() for n in before)
        check(same == len(photos), f"after kills: {same} of {len(photos)} have the same bytes")
        print(f"{len(photos)} photos, {len(bad)} bad ones, {len(finished)} done when killed {args.kills} times: "
              f"{check.done - check.failed} checks passed, {check.failed} failed")
        return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Makes tests/data/uploads/ and tests/golden/uploads.json: small uploads as numpy, PIL, tarfile and zipfile write them, and what numpy says is in them.
Debian 12: python3-numpy python3-pil. Pictures that PIL cannot write (16 bits of colour, interlaced) are written here, with zlib."""
import base64, gzip, io, json, os, struct, tarfile, zipfile, zlib
import numpy as np
from PIL import Image

here = os.path.dirname(os.path.abspath(__file__))
out = os.path.join(here, "..", "data", "uploads")
os.makedirs(out, exist_ok=True)
rng = np.random.default_rng(7)
golden = []


def put(name, data):
    with open(os.path.join(out, name), "wb") as f:
        f.write(data)
    return name


def expect(file, part, format, x=None, y=None, classes=None, split="train", tolerance=0, task="classification"):
    row = {"file": file, "part": part, "format": format, "split": split, "tolerance": tolerance, "task": task}
    if x is not None:
        row["dtype"] = "u8" if x.dtype == np.uint8 else "f32"
        row["shape"] = list(x.shape[1:]) or [1]
        row["x"] = [int(v) if v == int(v) else float(v) for v in x.astype(np.float32).reshape(-1)]
    if y is not None:
        row["y"] = [int(v) if v == int(v) else float(v) for v in np.asarray(y, np.float32).reshape(-1)]
    row["classes"] = classes
    golden.append(row)


def npy(x, version=None):
    f = io.BytesIO()
    np.lib.format.write_array(f, x, version=version)
    return f.getvalue()


# ---- NPY: every type, both byte orders, every version ----
for descr in ["u1", "i1", "b1", "<u2", ">u2", "<i2", ">i2", "<i4", ">i4", "<u4", "<i8", ">i8", "<u8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]:
    kind = np.dtype(descr).kind
    x = np.array([[0, 1, 2], [100, 7, 90]] if kind in "ub" else [[0, -1, 2], [-100, 7, 90]], dtype=descr)
    if kind == "f":
        x = (x / 8).astype(descr)
    expect(put("type_%s.npy" % descr.replace("<", "little_").replace(">", "big_"), npy(x)), "features", "npy", x)
images = rng.integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
expect(put("images_v1.npy", npy(images)), "features", "npy", images)
expect(put("images_v2.npy", npy(images[..., 0].copy(), (2, 0))), "features", "npy", images[..., 0])
expect(put("images_v3.npy.gz", gzip.compress(npy(images, (3, 0)), mtime=0)), "features", "npy", images)
expect(put("numbers.npy", npy(np.array([3.5, -2.25]))), "features", "npy", np.array([3.5, -2.25]))
expect(put("labels.npy", npy(np.array([2, 0, 1]))), "labels", "npy", y=[2, 0, 1])
expect(put("labels_column.npy", npy(np.array([[1], [0]], dtype=np.uint8))), "labels", "npy", y=[1, 0])
expect(put("targets.npy", npy(np.array([[1.5, 2], [3, 4]]))), "labels", "npy", y=[1.5, 2, 3, 4], task="regression")
expect(put("labels.npy", npy(np.array([2, 0, 1]))), "labels", "npy", y=[2, 0, 1], task="regression")

# ---- NPZ: as keras.datasets' mnist.npz, as MedMNIST, plain ----
sets = {"train": (images, np.array([1, 0, 2], np.uint8)), "test": (images[:2] // 2, np.array([0, 2], np.uint8))}
for name, save in (("mnist.npz", np.savez), ("mnist_compressed.npz", np.savez_compressed)):
    f = io.BytesIO()
    save(f, x_test=sets["test"][0], x_train=sets["train"][0], y_test=sets["test"][1], y_train=sets["train"][1])
    put(name, f.getvalue())
    for split, (x, y) in sets.items():
        expect(name, "table", "npz", x, y, split=split)
f = io.BytesIO()
np.savez_compressed(f, train_images=sets["train"][0], train_labels=sets["train"][1][:, None], val_images=sets["test"][0] + 1,
                    val_labels=sets["test"][1][:, None], test_images=sets["test"][0], test_labels=sets["test"][1][:, None])
put("medmnist.npz", f.getvalue())
for split, x, y in (("train", *sets["train"]), ("validation", sets["test"][0] + 1, sets["test"][1]), ("test", *sets["test"])):
    expect("medmnist.npz", "table", "npz", x, y, split=split)
f = io.BytesIO()
np.savez(f, X=images.astype(np.float32) / 4, y=np.array([0, 1, 1]), names=np.array(["a", "b"]))
expect(put("plain.npz", f.getvalue()), "table", "npz", images.astype(np.float32) / 4, [0, 1, 1], split="validation")

# ---- CIFAR ----
def records(x, *labels):
    return b"".join(bytes([int(l[i]) for l in labels]) + x[i].transpose(2, 0, 1).tobytes() for i in range(len(x)))


# few colours, so that the files compress
x = np.kron(rng.integers(0, 256, (3, 2, 2, 3), dtype=np.uint8), np.ones((1, 16, 16, 1), np.uint8))
y = np.array([9, 0, 5])
expect(put("cifar10.bin.gz", gzip.compress(records(x, y), mtime=0)), "table", "cifar10", x, y)
expect(put("cifar100.bin.gz", gzip.compress(records(x, y, y * 11), mtime=0)), "table", "cifar100", x, y * 11)


def tar(members, format=tarfile.PAX_FORMAT):
    f = io.BytesIO()
    with tarfile.open(fileobj=f, mode="w", format=format) as t:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            t.addfile(info, io.BytesIO(data))
    return f.getvalue()


put("cifar-10-binary.tar.gz", gzip.compress(tar([
    ("cifar-10-batches-bin/", b""), ("cifar-10-batches-bin/data_batch_1.bin", records(x[:1], y[:1])),
    ("cifar-10-batches-bin/batches.meta.txt", b"airplane\n"), ("cifar-10-batches-bin/test_batch.bin", records(x[1:2], y[1:2])),
    ("cifar-10-batches-bin/data_batch_2.bin", records(x[2:], y[2:]))]), mtime=0))
expect("cifar-10-binary.tar.gz", "table", "cifar10", x[[0, 2]], y[[0, 2]])
expect("cifar-10-binary.tar.gz", "table", "cifar10", x[1:2], y[1:2], split="test")

# ---- pictures ----
def png_by_hand(rows, colour, depth, interlace=0, width=None):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    h, w = rows.shape[:2]
    if interlace:
        passes = [rows[a::b, c::d] for a, b, c, d in ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))]
    else:
        passes = [rows]
    raw = b"".join(b"\0" + r.tobytes() for p in passes if p.size for r in p)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlace)) +
            chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def save(image, **kw):
    f = io.BytesIO()
    image.save(f, **kw)
    return f.getvalue()


H, W = 6, 8
grey = rng.integers(0, 256, (H, W), dtype=np.uint8)
rgb = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
alpha = rng.integers(0, 256, (H, W, 1), dtype=np.uint8)
grey16, rgb16 = rng.integers(0, 65536, (H, W), dtype=np.uint16), rng.integers(0, 65536, (H, W, 3), dtype=np.uint16)
bits = grey > 127
palette = Image.fromarray(rgb).quantize(16)
palette_alpha = palette.copy()
palette_alpha.info["transparency"] = 3
smooth = np.add.outer(np.arange(H) * 20, np.arange(W) * 10).astype(np.uint8)
smooth3 = np.stack([smooth, 255 - smooth, smooth // 2], -1)
eight = lambda v: ((v.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8)
jpeg = lambda b, mode: np.asarray(Image.open(io.BytesIO(b)).convert(mode))
jpeg_grey, jpeg_rgb = save(Image.fromarray(smooth), format="JPEG", quality=90), save(Image.fromarray(smooth3), format="JPEG", quality=90)
jpeg_progressive = save(Image.fromarray(smooth3), format="JPEG", quality=90, progressive=True)
greys = [  # name, file, pixels
    ("cat/grey.png", save(Image.fromarray(grey), format="PNG"), grey), ("cat/bits.PNG", save(Image.fromarray(bits), format="PNG"), bits * np.uint8(255)),
    ("b\u00e4r/grey_alpha.png", save(Image.fromarray(np.dstack([grey, alpha]), "LA"), format="PNG"), grey),
    ("b\u00e4r/grey16.png", png_by_hand(grey16.astype(">u2"), 0, 16), eight(grey16)), ("10/interlaced.png", png_by_hand(grey, 0, 8, 1), grey),
    ("9/grey.jpg", jpeg_grey, jpeg(jpeg_grey, "L"))]
colours = [
    ("rgb.png", save(Image.fromarray(rgb), format="PNG"), rgb), ("rgba.png", save(Image.fromarray(np.dstack([rgb, alpha]), "RGBA"), format="PNG"), rgb),
    ("palette.png", save(palette, format="PNG"), np.asarray(palette.convert("RGB"))),
    ("palette_alpha.png", save(palette_alpha, format="PNG", transparency=3), np.asarray(palette.convert("RGB"))),
    ("rgb16.png", png_by_hand(rgb16.astype(">u2"), 2, 16), eight(rgb16)), ("interlaced.png", png_by_hand(rgb, 2, 8, 1), rgb),
    ("colour.jpeg", jpeg_rgb, jpeg(jpeg_rgb, "RGB")), ("progressive.jpg", jpeg_progressive, jpeg(jpeg_progressive, "RGB")),
    ("grey.png", greys[0][1], np.repeat(grey[..., None], 3, -1)), ("grey.jpg", jpeg_grey, np.repeat(jpeg(jpeg_grey, "L")[..., None], 3, -1))]
colours = [("set/train/%s/%s" % ("yes" if i % 2 else "no", n), b, p) for i, (n, b, p) in enumerate(colours)]
other = [("set/test/no/grey.png", greys[0][1]), ("set/README.md", b"text"), ("set/train/no/.hidden.png", b"no picture"), ("set/train/no/notes.txt", b"")]
classes = ["10", "9", "b\u00e4r", "cat"]
x = np.stack([p for _, _, p in greys])[..., None]
y = [classes.index(n.split("/")[0]) for n, _, _ in greys]


def zipped(members):
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in members:
            z.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED if len(data) % 2 else zipfile.ZIP_STORED)
    return f.getvalue()


plain = [(n, b) for n, b, _ in greys]
whole = tar(plain)
end = (len(whole.rstrip(b"\0")) + 511) // 512 * 512  # of the last member: some writers put one block of zeros behind it
for name, data in (("short_end.tar", whole[:end + 512]), ("grey.zip", zipped([("cat/", b"")] + plain)), ("grey.tar", tar([("cat/", b"")] + plain)),
                   ("grey_gnu.tar.gz", gzip.compress(tar(plain, tarfile.GNU_FORMAT), mtime=0))):
    expect(put(name, data), "table", "images", x, y, classes, tolerance=2)
plain = other[:2] + [(n, b) for n, b, _ in colours] + other[2:]
x = np.stack([p for _, _, p in colours])
y = [i % 2 for i in range(len(colours))]
for name, data in (("colour.zip", zipped(plain)), ("colour.tar.gz", gzip.compress(tar(plain), mtime=0))):
    expect(put(name, data), "table", "images", x, y, ["no", "yes"], tolerance=2)
expect("colour.zip", "table", "images", np.repeat(grey[None, ..., None], 3, -1), [0], ["no"], split="test")  # as colourful as train

# ---- what is refused: file, part, error, words of the message ----
def refuse(file, part, code, says, split="train", task="classification", format=None):
    golden.append({"file": file, "part": part, "code": code, "says": says, "split": split, "task": task, "format": format})


def header(text, version=1, length=None):
    n = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", n) + text


def bad_npy(name, data, code, says, part="features", **kw):
    refuse(put("bad_%s.npy" % name, data), part, code, says, **kw)


ok = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
bad_npy("order", npy(np.asfortranarray(np.ones((2, 3)))), "invalid", "ascontiguousarray")
bad_npy("objects", npy(np.array(["a", "b"])), "invalid", 'type "<U1"')
bad_npy("complex", npy(np.ones(2, complex)), "invalid", 'type "<c16"')
bad_npy("records", npy(np.zeros(2, [("a", "f4"), ("b", "i4")])), "invalid", "records")
bad_npy("scalar", npy(np.float32(3)), "invalid", "single number")
bad_npy("empty", npy(np.zeros((0, 3))), "invalid", "no samples")
bad_npy("nan", npy(np.array([1, np.nan])), "invalid", "not a number, at offset 136")
bad_npy("infinite", npy(np.array([1, 1e300])), "invalid", "not a finite float32 number, at offset 136")
bad_npy("dimension", npy(np.zeros((2, 0))), "invalid", "dimension 1 is 0")
bad_npy("rank", npy(np.zeros((1,) * 9)), "invalid", "more than 8 dimensions")
bad_npy("one_hot", npy(np.eye(3, dtype=np.int64)), "invalid", "one-hot", part="labels")
bad_npy("real_labels", npy(np.array([0.0, 1])), "invalid", "must be integers", part="labels")
bad_npy("negative", npy(np.array([0, -1])), "invalid", "class -1: it must be 0 to 9999, at offset 136", part="labels")
bad_npy("short", npy(np.zeros(2))[:-1], "malformed", "ends at byte 143, expected 144")
bad_npy("long", npy(np.zeros(2)) + b"x", "malformed", "goes on after the last number at offset 144")
bad_npy("version", header(ok, 4), "malformed", "version 4.0 is unknown")
bad_npy("length", header(ok, 2, 20000), "malformed", "has 20000 bytes")
bad_npy("head", header(ok, 1, 200), "malformed", "in its head")
bad_npy("no_shape", header(ok.replace(b"'shape': (2,), ", b"")), "malformed", "has no descr, fortran_order or shape")
bad_npy("twice", header(ok.replace(b"}", b"'shape': (2,)}")), "malformed", "a key twice")
bad_npy("code", header(b"__import__('os')"), "malformed", "is no dictionary")
bad_npy("behind", header(ok + b" x"), "malformed", "goes on behind")
bad_npy("shape", header(ok.replace(b"(2,)", b"(-2,)")), "malformed", "no sound shape")
bad_npy("shape_long", header(ok.replace(b"(2,)", b"(%d,)" % 10**30)), "malformed", "no sound shape")
bad_npy("huge", header(ok.replace(b"(2,)", b"(%d, 9)" % 10**17)), "too_large", "samples")
refuse("images_v1.npy", "table", "invalid", "format npy goes to features or labels, not to table")
refuse("mnist.npz", "features", "invalid", "format npz goes to table, not to features")
refuse("mnist.npz", "table", "invalid", "no features of split validation", split="validation")
refuse("grey.zip", "labels", "invalid", "format images goes to table")
refuse("grey.zip", "table", "invalid", "task must be classification", task="regression")
refuse("cifar10.bin.gz", "table", "invalid", "task must be classification", task="regression")
refuse("cifar-10-binary.tar.gz", "table", "invalid", "no split validation", split="validation")


def bad_npz(name, code, says, **arrays):
    f = io.BytesIO()
    np.savez_compressed(f, **arrays)
    refuse(put("bad_%s.npz" % name, f.getvalue()), "table", code, says)


bad_npz("unnamed", "invalid", "it has arr_0.npy, arr_1.npy", arr_0=images, arr_1=y)
bad_npz("two", "invalid", "two arrays of the NPZ file could be the features", x=images, images=images, y=np.arange(3))
bad_npz("one_hot", "invalid", "y.npy: class labels must be integers", x=images, y=np.eye(3, dtype=np.int32))
bad_npz("bomb", "too_large", "more than 100 times", x=np.zeros(3 << 20, np.uint8), y=np.zeros(3 << 20, np.uint8))


def bad_zip(name, members, code, says, **kw):
    refuse(put("bad_%s.zip" % name, zipped(members)), "table", code, says, **kw)


def ihdr(w, h):
    head = b"IHDR" + struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + struct.pack(">I", 9) + b"IDAT" + bytes(9)


one, gif = greys[0][1], save(Image.fromarray(grey), format="GIF")
broken = bytearray(one)
broken[-20] ^= 1
bad_zip("sizes", [("a/1.png", one), ("b/2.png", png_by_hand(grey[:3], 0, 8))], "invalid",
        "b/2.png: is 8 pixels wide and 3 high, but a/1.png 8 and 6: all must be of one size")
bad_zip("no_folder", [("a/1.png", one), ("2.png", one)], "invalid", "2.png: lies in no folder")
bad_zip("gif", [("a/1.png", one), ("a/2.gif", gif)], "invalid", "a/2.gif: is a picture, but neither PNG nor JPEG")
bad_zip("not_png", [("a/1.png", b"text")], "malformed", "a/1.png: is neither PNG nor JPEG")
bad_zip("broken_png", [("a/1.png", one), ("b/2.png", bytes(broken))], "malformed", "b/2.png: broken PNG")
bad_zip("short_png", [("a/1.png", one[:60])], "malformed", "a/1.png: broken PNG: it ends too early")
bad_zip("short_jpeg", [("a/1.jpg", jpeg_rgb[:-40])], "malformed", "a/1.jpg: broken JPEG: Premature end")
# 8 by 6 grey pixels, coded by libjpeg with arith_code: PIL does not. With one bit turned a coefficient has no place.
arithmetic = bytearray(base64.b64decode("/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNS"
                                        "Mj5aYVpQYEpRUk//yQALCAAGAAgBAREA/8wABgAQEAX/2gAIAQEAAD8AyM/07zfs20vlBLdkPrmeKJWt0hgFGT1XP/eISSyPvY+C/9k="))
put("arithmetic.zip", zipped([("a/1.jpg", bytes(arithmetic))]))
expect("arithmetic.zip", "table", "images", np.asarray(Image.open(io.BytesIO(arithmetic)))[None, ..., None], [0], ["a"], tolerance=1)
arithmetic[152] ^= 8
bad_zip("arithmetic", [("a/1.jpg", bytes(arithmetic))], "malformed", "a/1.jpg: broken JPEG: Corrupt JPEG data: bad arithmetic code")
bad_zip("cmyk", [("a/1.jpg", save(Image.new("CMYK", (8, 6)), format="JPEG"))], "invalid", "a/1.jpg: a JPEG of four channels")
bad_zip("wide", [("a/1.png", ihdr(30000, 30000))], "malformed", "a/1.png: broken PNG")
bad_zip("large", [("a/1.png", ihdr(2000, 2000))], "too_large", "a/1.png: is 2000 pixels wide")
bad_zip("many", [("a/%d.png" % i, ihdr(1000, 1000)) for i in range(20)], "too_large", "the numbers take more than")
bad_zip("bomb", [("a/1.png", bytes((3 << 20) + 1))], "too_large", "more than 100 times")
bad_zip("no_pictures", [("a/1.txt", one)], "invalid", "no PNG or JPEG pictures of split train")
bad_zip("other_split", [("test/a/1.png", one)], "invalid", "no PNG or JPEG pictures of split train")
bad_zip("control", [("a\x1b[31m/\n1.gif", gif)], "invalid", "a?[31m/?1.gif: is a picture")
refuse(put("bad_cut.zip", zipped([(n, b) for n, b, _ in greys])[:-30]), "table", "malformed", "the archive cannot be read")
refuse(put("bad_cut.tar", tar([(n, b) for n, b, _ in greys])[:1500]), "table", "malformed", "the archive cannot be read")
refuse(put("bad_no_end.tar", whole[:end]), "table", "malformed", "the tar file has no end")
refuse(put("bad_no_end.tar.gz", gzip.compress(whole[:end], mtime=0)), "table", "malformed", "the tar file has no end")
f = io.BytesIO()
with tarfile.open(fileobj=f, mode="w") as t:  # links, a device, a way out: none of them is followed
    for name, kind, to in (("a/link.png", tarfile.SYMTYPE, "/etc/passwd"), ("a/hard.png", tarfile.LNKTYPE, "a/1.png"), ("a/fifo.png", tarfile.FIFOTYPE, "")):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, to
        t.addfile(info)
refuse(put("bad_links.tar", f.getvalue()), "table", "invalid", "no PNG or JPEG pictures of split train")
put("outside.tar", tar([("../../outside/1.png", one), ("/outside/2.png", one)]))
expect("outside.tar", "table", "images", grey[None, ..., None].repeat(2, 0), [0, 0], ["outside"])
x = np.zeros((2, 32, 32, 3), np.uint8)
refuse(put("bad_class.bin.gz", gzip.compress(records(x, [1, 2]) + bytes([1]) + x[0].tobytes() + records(x, [3, 10]), mtime=0)), "table",
       "invalid", "record 4, at offset 12292, is of class 10", format="cifar10")
refuse(put("bad_record.bin.gz", gzip.compress(records(x, [1, 2])[:-1], mtime=0)), "table", "malformed", "record 1 ends after 3072 bytes of 3073", format="cifar10")

with open(os.path.join(here, "uploads.json"), "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(g, ensure_ascii=False) for g in golden) + "\n]\n")

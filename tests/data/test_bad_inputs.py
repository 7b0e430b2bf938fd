"""Every kind of bad input is refused in a message that names it, and touches nothing that was there."""

import gzip
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.catalogue import CATALOGUE
from pipeline.data.preparation import prepare
from pipeline.ncsn.errors import UserError
from tests.data.formats import animated, encoded, idx_header, npz, picture, raw_png, tarred, unzipped, zipped

Arguments = dict[str, Any]
Make = Callable[[pytest.FixtureRequest, Path], Arguments]
"""Puts the input into a folder; returns the arguments of `prepare`."""

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 9, 9), np.uint8)
GOOD = {f"{n}.png": picture(16, 16, 3) for n in range(3)}
LABELS = np.arange(4)


def array(content: bytes, file: str = "in.npz", **changes: Any) -> Make:
    """A file of arrays."""

    def make(request: pytest.FixtureRequest, folder: Path) -> Arguments:
        (folder / file).write_bytes(content)
        return {"name": "npz", "source": str(folder / file), "image_size": 9, **changes}

    return make


def asked(**changes: Any) -> Make:
    """Good images, and arguments that do not fit them."""
    return array(npz(images=PIXELS, labels=LABELS), **changes)


def images(added: Mapping[str, bytes], name: str = "folder", image_size: int = 8) -> Make:
    """A folder of images; nothing but what is named here."""

    def make(request: pytest.FixtureRequest, folder: Path) -> Arguments:
        for path, data in added.items():
            (folder / "in" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "in" / path).write_bytes(data)
        (folder / "in").mkdir(exist_ok=True)
        return {"name": name, "source": str(folder / "in"), "image_size": image_size}

    return make


def white(make: Make) -> Make:
    """With a white of 12 bits."""
    return lambda request, folder: make(request, folder) | {"white": 4095}


def links(added: Mapping[str, str]) -> Make:
    """Good images in the folders a and b, and links to folders."""

    def make(request: pytest.FixtureRequest, folder: Path) -> Arguments:
        made = images({f"{part}/{name}": data for part in "ab" for name, data in GOOD.items()})(request, folder)
        for path, target in added.items():
            (folder / "in" / path).symlink_to(target)
        return made

    return make


def several(kind: str, file: str, **changes: Any) -> Make:
    """Good images, and one file that holds three."""
    return images({**GOOD, file: animated(kind, 16, 16)}, **changes)


def fashion(which: int, content: bytes, trusted: bool = True) -> Make:
    """Fashion-MNIST's four files with another content in one, which the catalogue may expect."""

    def make(request: pytest.FixtureRequest, folder: Path) -> Arguments:
        made = request.getfixturevalue("fashion")
        files = CATALOGUE["fashion_mnist"].files
        (made.folder / files[which].name).write_bytes(content)
        if trusted:
            kept = [(made.folder / file.name).read_bytes() for file in files]
            unpacked = [gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data for data in kept]
            request.getfixturevalue("publish")("fashion_mnist", *unpacked)
        return {
            "name": "fashion_mnist",
            "source": str(made.folder),
            "image_size": 28,
            "num_held_out": None,
        }

    return make


def digits(content: bytes) -> Make:
    """The packaged table with another content, which the catalogue expects."""

    def make(request: pytest.FixtureRequest, folder: Path) -> Arguments:
        (folder / "digits.csv").write_bytes(content)
        request.getfixturevalue("publish")("digits", content)
        return {"name": "digits", "source": str(folder), "image_size": 8}

    return make


RECORD = 3073
FOLDER = "cifar-10-batches-bin"
BATCHES: dict[str, bytes | str] = {
    f"{FOLDER}/{name}.bin": np.random.default_rng(0).integers(0, 10, RECORD).astype(np.uint8).tobytes()
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch")
}


def cifar(change: Callable[[bytes], bytes] = bytes, trusted: bool = True, **members: bytes | str | None) -> Make:
    """CIFAR-10's archive with other members, then its bytes changed."""

    def make(request: pytest.FixtureRequest, folder: Path) -> Arguments:
        named = {f"{FOLDER}/{name}.bin": data for name, data in members.items()}
        every = {name: data for name, data in {**BATCHES, **named}.items() if data is not None}
        content = change(tarred(every))
        (folder / "cifar-10-binary.tar.gz").write_bytes(content)
        if trusted:
            request.getfixturevalue("publish")("cifar10", content)
        return {"name": "cifar10", "source": str(folder), "image_size": 32, "num_held_out": None}

    return make


def celeba(path: str, change: Callable[[bytes], bytes]) -> Make:
    """CelebA with one of its files changed, and the catalogue expecting it so."""

    def make(request: pytest.FixtureRequest, folder: Path) -> Arguments:
        made = request.getfixturevalue("celeba")
        (made.folder / path).write_bytes(change((made.folder / path).read_bytes()))
        request.getfixturevalue("republish_celeba")(made.folder)
        return {"name": "celeba", "source": str(made.folder), "image_size": 64, "num_held_out": None}

    return make


def faces(**changes: bytes | None) -> Make:
    """CelebA with other images: `n3` is the third."""

    def change(content: bytes) -> bytes:
        members = unzipped(content)
        for name, data in changes.items():
            path = f"img_align_celeba/00000{name[1]}.png"
            members.pop(path) if data is None else members.update({path: data})
        return zipped(members)

    return celeba("Img/img_align_celeba.zip", change)


def listed(path: str, content: str) -> Make:
    return celeba(path, lambda old: content.encode())


def body(*shape: int, extra: int = 0, kind: int = 8) -> bytes:
    """An IDX file of zeros, `extra` bytes longer than its header says."""
    return idx_header(*shape, kind=kind) + bytes(int(np.prod(shape)) + extra)


def locked(archive: bytes) -> bytes:
    """The bit that says that a member is encrypted, set in every header."""
    changed = bytearray(archive)
    for mark, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        place = archive.find(mark)
        while place >= 0:
            changed[place + offset] |= 1
            place = archive.find(mark, place + 4)
    return bytes(changed)


EVAL, ATTR = "Eval/list_eval_partition.txt", "Anno/list_attr_celeba.txt"
FACE = picture(218, 178, 3)

BAD: dict[str, tuple[Make, str]] = {
    # What is asked for
    "unknown name": (asked(name="digit"), r"data\.name: 'digit' .*digits, fashion_mnist, mnist"),
    "size not available": (asked(name="digits", source=None), r"data\.image_size: 9 .*digits: set it to 8"),
    "sizes not available": (asked(name="celeba"), "set it to 32 or 64"),
    "all held out": (asked(num_held_out=4), r"data\.num_held_out: 4 must be below the 4 images"),
    "more than all held out": (asked(num_held_out=99), r"data\.num_held_out: 99"),
    "no test split of its own": (asked(num_held_out=None), r"data\.num_held_out: null .*npz has none"),
    "no such path": (asked(source="nowhere.npz"), r"data\.source: nowhere\.npz does not exist"),
    "no path": (asked(source=None), r"data\.source: null, but data\.name: npz"),
    "a mirror of one's own images": (asked(source="https://x.org/y"), "no checksum is published"),
    "a mirror without https": (
        asked(name="cifar10", image_size=32, source="http://example.org/pub"),
        r"http://example\.org/pub/cifar-10-binary\.tar\.gz is refused: only https",
    ),
    # Arrays
    "npz: no images": (
        array(npz(pictures=PIXELS)),
        r"in\.npz has no array `images` \(nor `arr_0`, `train_images`, `x_train`\), but pictures: use",
    ),
    "npz: another kind of file": (array(b"hello"), r"in\.npz is no zip archive, or a damaged"),
    "npz: empty": (array(b""), r"in\.npz is no zip archive"),
    "npz: cut": (array(npz(images=PIXELS)[:-30]), r"in\.npz is no zip archive"),
    "npz: one byte differs": (
        array(npz(images=PIXELS).replace(PIXELS.tobytes(), PIXELS.tobytes()[:-1] + b"\0")),
        r"in\.npz is no zip archive, or a damaged or locked one \(Bad CRC-32",
    ),
    "npz: by another name": (array(npz(images=PIXELS), file="in.dat"), r"in\.dat is no \.npy or \.npz"),
    "npz: floats": (array(npz(images=PIXELS / 1.0)), "must be uint8 in C order, not float64"),
    "npz: 16 bits": (array(npz(images=PIXELS.astype(np.uint16))), "must be uint8 in C order, not uint16"),
    "npz: pickled": (array(npz(images=np.array([{}]))), "must be uint8"),
    "npz: Fortran order": (array(npz(images=np.asfortranarray(PIXELS))), "in Fortran order"),
    "npz: another size": (array(npz(images=PIXELS[:, :8, :8])), r"shape \(4, 8, 8\); data.image_size: 9"),
    "npz: two channels": (array(npz(images=np.zeros((4, 2, 9, 9), np.uint8))), r"shape \(4, 2, 9, 9\)"),
    "npz: no image": (array(npz(images=PIXELS[:0])), r"npz holds 0 image\(s\)"),
    "npz: one image": (array(npz(images=PIXELS[:1])), r"npz holds 1 image\(s\): one to train on and one to"),
    "npz: fewer labels": (
        array(npz(images=PIXELS, labels=LABELS[:3])),
        r"`labels` has the shape \(3,\) for 4",
    ),
    "npz: float labels": (array(npz(images=PIXELS, labels=np.ones(4))), "`labels` must be whole numbers"),
    "npz: floats of another size, with labels of neither kind nor number": (
        array(npz(images=np.zeros((4, 8, 8), np.float32), labels=np.ones((3, 2)))),
        r"cannot be used:\n  `images` must be uint8 .* float32: of values in \[0, 1\], np\.savez\(.*\n"
        r"  `images` has the shape \(4, 8, 8\).*\n  `labels` must be whole numbers.*\n"
        r"  `labels` has the shape \(3, 2\) for 4 images",
    ),
    "npz: several labels an image": (
        array(npz(train_images=PIXELS, train_labels=np.ones((4, 14), np.uint8))),
        r"`train_labels` has the shape \(4, 14\) for 4 images: one class",
    ),
    "npz: test images of another kind": (
        array(npz(x_train=PIXELS, x_test=np.zeros((2, 9, 9, 3), np.uint8))),
        r"the arrays of images differ in shape: \(9, 9\) and \(9, 9, 3\)",
    ),
    "npz: a number": (array(npz(images=np.uint8(3), labels=LABELS)), r"`images` has the shape \(\);"),
    "npz: a negative label": (array(npz(images=PIXELS, labels=LABELS - 1)), "labels run from -1 to 2"),
    "npz: a huge label": (array(npz(images=PIXELS, labels=LABELS * 10**9)), "to 3000000000: number the cl"),
    "npz: declares more than it has": (
        array(zipped({"images.npy": unzipped(npz(images=PIXELS))["images.npy"].replace(b"(4, 9", b"(9, 9")})),
        "`images` declares 729 bytes and has 324",
    ),
    "npz: a bomb": (
        array(npz(compressed=True, images=np.zeros((40_000, 9, 9), np.uint8))),
        r"in\.npz is refused: unpacked it has more than 200 times its own size.*np\.savez",
    ),
    "npz: outside": (
        array(zipped({"../images.npy": b"x", "/images.npy": b"x"})),
        r"in\.npz has no array `images`",
    ),
    "npy: cut": (array(b"", file="in.npy"), r"in\.npy: `images` is no NumPy array"),
    "npy: text": (array(b"hello, world", file="in.npy"), "magic string is not correct"),
    # Folders
    "folder: empty": (images({}), "holds no images"),
    "folder: no images": (images({"readme.txt": b""}), "holds no images"),
    "folder: one image": (images({"a.png": GOOD["0.png"]}), r"folder holds 1 image\(s\)"),
    "folder: not an image": (images({**GOOD, "bad.png": b"hello"}), r"1 of 4 .*\n  bad\.png is not an image"),
    "folder: empty file": (images({**GOOD, "c/bad.png": b""}), r"c/bad\.png is not an image"),
    "folder: another size": (
        images({**GOOD, "bad.png": picture(16, 17, 3)}),
        r"bad\.png is not RGB 16x16 as most are: RGB 17x16",
    ),
    "folder: grey among colour": (
        images({**GOOD, "bad.png": picture(16, 16)}),
        r"bad\.png is not RGB 16x16 as most are: L 16x16",
    ),
    "folder: palette": (
        images({**GOOD, "bad.png": picture(16, 16, 3, mode="P")}),
        r"bad\.png has a palette \(mode P\)",
    ),
    "folder: alpha": (
        images({"a.png": picture(16, 16, 3, mode="RGBA")}),
        r"1 of 1 .*\n  a\.png has an alpha channel",
    ),
    "folder: grey with alpha": (
        images({"a.png": picture(16, 16, mode="LA")}),
        r"a\.png has an alpha channel \(mode LA",
    ),
    "folder: 16 bits grey": (
        images({**GOOD, "bad.png": picture(16, 16, mode="I;16")}),
        r"bad\.png has 16 bits a channel \(mode I;16\)\n.*`data\.white: 65535`",
    ),
    "folder: 16 bits colour": (
        images({**GOOD, "bad.png": raw_png(16, 16, 16, 2, bytes(16 * (1 + 96)))}),
        r"bad\.png has 16 bits a channel \(mode RGB\)",
    ),
    "folder: a palette, and what to do": (
        images({**GOOD, "bad.png": picture(16, 16, 3, mode="P")}),
        r"bad\.png has a palette \(mode P\)\n.*`data\.to_rgb: true`",
    ),
    "folder: above white": (
        white(images({name: encoded(np.full((16, 16), 4096, np.uint16)) for name in ("a.png", "b.png")})),
        r"2 images, each has a pixel above data\.white \(4095\): a\.png \(4096\), b\.png",
    ),
    "folder: 16 bits colour, whatever is white": (
        white(images({"bad.png": raw_png(16, 16, 16, 2, bytes(16 * (1 + 96)))})),
        r"bad\.png has 16 bits a channel \(mode RGB\)",
    ),
    "white: no folder": (asked(white=4095), r"data\.white: 4095 is for folders of images, not for npz: remove it"),
    "folder: 1 bit": (images({"a.png": picture(16, 16, mode="1")}), r"a\.png has 1 bit a pixel"),
    "folder: print": (
        images({"a.jpg": picture(16, 16, 3, mode="CMYK", kind="jpeg")}),
        r"a\.jpg has the four inks of print \(mode CMYK\)",
    ),
    "folder: a bomb": (
        images({**GOOD, "bad.png": raw_png(30_000, 30_000, 8, 2, b"")}),
        r"bad\.png has more than \d+ pixels",
    ),
    "folder: a smaller bomb": (
        images({**GOOD, "bad.png": raw_png(10_000, 10_000, 8, 2, b"")}),
        r"bad\.png has more than \d+ pixels",
    ),
    "folder: a folder by an image's name": (
        images({**GOOD, "d.png/e.png": GOOD["0.png"]}),
        r"  d\.png .*dir",
    ),
    "folder: too small": (
        images({"a.png": picture(4, 4), "b.png": picture(4, 4)}),
        r"2 images, each is smaller than data\.image_size \(8\): a\.png \(L 4x4\), b\.png \(L 4x4\)\n",
    ),
    "folder: pixels cut": (images({**GOOD, "0.png": GOOD["0.png"][:300]}), r"0\.png cannot be decoded"),
    "folder: two cut": (
        images({**GOOD, "0.png": GOOD["0.png"][:300], "2.png": GOOD["2.png"][:400]}),
        r"2 of 3 .*\n  2 images, each cannot be decoded: 0\.png \(.*\), 2\.png \(",
    ),
    "folder: one of each": (
        images({**GOOD, "3.png": b"", "4.png": picture(8, 8, 3), "5.png": GOOD["0.png"][:300]}),
        r"3 of 6 .*\n(  3\.png is not .*\n|  4\.png is not RGB .* RGB 8x8\n|  5\.png cannot be dec.*\n){3}Images",
    ),
    "folder: more than are named": (
        images({f"{n}.png": b"" for n in range(103)}),
        r"103 of 103 images .*\n  103 images, each is not an image: 0\.png, 1\.png, 10\.png, \.\.\.\nImages",
    ),
    "folder: sizes of all kinds are one cause": (
        images({**GOOD, **{f"b{n}.png": picture(9, 9 + n, 3) for n in range(4)}, "c.png": GOOD["0.png"]}),
        r"4 of 8 .*\n  4 images, each is not RGB 16x16 as most are: b0\.png \(RGB 9x9\), .*, \.\.\.\nImages",
    ),
    "folder: alpha, and how to lay it": (
        images({f"{n}.png": picture(16, 16, 3, mode="RGBA") for n in range(9)}),
        r"9 images, each has an alpha channel \(mode RGBA\): .*\n.*`data\.background: \[255, 255, 255\]`",
    ),
    "folder: a transparent colour": (
        images({**GOOD, "bad.png": picture(16, 16, 3, transparency=(1, 2, 3))}),
        r"bad\.png has a transparent colour, which is an alpha channel too \(mode RGB\)\n.*data\.background",
    ),
    "folder: a transparent grey": (
        images({"bad.png": picture(16, 16, transparency=7)}),
        r"bad\.png has a transparent colour, which is an alpha channel too \(mode L\)",
    ),
    "folder: pages": (several("tiff", "a.tif"), r"a\.tif has more than one frame or page: 3\n"),
    "folder: an animated PNG": (several("png", "a.png"), r"a\.png has more than one frame or page: 3\n"),
    "folder: an animated WebP": (several("webp", "a.webp"), r"a\.webp has more than one frame or page: 3\n"),
    "folder: several pictures in a JPEG": (several("mpo", "a.jpg"), r"a\.jpg has more than one frame or page: 3\n"),
    "folder: passed over alone": (
        images({"a.gif": b"", ".b.png": GOOD["0.png"]}),
        r"holds no images .* Passed over: 1 \.gif, 1 names that begin with a dot\.",
    ),
    "folder: links to itself": (links({"a/loop": ".."}), r"a/loop is a link to a folder that it lies in: remove it"),
    "folder: links around": (links({"a/to": "../b", "b/to": "../a"}), r"/to is a link to a folder that it lies in"),
    "background: no folder": (
        asked(background=[0, 0, 0]),
        r"data\.background: \[0, 0, 0\] is for folders of images, not for npz: remove it",
    ),
    "lsun: alpha": (images({"a/a.png": picture(16, 16, 3, mode="RGBA")}, name="lsun"), r"a/a\.png has an alpha"),
    "ffhq: frames": (several("png", "a.png", name="ffhq"), r"a\.png has more than one frame or page: 3\n"),
    "folder: a file": (array(b"", file="file", name="folder"), "is not a folder of images"),
    "lsun: too small": (
        images({"a.webp": picture(16, 20, 3, kind="webp"), "b.png": picture(7, 30, 3)}, name="lsun"),
        r"1 of 2 .*\n  b\.png is smaller than data\.image_size \(8\): RGB 30x7",
    ),
    "lsun: grey": (
        images({**GOOD, "d.png": picture(18, 18)}, name="lsun"),
        r"d\.png is not RGB 16x16 as most are: L 18x18",
    ),
    # IDX
    "idx: wrong hash": (
        fashion(0, body(7, 28, 28), trusted=False),
        r"train-images-idx3-ubyte\.gz is not the published .*: its sha256 is",
    ),
    "idx: gzip cut": (fashion(0, gzip.compress(body(7, 28, 28))[:-9], trusted=False), "cannot be read"),
    "idx: a bomb": (
        fashion(2, gzip.compress(bytes(5_000_000)), trusted=False),
        "t10k-images-idx3-ubyte.gz has more than the",
    ),
    "idx: wrong magic": (fashion(0, b"P5 28 28" + bytes(8)), "starts with 50352032"),
    "idx: another type": (fashion(0, body(7, 28, 28, kind=13)), "starts with 00000d03"),
    "idx: labels for images": (fashion(0, body(7)), "3 dimension"),
    "idx: images for labels": (fashion(1, body(7, 28, 28)), "1 dimension"),
    "idx: header cut": (fashion(0, b"\0\0\x08\x03\0\0"), "cut short"),
    "idx: pixels cut": (fashion(0, body(7, 28, 28, extra=0)[:-1]), "cut short: 1 bytes"),
    "idx: labels cut": (fashion(1, body(7)[:-1]), "cut short: 1 bytes"),
    "idx: too long": (fashion(0, body(7, 28, 28, extra=1)), "longer than its header"),
    "idx: labels too long": (fashion(1, body(7, extra=1)), "longer than its header"),
    "idx: another size": (fashion(0, body(7, 27, 28)), "27x28 images, not 28x28"),
    "idx: another count": (fashion(1, body(8)), "8 labels for 7 images"),
    "idx: no test images": (fashion(2, body(0, 28, 28)), "3 labels for 0 images"),
    "idx: empty": (fashion(0, b""), "cut short: 4 bytes"),
    # Digits
    "digits: empty": (digits(b""), r"digits\.csv does not hold 8x8 images"),
    "digits: text": (digits(b"a,b\n"), r"digits\.csv is no table of whole numbers"),
    "digits: ragged": (digits(b"1,2,3\n1,2\n"), r"digits\.csv is no table of whole numbers"),
    "digits: too few columns": (digits(b"1,2,3\n"), r"digits\.csv does not hold 8x8 images"),
    "digits: above 16": (digits(b"17," * 64 + b"1\n"), "images of values 0 to 16"),
    # CIFAR-10
    "cifar: wrong hash": (cifar(trusted=False), r"cifar-10-binary\.tar\.gz has fewer than the 170052171"),
    "cifar: member missing": (cifar(data_batch_3=None), "no file cifar-10-batches-bin/data_batch_3.bin"),
    "cifar: half a record": (cifar(data_batch_2=bytes(RECORD + 5)), r"data_batch_2\.bin has 3078 bytes"),
    "cifar: empty member": (cifar(test_batch=b""), r"test_batch\.bin has 0 bytes"),
    "cifar: label above 9": (cifar(data_batch_5=b"\x0a" + bytes(RECORD - 1)), "holds the label 10"),
    "cifar: a link": (cifar(data_batch_1="/etc/hostname"), r"no file .*data_batch_1\.bin"),
    "cifar: outside": (
        cifar(data_batch_1=None, **{"../../data_batch_1": bytes(RECORD)}),
        r"no file cifar-10-batches-bin/data_batch_1\.bin",
    ),
    "cifar: a bomb": (
        cifar(extra=bytes(20_000_000)),
        r"tar\.gz is refused: unpacked it has more than 200 times",
    ),
    "cifar: empty archive": (cifar(lambda content: b""), r"tar\.gz is a damaged archive"),
    "cifar: cut": (cifar(lambda content: content[: len(content) // 2]), r"tar\.gz is a damaged archive"),
    # CelebA
    "celeba: face missing": (faces(n3=None), r"000003\.png is missing, though the partition file names it"),
    "celeba: not an image": (faces(n3=b"hello"), r"1 of 6 .*\n  000003\.png is not an image"),
    "celeba: cut short": (faces(n3=FACE[:4000]), r"000003\.png cannot be decoded"),
    "celeba: too small": (faces(n3=picture(100, 100, 3)), r"000003\.png is no colour image of a face: RGB 100x100"),
    "celeba: grey": (faces(n3=picture(218, 178)), r"000003\.png is no colour image of a face: L 178x218"),
    "celeba: a transparent colour": (
        faces(n3=picture(218, 178, 3, transparency=(1, 2, 3))),
        r"000003\.png has a transparent colour, .*\nImages [^\n]*remove these\.$",
    ),
    "celeba: frames": (faces(n3=animated("png", 218, 178)), r"000003\.png has more than one frame or page: 3\n"),
    "celeba: two of them": (faces(n3=b"", n6=None), r"2 of 6 .*\n  000003\.png .*\n  000006\.png is missing"),
    "celeba: no zip": (celeba("Img/img_align_celeba.zip", lambda old: b"hello"), "is no zip archive"),
    "celeba: a damaged zip": (
        celeba("Img/img_align_celeba.zip", lambda old: old[:200] + bytes(8) + old[208:]),
        r"celeba\.zip is no zip archive, or a damaged|000001\.png",
    ),
    "celeba: a bomb": (
        celeba(
            "Img/img_align_celeba.zip",
            lambda old: zipped({**unzipped(old), "x": bytes(9_000_000)}, zipfile.ZIP_DEFLATED),
        ),
        r"img_align_celeba\.zip is refused: unpacked it has more than 200 times",
    ),
    "celeba: locked": (
        celeba("Img/img_align_celeba.zip", locked),
        r"img_align_celeba\.zip is no zip archive, or a damaged or locked one \(.*encrypted",
    ),
    "celeba: path in a name": (listed(EVAL, "../../etc/passwd 0\n"), "line 1: expected an image's name"),
    "celeba: no test part": (listed(EVAL, "000001.png 0\n"), "1 train and 0 test images"),
    "celeba: unknown image": (listed(EVAL, "000001.png 0\n000099.png 2\n"), "lacks 1"),
    "celeba: no such attribute": (listed(ATTR, "1\nYoung\n000001.png 1\n"), "Male and Smiling"),
    "celeba: short row": (listed(ATTR, "1\nMale Smiling\n000001.png 1\n"), "2 whole numbers"),
    "celeba: empty list": (listed(ATTR, ""), "Male and Smiling"),
}


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_leaves_everything(case: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Nothing is written, in the folder or beside it, and what was prepared before is still there."""
    make, message = BAD[case]
    folder = tmp_path / "case"
    folder.mkdir()
    prepare(folder / "out", **{"num_held_out": 1, "seed": 0, **asked()(request, folder)})
    arguments = {"num_held_out": 1, "seed": 0, **make(request, folder)}
    before = tree(tmp_path)
    with pytest.raises(UserError, match=message):
        prepare(folder / "out", **arguments)
    assert tree(tmp_path) == before


def test_there_are_thirty_kinds_of_them() -> None:
    assert len({message for _, message in BAD.values()}) >= 30

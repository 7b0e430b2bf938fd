"""Catalogue of data sets: source, licence, checksums, sizes."""

from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pipeline.data.readers.arrays import read_arrays
from pipeline.data.readers.celeba import read_celeba
from pipeline.data.readers.cifar import read_cifar
from pipeline.data.readers.digits import read_digits
from pipeline.data.readers.folder import read_folder
from pipeline.data.readers.idx import read_idx
from pipeline.data.source import RawFile, Source
from pipeline.ncsn.errors import UserError

FASHION = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
MNIST = (
    "https://storage.googleapis.com/cvdf-datasets/mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist",
)
OF_PICTURES = ("background", "white", "to_rgb")
"""Keys of the section `data` that folders of images take."""
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
IDX_FILES = {  # name -> bytes after gunzip: a 16- or 8-byte header and a byte per pixel or label
    "train-images-idx3-ubyte.gz": 16 + 60_000 * 28 * 28,
    "train-labels-idx1-ubyte.gz": 8 + 60_000,
    "t10k-images-idx3-ubyte.gz": 16 + 10_000 * 28 * 28,
    "t10k-labels-idx1-ubyte.gz": 8 + 10_000,
}


def _idx_files(bases: tuple[str, ...], *digests: str) -> tuple[RawFile, ...]:
    return tuple(
        RawFile(name, digest, size, urls=tuple(f"{base}/{name}" for base in bases))
        for (name, size), digest in zip(IDX_FILES.items(), digests, strict=True)
    )


def _scikit_learn() -> Path:
    """The data folder of scikit-learn, found without importing it (which takes over a second)."""
    spec = find_spec("sklearn")
    return Path(spec.origin).parent / "datasets" / "data" if spec and spec.origin else Path("scikit-learn")


CATALOGUE: dict[str, Source] = {
    "digits": Source(
        title="Optical recognition of handwritten digits (UCI), test part: 1,797 scans of 8x8",
        licence="CC-BY-4.0",
        homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        read=read_digits,
        image_sizes=(8,),
        files=(RawFile("digits.csv.gz", "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8", 264_712),),
        packaged=_scikit_learn,
    ),
    "fashion_mnist": Source(
        title="Fashion-MNIST: 70,000 grey images of clothing, 28x28",
        licence="MIT",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        read=read_idx,
        image_sizes=(28,),
        files=_idx_files(
            (FASHION,),
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        packaged=lambda: DEBIAN,
        hint="on Debian: apt install dataset-fashion-mnist",
    ),
    "mnist": Source(
        title="MNIST: 70,000 handwritten digits, 28x28",
        licence="CC-BY-SA-3.0",
        homepage="https://yann.lecun.org/exdb/mnist/",
        read=read_idx,
        image_sizes=(28,),
        files=_idx_files(
            MNIST,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "cifar10": Source(
        title="CIFAR-10: 60,000 colour photographs in 10 classes, 32x32",
        licence="none stated by its authors",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        read=read_cifar,
        image_sizes=(32,),
        files=(
            RawFile(
                "cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                170_052_171,
                of="file",
                urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
            ),
        ),
    ),
    "celeba": Source(
        title="CelebA, aligned: 202,599 faces, the train and test parts",
        licence="non-commercial research only, see the homepage",
        hint="its download pages ask for a person",
        homepage="http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        read=read_celeba,
        image_sizes=(32, 64),
        files=(
            RawFile(
                "img_align_celeba.zip",
                "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
                1_443_490_838,
                of="file",
                unpacked="img_align_celeba",
            ),
            RawFile(
                "list_eval_partition.txt",
                "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7",
                2_836_386,
            ),
            RawFile(
                "list_attr_celeba.txt",
                "f0e5da289d5ccf75ffe8811132694922b60f2af59256ed362afa03fefba324d0",
                26_721_026,
            ),
        ),
    ),
    "lsun": Source(
        title="LSUN, a folder that holds a folder of images, of any sizes, for each category",
        licence="none stated by its authors",
        homepage="https://github.com/fyu/lsun",
        read=partial(read_folder, any_size=True),
        takes=OF_PICTURES,
    ),
    "ffhq": Source(
        title="FFHQ: 70,000 faces, the folder of its images (1024x1024) or of its thumbnails (128x128)",
        licence="CC-BY-NC-SA-4.0; each photograph has its own, see the homepage",
        homepage="https://github.com/NVlabs/ffhq-dataset",
        read=partial(read_folder, classes=False),
        takes=OF_PICTURES,
    ),
    "folder": Source(
        title="a folder of images of one size; the folders in it are classes",
        licence="the user's",
        homepage="",
        read=read_folder,
        takes=OF_PICTURES,
    ),
    "folder_any_size": Source(
        title="a folder of images of any sizes, each cut to its central square; the folders in it are classes",
        licence="the user's",
        homepage="",
        read=partial(read_folder, any_size=True),
        takes=OF_PICTURES,
    ),
    "npz": Source(
        title="an .npz file with `images` and, if it has them, `labels`; or an .npy file of images",
        licence="the user's",
        homepage="",
        read=read_arrays,
    ),
}


def source_of(name: str) -> Source:
    """The catalogue's entry of a data set, or `SOURCE` of the module extensions/datasets/NAME.py.

    Raises:
        UserError: there is neither.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    try:
        module = import_module(f"extensions.datasets.{name}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("extensions"):
            raise
        raise UserError(
            f"data.name: {name!r} is neither in the catalogue ({', '.join(CATALOGUE)}) nor a module of "
            "extensions/datasets: choose one of these, or write one."
        ) from error
    source: Source = module.SOURCE
    return source

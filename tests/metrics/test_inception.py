"""Inception-v3 with random, fixed weights: the library's own FID; weights are believed by their hash."""

import importlib.util
import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from pipeline.files import sha256
from pipeline.metrics import features, selftest
from pipeline.metrics.build import build
from pipeline.metrics.features.inception import Inception, InceptionSpace, make_inception
from pipeline.metrics.fid import frechet_distance
from pipeline.ncsn.errors import UserError

REAL = "NCSN_INCEPTION_WEIGHTS"
"""A variable of the environment that names the file of the real weights, 95 MB."""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch_fidelity") is None,
    reason="torch-fidelity is not installed: pip install --no-deps torch-fidelity==0.4.0",
)


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setattr(torch.nn.Module, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        network = make_inception({})
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def network(weights_file):
    return Inception(str(weights_file), sha256(weights_file)).read()


def photographs(seed, n, size=32):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 3, 4, 4)).repeat(size // 4, axis=2).repeat(size // 4, axis=3)
    noise = rng.normal(0, 10 + 20 * seed, coarse.shape)
    return (coarse * (0.6 + 0.2 * seed) + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture
def torch_fidelity(monkeypatch):
    """The whole library. Where torchvision is absent or does not import (stock wheels beside a CPU build of
    torch), empty classes stand in for what the library imports of it and neither test needs."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            monkeypatch.delitem(sys.modules, name)
        for name in ("", ".datasets", ".transforms", ".transforms.functional"):
            module = types.ModuleType("torchvision" + name)
            monkeypatch.setitem(sys.modules, module.__name__, module)
        for name in ("CIFAR10", "CIFAR100", "STL10"):
            setattr(sys.modules["torchvision.datasets"], name, type(name, (), {}))
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch_fidelity"]:
        monkeypatch.delitem(sys.modules, name)
    import torch_fidelity

    yield torch_fidelity
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch_fidelity"]:
        del sys.modules[name]


class Stored(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = torch.from_numpy(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def library_fid(torch_fidelity, sets, **weights):
    """torch-fidelity's own FID of two arrays of images."""
    quiet = {"cuda": False, "save_cpu_ram": True, "verbose": False, "cache": False, "batch_size": 40}
    one, other = map(Stored, sets)
    found = torch_fidelity.calculate_metrics(input1=one, input2=other, fid=True, **quiet, **weights)
    return found["frechet_inception_distance"]


def test_our_fid_is_the_librarys_own(torch_fidelity, weights_file, network, monkeypatch):
    """On the layer of 64, where so few images have covariances of full rank: the library's form of FID takes
    roots of eigenvalues that are round-off otherwise. Images are blown up to 99 pixels on both sides, for
    time; with 299 the two agreed as well."""
    monkeypatch.setattr(torch_fidelity.FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 99)
    sets = [photographs(seed, 80) for seed in (0, 1)]
    theirs = library_fid(torch_fidelity, sets, feature_layer_fid="64", feature_extractor_weights_path=str(weights_file))
    shallow = InceptionSpace(network.weights, network.sha256)
    shallow.layer = "64"
    monkeypatch.setattr(shallow.network, "INPUT_IMAGE_SIZE", 99)
    ours = frechet_distance(*(shallow.features(images) for images in sets))
    assert ours == pytest.approx(theirs, rel=1e-6) and ours > 1e-3


@pytest.mark.skipif(REAL not in os.environ, reason=f"{REAL} names no weights-inception-2015-12-05-6726825d.pth")
@pytest.mark.timeout(7200)
def test_our_fid_of_the_papers_weights_and_layer_is_the_librarys_own(torch_fidelity):
    """On more images than the layer has features, where the library's form of FID has covariances of full
    rank; an hour on a CPU. The weights' SHA-256 is that of the papers' presets."""
    sets = [photographs(seed, 2200) for seed in (0, 1)]
    theirs = library_fid(torch_fidelity, sets, feature_extractor_weights_path=os.environ[REAL])
    preset = YAML(typ="safe").load(Path(__file__).parents[2] / "conf/celeba.yaml")
    network = Inception(os.environ[REAL], preset["features"]["sha256"]).read()
    ours = frechet_distance(*(network.features(images) for images in sets))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_our_features_are_the_librarys_own_bit_for_bit(torch_fidelity, weights_file, network):
    images = photographs(0, 2)
    layers = ["2048", "logits_unbiased"]
    theirs = torch_fidelity.FeatureExtractorInceptionV3("whole", layers, str(weights_file))
    found, logits = theirs(torch.from_numpy(images))
    np.testing.assert_array_equal(network.both(images)[0], found.numpy())
    np.testing.assert_array_equal(network.both(images)[1], logits.softmax(dim=1).numpy())


def test_features_and_probabilities_of_one_pass_and_of_two(network):
    images = photographs(0, 3)
    found, p = network.both(images)
    assert found.shape == (3, 2048) and p.shape == (3, 1008)
    assert p.sum(axis=1) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(network.features(images), found)
    assert network.name.endswith(f"layer 2048, weights sha256 {network.sha256[:8]}")


def test_network_and_images_go_to_the_device(network):
    placed = network.on("meta")
    with pytest.raises(NotImplementedError, match="meta"):
        placed.features(photographs(0, 2))
    assert {tensor.device.type for tensor in placed.network.state_dict().values()} == {"meta"}
    assert {tensor.device.type for tensor in network.network.state_dict().values()} == {"cpu"}
    assert placed.device == "meta" and pickle.loads(pickle.dumps(placed)).device == "meta"


def test_a_worker_gets_the_same_network(network):
    images = photographs(0, 2)
    expected = network.features(images)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(network)).features(images), expected)


def test_saved_and_loaded_are_one(weights_file, network, tmp_path, monkeypatch):
    """The stage's way; its self-test, which takes roots of matrices of 2,048 rows, is tested elsewhere."""
    monkeypatch.setattr(selftest, "selftest", lambda train, held_out: [])
    few = {"train": photographs(0, 4), "held_out": photographs(1, 3)}
    splits = [(images, np.zeros(len(images), np.int64)) for images in few.values()]
    settings = Inception(str(weights_file), sha256(weights_file))
    found = build(tmp_path / "features", *splits, settings)
    assert found["floor_fid"] == frechet_distance(*(network.features(few[k]) for k in ("held_out", "train")))
    assert "train_accuracy" not in found and found["evaluator"] == network.name
    loaded = features.load_space(tmp_path / "features")
    np.testing.assert_array_equal(loaded.features(few["train"]), network.features(few["train"]))
    path = tmp_path / "features" / "inception.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"inception\.safetensors does not have the sha256"):
        features.load_space(tmp_path / "features")


def test_no_byte_is_parsed_before_its_hash_is_checked(tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": Trap()}, path)
    with pytest.raises(UserError, match=r"has sha256 .*, not features\.sha256"):
        Inception(str(path), "0" * 64).read()
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        Inception(str(path), sha256(path)).read()
    assert not (tmp_path / "sprung").exists()


def test_a_file_of_another_network(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"features\.weights does not hold Inception-v3"):
        Inception(str(path), sha256(path)).read()


def test_a_missing_file_and_a_download_that_fails(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"features\.weights \(.*nowhere\.pth\) is no file"):
        Inception(str(tmp_path / "nowhere.pth"), "0" * 64).read()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(Inception, "url", f"file://{tmp_path}/none.pth")
    with pytest.raises(UserError, match=r"fetch it by hand and set features\.weights"):
        Inception(None, "0" * 64).read()


def test_a_download_is_believed_by_its_hash(weights_file, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(Inception, "url", weights_file.as_uri())
    with pytest.raises(UserError, match="invalid hash"):
        Inception(None, "0" * 64).read()
    assert not list((tmp_path / "checkpoints").iterdir())
    assert Inception(None, sha256(weights_file)).read().sha256 == sha256(weights_file)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (0, 3, 8, 8)])
def test_images_that_are_not_rgb(network, shape):
    with pytest.raises(UserError, match=r"set features\.kind to classifier"):
        network.features(np.zeros(shape, np.uint8))

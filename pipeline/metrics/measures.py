"""Measures of the table: ONE entry each, read by evaluate, rows, columns, cards, page, DVC and MLflow.

A new measure is an entry here with its function, or a file extensions/measures/NAME.py that defines a
`Measure`; nothing else has to know of it. Searches and the choice of a checkpoint use FID by itself and
do not import this table, so that a new measure repeats none of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pipeline.ncsn.kinds import extensions
from pipeline.progress import reported

if TYPE_CHECKING:
    from pipeline.metrics.inputs import ImageInputs, NetworkInputs, SampleInputs

Values = Mapping[str, Any]
"""Part of an evaluation that a measure adds, as JSON."""
Evaluation = dict[str, Any]
"""Evaluation of images or of a row by the names of the measures, as JSON."""
Spread = Literal["std", "stderr", "interval"]


@dataclass(frozen=True)
class Measure:
    """Measure of samples or of a network: its words, its function, and where an evaluation has it."""

    name: str
    """Its key in an evaluation and in table.json."""
    label: str
    """The title of its column."""
    better: Literal["lower", "higher", "near 1"]
    source: str
    """Paper, and equation where it has one."""
    compute: Callable[[Any], Values]
    """From `ImageInputs`, `SampleInputs` or `NetworkInputs`, as `of` says, to {name: number}.

    None means "not measured", and NAME_not_measured gives the reason. NAME_std or NAME_stderr is the spread. One
    function may compute several measures."""
    of: Literal["images", "samples", "network"] = "images"
    """Images: of samples and of the floor. Samples: of samples alone. Network: once for a network."""
    full: str = ""
    """Its name in a sentence; empty: the label."""
    digits: int | None = None
    """Decimal places in the table; None: two digits of the spread, or three of the value without one."""
    spread: Spread | None = None
    """What the table prints behind the value."""
    key: str = ""
    """Where an evaluation holds a mapping under `name`: the value's key in it."""
    table: Literal["results", "further"] = "results"
    """Results: in the first table and on the model card. Further: in the small table below, and no error where
    an older evaluation lacks it."""
    compared: bool = True
    """Of results: whether DVC's metrics and MLflow's models list it, which show few columns at once."""

    def needed(self) -> tuple[str, ...]:
        """The keys that an evaluation must have."""
        if self.table == "further" or self.key:
            return ()
        return (self.name, f"{self.name}_{self.spread}") if self.spread in ("std", "stderr") else (self.name,)

    def read(self, block: Values, end: str = "") -> Any:
        """The value in a block of an evaluation, or with `end` its std, stderr, low, high or not_measured."""
        found = block.get(self.name)
        if isinstance(found, Mapping):
            return found.get(end or self.key)
        return block.get(f"{self.name}_{end}") if end else found


# Functions import what they compute with when they are called: the report reads this table without torch.


def _fid(x: "ImageInputs") -> Values:
    from pipeline.metrics.fid import distance

    return {"fid": distance(x.images.moments, x.reference.moments), "fid_stderr": x.fid_stderr}


def _fid_infinity(x: "ImageInputs") -> Values:
    from pipeline.metrics.fid_infinity import fid_infinity

    points, seed = x.settings.fid_points, x.settings.seed
    real, own, stderr = x.reference.moments, x.images.moments, x.fid_stderr
    return fid_infinity(x.images.features, real, points=points, stderr=stderr, seed=seed, own=own)


def _kid(x: "ImageInputs") -> Values:
    from pipeline.metrics.kid import kernel_distance

    subsets, size, seed = x.settings.kid_subsets, x.settings.kid_subset_size, x.settings.seed
    features, real = x.images.features, x.reference.features
    kid, std = kernel_distance(features, real, subsets=subsets, subset_size=size, seed=seed)
    return {"kid": kid, "kid_std": std}


def _inception_score(x: "ImageInputs") -> Values:
    from pipeline.metrics.inception_score import inception_score

    p = x.images.probabilities
    score, std = inception_score(p, splits=x.settings.splits) if p.shape[1] else (None, None)
    return {"inception_score": score, "inception_score_std": std}


def _prdc(x: "ImageInputs") -> Values:
    from pipeline.metrics.neighbours import prdc

    k = x.settings.nearest_k
    return prdc(x.images.features, x.reference.features, nearest_k=k, reference_radii=x.reference.radii(k))


def _memorisation(x: "SampleInputs") -> Values:
    from pipeline.metrics.neighbours import distance_ratio

    return {
        f"memorisation_{space}": distance_ratio(near, x.fresh_distances[space], seed=x.settings.seed)
        for space, near in x.distances.items()
    }


def _bits_per_dim(x: "NetworkInputs") -> Values:
    from pipeline.metrics.bits_per_dim import likelihood

    bits, seed = x.settings.likelihood, x.settings.seed
    sizes = {"num_images": bits.num_images, "num_levels": bits.num_levels}
    return {"bits_per_dim": likelihood(x.network, x.held_out, **sizes, seed=seed, device=x.device)}


_PRECISION, _DENSITY = "arXiv 1904.06991", "arXiv 2002.09797"
_COPIES = "this project: `pipeline.metrics.neighbours.distance_ratio`"

MEASURES = (
    Measure("fid", "FID", "lower", "arXiv 1706.08500, equation 6", _fid),
    Measure(
        "fid_infinity", "FID, N → ∞", "lower", "arXiv 1911.07023", _fid_infinity,
        spread="stderr", table="further",
    ),
    Measure("kid", "KID", "lower", "arXiv 1801.01401", _kid, spread="std"),
    Measure(
        "inception_score", "IS", "higher", "arXiv 1606.03498", _inception_score,
        full="inception score", spread="std", compared=False,
    ),
    Measure("precision", "Precision", "higher", _PRECISION, _prdc, full="precision", digits=3),
    Measure("recall", "Recall", "higher", _PRECISION, _prdc, full="recall", digits=3),
    Measure("density", "Density", "higher", _DENSITY, _prdc, full="density", digits=3, compared=False),
    Measure("coverage", "Coverage", "higher", _DENSITY, _prdc, full="coverage", digits=3, compared=False),
    Measure(
        "memorisation_pixels", "Nearest neighbour / held-out's, pixels", "near 1", _COPIES, _memorisation,
        of="samples", digits=3, spread="interval", key="ratio", table="further",
    ),
    Measure(
        "memorisation_features", "Nearest neighbour / held-out's, features", "near 1", _COPIES, _memorisation,
        of="samples", digits=3, spread="interval", key="ratio", table="further",
    ),
    Measure(
        "bits_per_dim", "Bits / dim", "lower", "arXiv 2011.13456, section 4.3", _bits_per_dim,
        of="network", spread="stderr", key="mean", table="further",
    ),
)  # fmt: skip


@cache
def measures() -> tuple[Measure, ...]:
    """All measures: the table's, then those of extensions/measures."""
    found = [one for home in extensions("measures").values() for one in vars(home).values()]
    return (*MEASURES, *dict.fromkeys(one for one in found if isinstance(one, Measure)))


def measure(name: str) -> Measure:
    """The measure of a name; raises KeyError where there is none."""
    return {one.name: one for one in measures()}[name]


def compute(of: str, inputs: "ImageInputs | NetworkInputs") -> Evaluation:
    """All measures of images, samples or a network, each function called once."""
    functions = dict.fromkeys(one.compute for one in measures() if one.of == of)
    asked = reported(f"measures of {of}", functions, len(functions))
    return {key: value for function in asked for key, value in function(inputs).items()}


def results() -> tuple[Measure, ...]:
    """The measures of the first table."""
    return tuple(one for one in measures() if one.table == "results")


def further() -> tuple[Measure, ...]:
    """The measures of the small table below it."""
    return tuple(one for one in measures() if one.table == "further")

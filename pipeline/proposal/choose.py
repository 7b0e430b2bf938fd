"""The keys of a preset that follow from what was seen, each with its reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.ncsn import noise
from pipeline.proposal.look import Facts

SIGMA_MIN, OVERLAP = 0.01, 0.5
"""What techniques 1 and 2 leave open; conf/digits.yaml has the same."""
NCSN_LEVELS, NCSN_STEPS = 10, 10
STEPS_PER_LEVEL = 3
"""T of technique 4. Of a single step, samples of the papers' networks do not leave the noise on a small budget."""
FEW = 10
"""Images of a class, on average, below which no classifier learns it."""


@dataclass(frozen=True)
class Choice:
    """A key of params.yaml."""

    key: str
    """Dotted."""
    value: Any
    reason: str


def choices_for(facts: Facts, effort: float) -> list[Choice]:
    """The preset of these images.

    Args:
        effort: multiplies numbers of steps and samples; 1: 2,000 steps, and 1,000 samples of a row.
    """
    parts = _data(facts), _features(facts), _noise(facts, effort), _training(facts, effort), _recipes(facts, effort)
    more = _samplers(facts, effort), _sizes(facts, effort)
    return [choice for part in (*parts, *more) for choice in part]


def num_levels(facts: Facts) -> int:
    """L by technique 2."""
    return noise.num_levels(facts.sigma_max, SIGMA_MIN, facts.pixels, OVERLAP)


def num_samples(facts: Facts, effort: float) -> int:
    """Samples of a row."""
    return min(facts.held_out, max(100, round(1000 * effort)))


def _data(facts: Facts) -> Iterator[Choice]:
    for key, value in facts.data.items():
        yield Choice(f"data.{key}", value, facts.why[key])


def _features(facts: Facts) -> Iterator[Choice]:
    """A classifier where there are classes, else a network that needs none."""
    count, classes = sum(facts.by_class), len(facts.by_class)
    labelled = classes > 1 and count >= FEW * classes
    chance = max(facts.by_class) / count if labelled else 0.25
    copies = 1 if labelled else 4
    why = (
        f"{classes} classes of {min(facts.by_class)} to {max(facts.by_class)} images"
        if labelled
        else f"{classes} class(es) for {count:,} images: trained on rotations, not on labels"
    )
    of_chance = f"the largest class has {chance:.0%}" if labelled else "chance tells 25% of the rotations"
    settings = {
        **({"kind": "classifier", "weights": None, "sha256": None} if labelled else {"kind": "rotations"}),
        "width": 16,
        "epochs": min(30, max(2, 60_000 // (copies * len(facts.images)))),
        "batch_size": 64 if len(facts.images) > 256 else 32,
        "lr": 2e-3,
        "seed": 0,
        "min_accuracy": round(chance + (1 - chance) / 4, 2),
    }
    yield Choice("features", settings, f"{why}; {of_chance}, and min_accuracy is a quarter of the way from there to 1")


def _noise(facts: Facts, effort: float) -> Iterator[Choice]:
    levels = num_levels(facts)
    ladder = f"{facts.sigma_max:.3g} to {SIGMA_MIN} in {levels} levels"
    settings = {"kind": "analytic", "sigma_min": SIGMA_MIN, "overlap": OVERLAP}
    yield Choice("noise.ncsnv2", settings, f"techniques 1 and 2 of NCSNv2 on these images: sigma {ladder}")
    yield Choice("tune_noise.analytic", {"sigma_min": SIGMA_MIN, "overlap": OVERLAP}, "the search begins there")
    yield Choice("tune_noise.max_nfe", levels + 1, f"the analytic choice's {levels} levels and the last denoising")
    yield Choice("tune_noise.num_levels_ratio", [0.25, 1.0], "up to as many levels as the analytic choice has")
    upper = round(min(8.0, 12 * min(1.0, facts.sigma_max)), 2)  # 0.15 of sigma_max is 15 times SIGMA_MIN
    yield Choice("tune_noise.sigma_min_ratio", [min(0.5, upper / 2), upper], "sigma_min stays below sigma_max")
    rung = max(10, round(100 * effort))
    yield Choice("tune_noise.rungs", [rung, 2 * rung], "steps of each trial, by the budget")
    yield Choice("tune_noise.num_trials", 4, "by the budget")
    yield Choice("tune_noise.num_samples", _few(64, effort), "behind each trial's FID, by the budget")
    yield Choice("tune_noise.batch_size", _batch(facts), "that of the training")
    yield Choice("tune_noise.repeats", 0, "a few would cost as much as the search")


def _training(facts: Facts, effort: float) -> Iterator[Choice]:
    steps = _steps(effort)
    yield Choice("train.steps", steps, "by the budget; the papers train for 200,000 to 300,000")
    yield Choice("train.batch_size", _batch(facts), f"of {len(facts.images):,} training images")
    yield Choice(
        "train.micro_batches",
        8 if facts.device == "cuda" else 2,
        "for 1, 2, 4 or 8 workers" if facts.device == "cuda" else "for 1 or 2 workers",
    )
    yield Choice("train.checkpoint_every", max(1, steps // 5), "a fifth of the steps")
    yield Choice("train.log_every", max(1, steps // 40), "40 points of the loss curve")


def _recipes(facts: Facts, effort: float) -> Iterator[Choice]:
    """Networks and their moving averages, whose span is a tenth of the training."""
    width, unet = _widths(facts)
    steps = {"ncsn": round(0.75 * _steps(effort)), "ncsnv2": None, "tuned": None, "edm": round(2.5 * _steps(effort))}
    for name, own in steps.items():
        network = (
            {"kind": "unet", **unet}
            if name == "edm"
            else {"kind": "ncsn" if name == "ncsn" else "ncsnv2", "width": width}
        )
        yield Choice(f"recipes.{name}.network", network, f"for {facts.size} x {facts.size} on {_where(facts)}")
        yield Choice(f"recipes.{name}.steps", own, "of about as much time as ncsnv2's" if own else "those of train")
        if name != "ncsn":
            rate = round(1 - min(0.1, 10 / (own or _steps(effort))), 4)
            yield Choice(
                f"recipes.{name}.ema", {"kind": "exponential", "rate": min(rate, 0.9999)}, "over a tenth of the steps"
            )


def _samplers(facts: Facts, effort: float) -> Iterator[Choice]:
    levels, longest = num_levels(facts), baseline_nfe(facts)
    ladder = noise.geometric_sigmas(facts.sigma_max, SIGMA_MIN, levels)
    step = noise.step_size(ladder, STEPS_PER_LEVEL)
    for name in ("ncsn", "ncsn_paper"):
        settings = {"kind": "langevin", "step_size": 2e-5, "steps_per_level": NCSN_STEPS}
        yield Choice(
            f"sampler.{name}",
            settings,
            f"the paper's step, and a tenth of its T: {NCSN_LEVELS * NCSN_STEPS} evaluations",
        )
    settings = {"kind": "langevin", "step_size": "analytic", "steps_per_level": STEPS_PER_LEVEL}
    yield Choice(
        "sampler.ncsnv2",
        settings,
        f"technique 4: the step is {step:.3g}; {longest} evaluations, the last denoising included",
    )
    baseline = {"network": "ncsnv2", "sampler": settings}
    yield Choice("tune_sampler.baseline", baseline, "the row ncsnv2")
    yield Choice(
        "tune_sampler.max_nfe",
        [max(5, longest // 20), longest],
        "a twentieth of the baseline's evaluations, and all of them",
    )
    yield Choice("tune_sampler.steps_per_level", [1, 5], "around the baseline's")
    few = _few(64, effort)
    yield Choice("tune_sampler.rungs", [few, 2 * few], "samples behind each trial's FID, by the budget")
    yield Choice("tune_sampler.num_trials", 6, "by the budget")


def baseline_nfe(facts: Facts) -> int:
    """Evaluations for a sample of the row ncsnv2."""
    return STEPS_PER_LEVEL * num_levels(facts) + 1


def _sizes(facts: Facts, effort: float) -> Iterator[Choice]:
    count = num_samples(facts, effort)
    yield Choice(
        "generate.num_samples", count, f"by the budget, and no more than the {facts.held_out:,} held-out images"
    )
    yield Choice("generate.shard_size", min(100, -(-count // 2)), "samples computed together")
    yield Choice("evaluate.kid_subset_size", min(1000, count // 2), "half of the samples")
    yield Choice("evaluate.splits", min(10, count // 20), "at least 20 samples each")
    few = _few(128, effort)
    yield Choice("frontier.num_samples", few, "behind each FID, by the budget")
    yield Choice("frontier.shard_size", few // 2, "samples computed together")
    yield Choice("frontier.nfe", [5, 9, 17, 35], "up to the row edm's")
    yield Choice("report.grid", [8, max(4, min(16, count // 8))], "no more places than samples")
    yield Choice("toy.losses", {"sigmas": [0.0, 0.01]}, "Fig 1: none, and the paper's")


def _steps(effort: float) -> int:
    return max(40, round(2000 * effort))


def _few(count: int, effort: float) -> int:
    return max(count // 4, round(count * min(1.0, effort)))


def _batch(facts: Facts) -> int:
    return 128 if facts.device == "cuda" or facts.size <= 8 else 32


def _widths(facts: Facts) -> tuple[int, dict[str, object]]:
    """Filters of the papers' networks, and the settings of the U-Net."""
    if facts.size <= 8:
        return 16, {"width": 256}
    if facts.device == "cuda":
        return 64, {"width": 64}
    return 12, {"width": 32, "patch": 2, "multiples": [1, 2], "blocks": [2, 2]}


def _where(facts: Facts) -> str:
    return "a GPU" if facts.device == "cuda" else "CPU cores; the papers' have 64 to 128 filters"

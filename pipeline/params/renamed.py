"""Old keys of params.yaml and the new ones: a file that still has one is refused with the new name."""

from collections.abc import Iterator
from typing import Any, NamedTuple

ANY = object()


class Renamed(NamedTuple):
    """A key, and maybe its value, that params.yaml had once."""

    old: str
    """Dotted; `*` stands for any name."""
    new: str
    """What to write instead."""
    value: Any = ANY
    """The old value, or its type."""


TABLE = (
    Renamed("variants", "`networks` (a list: what is trained) and `rows` (ROW: NETWORK: what is sampled)"),
    Renamed("more_seeds", "`extra_seeds`"),
    Renamed("reference", "`features`"),
    Renamed("data.held_out", "`num_held_out`"),
    Renamed("noise.*.rule", "`kind: geometric`", "fixed"),
    Renamed("noise.*.rule", "`kind: analytic`", "analytic"),
    Renamed("noise.*.rule", "`kind: continuous`", "continuous"),
    Renamed("noise.*.rule", "`from: tune_noise`", "tuned"),
    Renamed("noise.*.rule", "`from: tune_noise` next to the range", "tuned_continuous"),
    Renamed("noise.*.rule", "`kind`, or `from: tune_noise`"),
    Renamed("tune_noise.variant", "`network`"),
    Renamed("tune_noise.microshards", "`micro_batches`"),
    Renamed("tune_noise.sigma_max", "`sigma_max_ratio`"),
    Renamed("tune_noise.sigma_min", "`sigma_min_ratio`"),
    Renamed("tune_noise.num_levels", "`num_levels_ratio`"),
    Renamed("tune_noise.p_mean", "`p_mean_shift`"),
    Renamed("tune_noise.p_std", "`p_std_ratio`"),
    Renamed("train.microshards", "`micro_batches`"),
    Renamed("train.determinism", "`bitwise`", "elastic"),
    Renamed("recipes.*.lr", "`optimizer: {kind: adam, lr: ...}`"),
    Renamed("recipes.*.betas", "`optimizer: {kind: adam, betas: ...}`"),
    Renamed("recipes.*.adam_eps", "`optimizer: {kind: adam, eps: ...}`"),
    Renamed("recipes.*.ema_rate", "`ema: {kind: none}`", 0),
    Renamed("recipes.*.ema_rate", "`ema: {kind: exponential, rate: ...}`"),
    Renamed("sampler.*.rule", "`kind: langevin`, and `step_size` for `step_lr`", "fixed"),
    Renamed("sampler.*.rule", "`kind: langevin` with `step_size: analytic`", "analytic"),
    Renamed("sampler.*.rule", "`from: tune_sampler` with `choose: lowest_fid`", "tuned"),
    Renamed("sampler.*.rule", "`from: tune_sampler` with `choose: fewest_nfe`", "fewest"),
    Renamed("sampler.*.rule", "`from: tune_sampler` with `choose: knee`", "knee"),
    Renamed("sampler.*.rule", "`kind`"),
    Renamed("sampler.*.step_lr", "`step_size`"),
    Renamed("tune_sampler.variant", "`network`"),
    Renamed("tune_sampler.baseline", "`{network: ..., sampler: {kind: ...}}`", str),
    Renamed("tune_sampler.spent", "`budget_share`"),
    Renamed("tune_sampler.step_lr", "`step_size_ratio`"),
    Renamed("tune_sampler.sigma_max", "`sigma_max_ratio`"),
    Renamed("tune_sampler.sigma_min", "`sigma_min_ratio`"),
    Renamed("generate.sets", "`sample_sets`"),
    Renamed("frontier.variant", "`network`"),
)
"""Of entries with one key the first whose value fits."""


def refusals(raw: Any) -> list[str]:
    """A line for each old key or value in a params file, with its new name."""
    found: dict[str, str] = {}
    for entry in TABLE:
        for key, value in _at(raw, entry.old.split(".")):
            if _fits(value, entry.value):
                found.setdefault(key, f"{key}: {_what(entry)} is now {entry.new}")
    return list(found.values())


def _fits(value: Any, wanted: Any) -> bool:
    return wanted is ANY or (isinstance(value, wanted) if isinstance(wanted, type) else value == wanted)


def _what(entry: Renamed) -> str:
    last = entry.old.rpartition(".")[2]
    if entry.value is ANY or isinstance(entry.value, type):
        return f"`{last}`"
    return f"`{entry.value}`" if entry.old == "train.determinism" else f"`{last}: {entry.value}`"


def _at(raw: Any, pieces: list[str], place: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that the pattern matches, with its value."""
    first, *rest = pieces
    for name in _plain(raw) if first == "*" else [first]:
        if name in _plain(raw):
            key = f"{place}{name}"
            yield from _at(raw[name], rest, f"{key}.") if rest else [(key, raw[name])]


def _plain(raw: object) -> dict[str, object]:
    return raw if isinstance(raw, dict) else {}

#!/usr/bin/env bash
# Optuna 5.0.0: with the sampler of the default, multivariate TPE, the proposals of one seed depend on the alphabetical
# order of the parameters' names. A parameter that is renamed past another one gets other proposals from the first
# modelled trial on, though objective, order of the suggest calls, seed and bounds are the same. A name that keeps its
# place changes nothing; nor does any name for univariate TPE (the default up to 4.x) or for random search.
# So a name is part of what a seed repeats: whoever renames a setting of a search keeps the old name inside Optuna.
# Seen: Python 3.11, optuna 5.0.0. Output: the last lines of this file.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0
cat > "$work/names.py" <<'PYTHON'
import optuna
from optuna.samplers import RandomSampler, TPESampler

optuna.logging.set_verbosity(optuna.logging.ERROR)


def proposals(first, second, sampler):
    study, found = optuna.create_study(sampler=sampler), []
    for _ in range(14):
        trial = study.ask()
        x, y = trial.suggest_float(first, 0.0, 1.0), trial.suggest_float(second, 0.0, 1.0)
        study.tell(trial, (x - 0.3) ** 2 + (y - 0.7) ** 2)
        found.append((x, y))
    return found


def first_difference(names, make):
    pairs = zip(proposals("alpha", "beta", make()), proposals(*names, make()), strict=True)
    return next((number for number, (one, other) in enumerate(pairs) if one != other), "none")


kinds = {
    "tpe default": lambda: TPESampler(seed=0, n_startup_trials=5),
    "tpe multivariate": lambda: TPESampler(seed=0, n_startup_trials=5, multivariate=True),
    "tpe univariate": lambda: TPESampler(seed=0, n_startup_trials=5, multivariate=False),
    "random": lambda: RandomSampler(seed=0),
}
print(f"optuna {optuna.__version__}")
for name, make in kinds.items():
    moved, kept = first_difference(("zeta", "beta"), make), first_difference(("a1", "b1"), make)
    print(f"{name}: alpha renamed zeta: first other trial {moved}; a1 and b1: {kept}")
PYTHON
"$work/venv/bin/python" "$work/names.py" | tee "$work/seen"
diff "$work/seen" - <<'SEEN'
optuna 5.0.0
tpe default: alpha renamed zeta: first other trial 5; a1 and b1: none
tpe multivariate: alpha renamed zeta: first other trial 5; a1 and b1: none
tpe univariate: alpha renamed zeta: first other trial none; a1 and b1: none
random: alpha renamed zeta: first other trial none; a1 and b1: none
SEEN

"""Compare two dvc.lock files: exit with 1 and name the outputs that differ, clocks' files apart."""

import sys
from pathlib import Path

from ruamel.yaml import YAML

CLOCKS = ("artifacts/metrics/train_", "artifacts/metrics/generate_", "reports")


def outputs(lock: str) -> dict[str, str]:
    stages = YAML(typ="safe").load(Path(lock))["stages"].values()
    found = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
    return {path: digest for path, digest in found.items() if not path.startswith(CLOCKS)}


first, second = map(outputs, sys.argv[1:3])
differ = [path for path in first if first[path] != second.get(path)]
print(f"{len(first) - len(differ)} of {len(first)} outputs have the same bits", *differ, sep="\n  ")
sys.exit(bool(differ) or not first)

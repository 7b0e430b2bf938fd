#!/usr/bin/env bash
# safetensors 0.8.0: a file's bytes are a function of its tensors only as long as the metadata has at most one key.
# With two or more, the keys are written in an order that changes from one call to the next in the same process, so
# equal content has many SHA-256 hashes. Tensors themselves are sorted. Who names a file by its hash writes one key that
# holds JSON. `save_file` and `save` behave alike.
# Seen: Python 3.11. Output: the last lines of this file.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cat > "$work/order.py" <<'PYTHON'
import hashlib

import numpy
import safetensors
from safetensors.numpy import load, save

tensors = {"weight": numpy.arange(6, dtype=numpy.float32), "bias": numpy.zeros(2, numpy.float32)}
print(f"safetensors {safetensors.__version__}")
for count in (0, 1, 6):
    written = [save(tensors, {f"key{n}": "value" for n in range(count)} or None) for _ in range(200)]
    hashes = {hashlib.sha256(content).hexdigest() for content in written}
    equal = all((load(content)["weight"] == tensors["weight"]).all() for content in written)
    print(f"{count} keys: {'one hash' if len(hashes) == 1 else 'many hashes'}, tensors equal: {equal}")
PYTHON
"$work/venv/bin/python" "$work/order.py" | tee "$work/seen"
diff "$work/seen" - <<'SEEN'
safetensors 0.8.0
0 keys: one hash, tensors equal: True
1 keys: one hash, tensors equal: True
6 keys: many hashes, tensors equal: True
SEEN

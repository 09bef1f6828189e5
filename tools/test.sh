#!/usr/bin/env bash
# Passes all checks: style, types, tests. Arguments go to pytest. FACEKIT_TEST_WORKERS: processes for the tests [cores].
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONDONTWRITEBYTECODE # many tests start processes of their own, which would compile facekit anew
bash init_venv.sh
venv/bin/ruff check .
venv/bin/ruff format --check .
venv/bin/mypy
# One thread a worker: the workers share the cores. A file's tests stay together, for they share its fixtures, and files
# keep their order: tests/conftest.py puts the longest first. A worker that crashes has failed the run; one in its place
# would take the rest of its file and wait for ever.
workers=${FACEKIT_TEST_WORKERS:-$(nproc)}
venv/bin/python -m pytest -n "$workers" --dist loadfile --no-loadscope-reorder --max-worker-restart 0 "$@"

#!/usr/bin/env bash
# Passes all checks: style, types, tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash init_venv.sh
venv/bin/ruff check .
venv/bin/ruff format --check .
venv/bin/mypy
venv/bin/python -m pytest "$@"

#!/usr/bin/env bash
# Makes venv/ with everything that facekit needs. Run it again at any time: it does nothing when nothing changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() {
    echo "init_venv.sh: $1" >&2
    exit 1
}

python=${FACEKIT_PYTHON:-}
if [ -z "$python" ]; then
    for candidate in python3.11 python3.12 python3; do
        if command -v "$candidate" >/dev/null 2>&1; then
            python=$candidate
            break
        fi
    done
fi
[ -n "$python" ] || fail "no Python found. Install Python 3.11, or set FACEKIT_PYTHON to its path."
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' ||
    fail "$python is $("$python" --version 2>&1); the pinned packages need 3.11 or 3.12. Set FACEKIT_PYTHON to such a one."

stamp=venv/.facekit-stamp
wanted=$(cat requirements.txt pyproject.toml | sha256sum | cut -d' ' -f1)-$(pwd)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

echo "Setting up venv/ (a few minutes the first time) ..." >&2
rm -f "$stamp"
if ! venv/bin/python -c '' 2>/dev/null; then
    rm -rf venv
    "$python" -m venv venv ||
        fail "can't make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv; then run this again."
fi
venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt ||
    fail "pip could not install requirements.txt; its message stands above. Check the network and the disk, run this again."
venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e . ||
    fail "pip could not install facekit itself; its message stands above."
venv/bin/python -c 'import cv2' ||
    fail "OpenCV can't be imported. On Debian and Ubuntu: apt-get install libgl1 libglib2.0-0; then run this again."
# Not every pip leaves bytecode behind, and without it each start of Python would compile torch's sources anew: seconds.
venv/bin/python -m compileall -q -j 0 venv/lib >/dev/null || true # some packages hold sources of other Pythons
echo "$wanted" >"$stamp"
echo "venv/ is ready: source venv/bin/activate" >&2

#!/usr/bin/env bash
# Makes .venv from requirements.lock and gets the system libraries that Open3D loads. `make` runs it once.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

missing=()
libraries=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null || true)
while read -r library package; do
    grep -qF "$library" <<<"$libraries" || missing+=("$package")
done <<'LIBRARIES'
libusb-1.0.so.0 libusb-1.0-0
libGL.so.1 libgl1
libX11.so.6 libx11-6
libgomp.so.1 libgomp1
LIBRARIES
"$python" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)

if ((${#missing[@]})) && command -v apt-get >/dev/null; then
    if ((EUID == 0)); then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    else
        echo "setup: missing system libraries; run: sudo apt-get install ${missing[*]}" >&2
    fi
elif ((${#missing[@]})); then
    echo "setup: missing system libraries, by their Debian names: ${missing[*]}" >&2
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup: $("$python" -V) is too old, mmworld needs 3.11 or later; run: make PYTHON=python3.11" >&2
    exit 1
}
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv .venv
echo "setup: installing requirements.lock into .venv, some 6 GB, a few minutes" >&2
pip=(.venv/bin/python -m pip --disable-pip-version-check)
"${pip[@]}" install --quiet --require-hashes --only-binary :all: -r requirements.lock
"${pip[@]}" install --quiet --no-deps --no-build-isolation --editable .

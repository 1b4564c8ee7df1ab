# Sourced by scripts/demo and scripts/test: a virtual environment in .venv with semisalt and the named extras.
# Usage: source scripts/setup.sh EXTRAS
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras=$1

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "semisalt needs Python 3.11 or newer; this is $("$python" --version). Set PYTHON=/path/to/python3.11" >&2
    exit 2
}
[ -x .venv/bin/python ] || "$python" -m venv .venv
# Installed anew only where the requirements changed: that takes minutes, the check none.
wanted="$extras $(sha256sum pyproject.toml)"
if [ "$(cat .venv/semisalt-installed 2>/dev/null || true)" != "$wanted" ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
    echo "$wanted" > .venv/semisalt-installed
fi

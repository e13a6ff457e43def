#!/bin/sh
# Sets up the virtual environment $VENV with nolabel and the extra $1 in it, by the Python $PYTHON.
# $TORCH: pip arguments of a torch build to install first; empty: pip's own choice.
set -eu

say() { printf 'nolabel set-up: %s\n' "$*"; }
fail() { say "$@" >&2; exit 1; }

[ -n "$PYTHON" ] || fail "no Python 3.11 or newer was found: install one, or name it with PYTHON=/path/to/python3."
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$PYTHON is older than 3.11: name a newer one with PYTHON=/path/to/python3."

if [ ! -x "$VENV/bin/python" ]; then
    if "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
        "$PYTHON" -m venv "$VENV"
    elif "$PYTHON" -m pip --version >/dev/null 2>&1; then
        say "$PYTHON has no ensurepip, so its own pip fills the environment."
        "$PYTHON" -m venv --without-pip "$VENV"
    else
        fail "$PYTHON has neither ensurepip nor pip: on Debian and Ubuntu, apt-get install python3-venv; then run make again."
    fi
fi
if "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    pip() { "$VENV/bin/python" -m pip "$@"; }
else
    pip() { "$PYTHON" -m pip --python "$VENV/bin/python" "$@"; }
fi

if ! "$VENV/bin/python" -c 'import torch' 2>/dev/null; then
    if [ -z "$TORCH" ] && [ "$(uname -s)" = Linux ]; then
        say "pip now fetches about 2.5 GB (6 GB when unpacked), nearly all of it torch with its CUDA libraries."
        say "Without an NVIDIA GPU, stop here (Ctrl-C) and take the CPU build, about 0.3 GB (1.3 GB unpacked):"
        say "  make ... TORCH=\"torch torchvision --index-url ADDRESS\"   with the address that pytorch.org shows for Pip and CPU"
    else
        say "pip now fetches about 0.3 GB."
    fi
    [ ! -t 1 ] || sleep 5
    # shellcheck disable=SC2086  # several arguments
    [ -z "$TORCH" ] || pip install $TORCH
fi
quiet=--quiet
[ ! -t 1 ] || quiet=
pip install $quiet --editable ".[$1]"
say "ready in $VENV."

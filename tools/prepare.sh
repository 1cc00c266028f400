#!/bin/sh
# Makes the virtual environment that `make run` and `make test` use, and installs what is missing.
# Usage: tools/prepare.sh run|test VENV [PYTHON]
# Debian packages are installed only when root and apt-get is there; otherwise one line names them.
set -eu

purpose=$1
venv=$2
wanted=${3:-}
missing=""
packages=""

need() { # need WHAT PACKAGES...: remember what is missing and where Debian has it
    missing="$missing${missing:+, }$1"
    shift
    packages="$packages $*"
}

new_enough() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

find_python() {
    for candidate in $wanted python3 python3.13 python3.12 python3.11 python3.10; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
        if [ -n "$wanted" ]; then
            return
        fi
    done
}

python=$(find_python)
if [ -z "$python" ]; then
    echo "pyraft-fast needs Python 3.10 or newer${wanted:+ ($wanted is not)}; name one with: make PYTHON=/path/to/python3" >&2
    exit 1
fi
short=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

"$python" -c 'import venv, ensurepip' >/dev/null 2>&1 || need "Python's venv module" "python$short-venv"
command -v "${CC:-cc}" >/dev/null 2>&1 || need "a C compiler" gcc libc6-dev
"$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' ||
    need "Python's C headers" "python$short-dev"
if [ "$purpose" = test ]; then
    command -v redis-server >/dev/null 2>&1 || need redis-server redis-server
    command -v redis-benchmark >/dev/null 2>&1 || need "redis-benchmark and redis-cli" redis-tools
fi

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing with apt-get: $missing"
        # A freshly installed redis-server would start a service of its own: forbid that.
        policy=/usr/sbin/policy-rc.d
        ours=""
        if [ ! -e "$policy" ]; then
            ours=$policy
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod +x "$policy"
        fi
        status=0
        { apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null; } || status=$?
        [ -z "$ours" ] || rm -f "$ours"
        if [ "$status" != 0 ]; then
            echo "apt-get could not install:$packages" >&2
            exit 1
        fi
    else
        echo "missing: $missing. On Debian or Ubuntu: sudo apt-get install$packages" >&2
        exit 1
    fi
fi

echo "preparing $venv (Python $short) to $purpose; this takes a minute the first time"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
if [ "$purpose" = test ]; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[test]'
    # Every redis-py that people have, each beside the others. 3.4.1 wants distutils, which
    # setuptools still has.
    for version in 3.4.1 5 7 8; do
        library=$venv/clients/redis-$version
        [ -d "$library/redis" ] && continue
        exact="==$version"
        [ "$version" = 3.4.1 ] || exact="==$version.*"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --target "$library" "redis$exact" $([ "$version" != 3.4.1 ] || echo setuptools)
    done
else
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e .
fi
# What needed no new compilation is as good as new.
find pyraft_fast -name '*.so' -exec touch {} +

# What the scripts share: where things are, and what a fresh machine lacks. Sourced, not run.
#
# Everything here can run twice. What it installs it prints first, with the way it does it.
# shellcheck shell=bash

# shellcheck disable=SC2034  # read by those who source this
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/metronome"

# Outside the checkout, so that a fresh clone does not build RocksDB again.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"

# The only libclang on PyPI that bindgen was tried with.
pypi_libclang=18.1.1

pip_options=(--quiet --disable-pip-version-check --root-user-action=ignore)

say() {
    printf 'setup: %s\n' "$*" >&2
}

die() {
    say "$*"
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Everything that a build needs. Flags are the same for every script, so that they share what was built.
setup_build() {
    setup_rust
    local missing=()
    have g++ || missing+=(g++)
    have make || missing+=(make)
    find_libclang || missing+=(libclang-dev)
    if ((${#missing[@]} > 0)); then
        apt_install "${missing[@]}" || say "apt-get could not install ${missing[*]}"
    fi
    have g++ || die "a C++ compiler is needed for RocksDB: install g++"
    have make || die "make is needed for jemalloc: install make"
    find_libclang || pypi_install_libclang
    # A compiler cache takes part by its place in PATH, which no build notices.
    if [[ -d /usr/lib/ccache && ":$PATH:" != *:/usr/lib/ccache:* ]]; then
        export PATH="/usr/lib/ccache:$PATH"
    fi
}

setup_rust() {
    have cargo || export PATH="$HOME/.cargo/bin:$PATH"
    have cargo || die "cargo is not here: install Rust from https://rustup.rs, then run this again"
}

# Succeeds if bindgen will find libclang and clang's own headers.
find_libclang() {
    [[ -n "${LIBCLANG_PATH:-}" ]] && return
    if matches /usr/lib{,64,/llvm-*/lib,/*-linux-gnu}/libclang{.so*,-[0-9]*.so*} &&
        matches /usr/lib{,64,/llvm-*/lib}/clang/*/include/stdbool.h; then
        return
    fi
    [[ -e "$cache/libclang/clang/native/libclang.so" ]] && use_pypi_libclang
}

# Succeeds if one of the names is a file; the shell has filled in the patterns that it could.
matches() {
    local name
    for name in "$@"; do
        [[ -e "$name" ]] && return
    done
    return 1
}

# Installs Debian packages, as root or with sudo.
apt_install() {
    have apt-get || return 1
    local root_command=()
    if ((EUID != 0)); then
        have sudo || { say "not root, and no sudo: cannot install $*"; return 1; }
        root_command=(sudo)
    fi
    say "installing with apt-get: $*"
    "${root_command[@]}" apt-get -qq update >&2 &&
        "${root_command[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get -qq install -y --no-install-recommends "$@" >&2
}

pypi_install_libclang() {
    say "installing libclang $pypi_libclang from PyPI into $cache/libclang"
    local pip=(python3 -m pip)
    if ! "${pip[@]}" --version >/dev/null 2>&1; then
        python3 -m venv "$cache/pip" >/dev/null || die "libclang is needed: install libclang-dev"
        pip=("$cache/pip/bin/python" -m pip)
    fi
    "${pip[@]}" install "${pip_options[@]}" --upgrade --target "$cache/libclang" \
        "libclang==$pypi_libclang" || die "libclang is needed: install libclang-dev"
    use_pypi_libclang
}

# The package has no headers; gcc's serve as well.
use_pypi_libclang() {
    export LIBCLANG_PATH="$cache/libclang/clang/native"
    BINDGEN_EXTRA_CLANG_ARGS="-isystem $(gcc -print-file-name=include)"
    export BINDGEN_EXTRA_CLANG_ARGS
}

# A Python with the packages of a requirements file, for the tests with real SDKs: METRONOME_PYTHON.
# Fails, with a reason, where there is none to be had.
setup_python() {
    local requirements="$1" venv="$cache/python"
    if [[ ! -x "$venv/bin/pip" ]]; then
        python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv || {
            say "no Python environment: install python3-venv"
            return 1
        }
        say "making a Python environment in $venv"
        python3 -m venv "$venv" || return 1
    fi
    if ! cmp --silent "$requirements" "$venv/requirements.txt"; then
        say "installing from PyPI into $venv: $(grep -v '^#' "$requirements" | paste -sd' ')"
        "$venv/bin/pip" install "${pip_options[@]}" -r "$requirements" || return 1
        cp "$requirements" "$venv/requirements.txt"
    fi
    export METRONOME_PYTHON="$venv/bin/python"
}

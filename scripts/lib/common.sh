# shellcheck shell=bash
# What every script here needs: messages, packages, cargo. Sourced, not run.

# The top of the source tree.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export ROOT

if [[ -t 1 ]]; then
    BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m'
else
    BOLD='' RED='' GREEN='' PLAIN=''
fi

# A heading.
section() { printf '\n%s== %s%s\n' "$BOLD" "$*" "$PLAIN"; }
# A line that something is under way or was found.
say() { printf '   %s\n' "$*"; }
# Something held.
good() { printf '   %sok%s    %s\n' "$GREEN" "$PLAIN" "$*"; }
# Something did not hold.
bad() { printf '   %sFAIL%s  %s\n' "$RED" "$PLAIN" "$*"; }
# The end, because of what the caller or the machine lacks.
die() {
    printf '%s%s: %s%s\n' "$RED" "${0##*/}" "$*" "$PLAIN" >&2
    exit 1
}

need_root() {
    [[ $EUID -eq 0 ]] || die "network namespaces need root: run 'sudo $0 $*'"
}

# has_line PATTERN...: whether what is piped into it has such a line; with flags of grep. All of it is read: what 'grep -q' leaves
# unread ends who writes it, and with pipefail that is a no.
has_line() { grep "$@" | cat >/dev/null; }

# have THING: whether a command is there; or a library, lib….so.N; or a module of Python, python3-NAME.
have() {
    case $1 in
    lib*.so*) ldconfig -p | has_line -F "$1" ;;
    python3-*) /usr/bin/python3 -I -c "import ${1#python3-}" 2>/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# ensure THING=PACKAGE...: installs the packages whose thing (see have) is not there. What cannot be had is
# listed in MISSING, one 'thing (package)' each, and the answer is 1.
MISSING=()
ensure() {
    local pair packages=()
    for pair in "$@"; do
        have "${pair%%=*}" || packages+=("${pair#*=}")
    done
    if ((${#packages[@]})); then
        install_packages "${packages[@]}" || true
    fi
    for pair in "$@"; do
        have "${pair%%=*}" || MISSING+=("${pair%%=*} (package ${pair#*=})")
    done
    ((${#MISSING[@]} == 0))
}

install_packages() {
    if ! command -v apt-get >/dev/null; then
        say "no apt-get on this machine: install by hand what provides $*"
        return 1
    fi
    if [[ $EUID -ne 0 ]]; then
        say "only root may install $*"
        return 1
    fi
    say "installing $*"
    local log
    log=$(mktemp)
    if apt_get install "$@" >"$log" 2>&1 ||
        { apt_get update >"$log" 2>&1 && apt_get install "$@" >"$log" 2>&1; }; then
        rm -f "$log"
    else
        say "apt-get could not install $*:"
        tail -n 5 "$log" | sed 's/^/      /'
        rm -f "$log"
        return 1
    fi
}

# unpack PACKAGE PATH: has PATH of a package in target/tools/PACKAGE (or in /, where it is installed): for a package whose
# installation would change how the machine works.
unpack() {
    local package=$1 path=$2 place=target/tools/$1
    [[ ! -e /$path && ! -e $place/$path ]] || return 0
    command -v apt-get >/dev/null || return 1
    local work
    work=$(mktemp -d)
    # As root it is apt's own user that writes there.
    chmod 777 "$work"
    if (cd "$work" && { apt-get download "$package" || { apt-get update && apt-get download "$package"; }; }) >/dev/null 2>&1 &&
        dpkg-deb --extract "$work"/*.deb "$work/files"; then
        mkdir -p target/tools
        rm -rf "$place"
        mv "$work/files" "$place"
    fi
    rm -rf "$work"
    [[ -e $place/$path ]]
}

apt_get() {
    # Without policy-rc.d a package would start its daemons on the host, where nobody wants them.
    local command=$1 policy=/usr/sbin/policy-rc.d made='' status=0
    shift
    if [[ $command == install && ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made=1
    fi
    if [[ $command == install ]]; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" || status=$?
    else
        apt-get "$command" "$@" || status=$?
    fi
    [[ -z $made ]] || rm -f "$policy"
    return "$status"
}

# Puts cargo on the PATH. sudo's secure_path leaves out the place where rustup puts it.
find_cargo() {
    local home
    if ! command -v cargo >/dev/null; then
        for home in "$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)" /root; do
            if [[ -x $home/.cargo/bin/cargo ]]; then
                PATH=$home/.cargo/bin:$PATH
                # Under sudo HOME is root's, and rustup would look for its toolchains there.
                export RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup} PATH
                break
            fi
        done
    fi
    command -v cargo >/dev/null ||
        die "no cargo found: install a Rust toolchain (https://rustup.rs), 1.95 or later"
}

# build_lanmesh PROFILE: builds the binary and sets LANMESH to its path.
build_lanmesh() {
    local profile=$1 target
    find_cargo
    say "building lanmesh ($profile)"
    (cd "$ROOT" && cargo build --quiet --locked --profile "$profile" --bin lanmesh) ||
        die "lanmesh does not build"
    target=$(cd "$ROOT" && cargo metadata --locked --format-version 1 --no-deps |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    LANMESH=$target/${profile/#dev/debug}/lanmesh
    export LANMESH
}

# until_ok SECONDS COMMAND...: repeats the command until it succeeds; 1 when the time is up. On a machine that is so many
# times slower (LANMESH_TEST_SLOW) that takes as many times longer.
until_ok() {
    local end=$((SECONDS + $1 * ${LANMESH_TEST_SLOW:-1}))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

# Whether process PID is still the one that started at START (see started_at): a pid may be used again.
started_at() { cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null; }

# end_process PID START [SIGNAL]: the signal (TERM), then KILL when it does not go.
end_process() {
    local pid=$1 start=$2 signal=${3:-TERM}
    [[ -n $start && $(started_at "$pid") == "$start" ]] || return 0
    kill -"$signal" "$pid" 2>/dev/null || return 0
    until_ok 5 process_gone "$pid" "$start" || kill -KILL "$pid" 2>/dev/null || true
    until_ok 5 process_gone "$pid" "$start" || say "process $pid does not end"
}

process_gone() {
    local state
    [[ $(started_at "$1") == "$2" ]] || return 0
    state=$(cut -d' ' -f3 "/proc/$1/stat" 2>/dev/null) || return 0
    [[ $state == Z ]]
}

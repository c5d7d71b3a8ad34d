# shellcheck shell=bash
# What the guides print, typed on machines. Sourced after lib/machines.sh; tests/printed/mod.rs has the list of who types what.

# printed PAGE BEGINS: the block of code of docs/guides/PAGE.md whose first line begins so.
printed() {
    local text
    text=$(BEGINS=$2 awk '
        !/^    / { inside = 0; next }
        !inside { taken = !found && index(substr($0, 5), ENVIRON["BEGINS"]) == 1; found = found || taken; inside = 1 }
        taken { print substr($0, 5) }' "$ROOT/docs/guides/$1.md")
    [[ -n $text ]] || die "docs/guides/$1.md has no block that begins with '$2'"
    printf '%s\n' "$text"
}

# types NODE PAGE BEGINS [SED...]: that block, as somebody types it there who has replaced in it what only he knows.
types() {
    local expression edits=()
    for expression in "${@:4}"; do edits+=(-e "$expression"); done
    on "$1" /bin/bash -ec "$(printed "$2" "$3" | sed "${edits[@]:---expression=}")"
}

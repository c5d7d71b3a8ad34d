# shellcheck shell=bash
# What suites on machines have in common: what they print of each thing, what they count, and what they leave up. Sourced after
# lib/machines.sh by the suites in tests/ that set KEEP.

PASSED=0 FAILED=0

# claimed TEXT BEGUN STATUS SAID: what is printed of it, and counted.
claimed() {
    if (($3 == 0)); then
        good "$1 ($((SECONDS - $2)) s)"
        PASSED=$((PASSED + 1))
    else
        bad "$1"
        tail -n 5 <<<"$4" | sed 's/^/        /'
        FAILED=$((FAILED + 1))
    fi
}

# holds TEXT COMMAND...: one thing that is to be shown, within 30 s (or WITHIN).
holds() {
    local text=$1 begun=$SECONDS said='' status=0
    shift
    if ! until_ok "${WITHIN:-30}" "$@" >/dev/null 2>&1; then
        status=1
        said=$("$@" 2>&1) || true
    fi
    claimed "$text" "$begun" "$status" "$said"
}

# shows TEXT COMMAND...: the same at the first try: what is done twice is another thing.
shows() {
    local text=$1 begun=$SECONDS said status=0
    shift
    said=$("$@" 2>&1) || status=$?
    claimed "$text" "$begun" "$status" "$said"
}

# finish: ends the machines, but where something failed and is to be looked at.
finish() {
    if ((KEEP && FAILED)); then
        say "the machines are up: nsenter -t \$(cat $LAB_DIR/n1/pid) --all --root --wdns=/; end them with kill -KILL of these"
        return
    fi
    lab_end
}

# result: the last line, and the status of the suite.
result() {
    printf '%s passed, %s failed\n' "$PASSED" "$FAILED"
    ((FAILED == 0 && PASSED > 0))
}

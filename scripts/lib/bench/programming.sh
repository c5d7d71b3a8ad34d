# shellcheck shell=bash
# A part of scripts/bench: 10,000 remote endpoints in the kernel, against bridge -batch + ip -batch.

title() { echo "Programming remote endpoints"; }

needs() {
    ensure ip=iproute2 || die "missing: ${MISSING[*]}"
    cargo build --quiet --locked --release --example program
}

versions() { printf '; %s' "$(ip -V | cut -d, -f2 | tr -d ' ')"; }

measure() {
    cargo run --quiet --locked --release --example program >"$WORK/program" || MISSED=$((MISSED + 1))
    sed 's/^/   /' "$WORK/program"
    promise "ratio" "$(awk '$1 == "ratio" { print $2 }' "$WORK/program")" 1.5
    promise "growth" "$(awk '$1 == "growth" { print $2 }' "$WORK/program")" 2
}

report() {
    cat <<PAGE
\`examples/program.rs\`: FDB entries and neighbours of 10,000 remote endpoints in a fresh network, against
\`bridge -batch\` and \`ip -batch\` with the same entries. At most 1.5 times their time is promised. One that comes is
written without a look at the others: beside 10,000 it may take at most twice what it takes beside 10.

\`\`\`
$(cat "$WORK/program")
\`\`\`
PAGE
}

# shellcheck shell=bash
# A part of scripts/bench: one address of a block of 65,536, against how full it is.

title() { echo "The cost of an address"; }

needs() { cargo bench --quiet --locked -p lanmesh-ipam --bench fill --no-run; }

measure() {
    cargo bench --quiet --locked -p lanmesh-ipam --bench fill -- --warm-up-time 0.5 --measurement-time 2 \
        >"$WORK/fill.log" 2>&1 || { tail -n 5 "$WORK/fill.log"; die "the benchmark does not run"; }
    # Criterion prints 'NAME  time:   [LOW UNIT MEDIAN UNIT HIGH UNIT]', a long name on a line of its own.
    awk '/time:/ { line = $0; sub(/time:.*/, "", line); gsub(/ /, "", line); if (line == "") line = name;
                   match($0, /\[.*\]/); split(substr($0, RSTART + 1, RLENGTH - 2), t, " ");
                   printf "| %s | %s %s |\n", line, t[3], t[4] }
         { name = $1 }' "$WORK/fill.log" >"$WORK/fill"
    sed 's/^/   /' "$WORK/fill"
}

report() {
    cat <<PAGE
\`ipam/benches/fill.rs\`: one allocation in a block of 65,536 addresses, against how full the block is. \`fresh\`: the free
addresses were never used; \`worn\`: all of them were, so the one that was freed longest ago is taken, and an iteration
also gives it back; \`refused\`: none is free.

| benchmark | time of one |
|---|---|
$(cat "$WORK/fill")
PAGE
}

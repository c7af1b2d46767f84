#!/usr/bin/env bash
# Runs the targets of fuzz/ one after the other, MINUTES each: all, or those that TARGETS names. With --if-there a missing
# cargo-fuzz is no error.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "no cargo-fuzz: nothing was fuzzed (cargo install cargo-fuzz)"
    if [ "${1:-}" = --if-there ]; then exit 0; else exit 1; fi
fi
nice -n 19 cargo test --quiet --test fuzz_cases -- --ignored --exact corpus
# The sanitizers' switches of a stable compiler.
export RUSTC_BOOTSTRAP=1
failed=
for target in ${TARGETS:-$(cargo fuzz list)}; do
    case "$target" in
        jpeg_2000) sanitizer=address ;;
        *) sanitizer=none ;;
    esac
    known=()
    if [ -d "testdata/fuzz/$target" ]; then known=("testdata/fuzz/$target"); fi
    echo "== $target"
    nice -n 19 cargo fuzz run --sanitizer "$sanitizer" "$target" "fuzz/corpus/$target" "${known[@]}" -- \
        -max_total_time=$((${MINUTES:-10} * 60)) -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        || failed="$failed $target"
done
if [ -n "$failed" ]; then
    echo "found something:$failed; see fuzz/artifacts/, and fuzz/README.md for where it goes" >&2
    exit 1
fi

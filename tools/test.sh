#!/usr/bin/env bash
# Runs every test program, some at a time: they mostly wait for disks, clocks and other programs. The output of each is
# shown when it fails. TOGETHER=n says how many, ONLY=REGEX which programs; arguments go to the programs.
#
# A program that failed beside others is run once more, alone: a machine that others use can be too slow for any patience.
# It is named at the end all the same, with what it said the first time above.
set -euo pipefail
cd "$(dirname "$0")/.."

work=target/test-runs
rm -rf "$work"
mkdir -p "$work"
cargo test --no-run --message-format=json-render-diagnostics |
    grep -o '"executable":"[^"]*"' | cut -d '"' -f 4 | grep /deps/ | grep -E "/(${ONLY:-.*})-[0-9a-f]+$" | sort -u >"$work/programs"
[ -s "$work/programs" ] || { echo "no test programs" >&2; exit 1; }

# What freezes and fills disks has the machine to itself; then the longest first, so that none is alone at the end.
alone='fault_campaign'
longest='disk_replace|browser|soak|kura|api|power_cut_model|notices|commitment|amend|amend_bytes|corrections_cut|audit_trail|power_cut'
{
    grep -E "/($longest)-[0-9a-f]+$" "$work/programs" || :
    grep -vE "/($alone|$longest)-[0-9a-f]+$" "$work/programs" || :
} >"$work/order"

one() { # program, arguments...
    local program=$1 name begun
    shift
    name=$(basename "$program")
    begun=$SECONDS
    if "$program" "$@" >"$work/$name.txt" 2>&1; then
        echo "$(((SECONDS - begun))) s  $name: $(grep -ho '[0-9]* passed' "$work/$name.txt" | tail -1)"
    else
        echo "$name" >>"$work/failed"
        echo "$((SECONDS - begun)) s  $name: FAILED"
        sed "s/^/$name: /" "$work/$name.txt"
    fi
}
export -f one
export work
for program in $(grep -E "/($alone)-[0-9a-f]+$" "$work/programs"); do
    one "$program" "$@"
done
xargs -a "$work/order" -P "${TOGETHER:-4}" -I '{}' bash -c 'one "$@"' one '{}' "$@"

status=0
if [ -s "$work/failed" ]; then
    while read -r name; do
        echo "again, alone: $name"
        if "$(grep "/$name$" "$work/programs")" "$@" >"$work/$name.again.txt" 2>&1; then
            echo "$name" >>"$work/second"
        else
            status=1
            sed "s/^/$name: /" "$work/$name.again.txt"
        fi
    done <"$work/failed"
fi
if [ -s "$work/second" ]; then
    echo "passed only when they were run alone, what they said before is above: $(tr '\n' ' ' <"$work/second")" >&2
fi
if [ "$status" != 0 ]; then
    echo "tests failed" >&2
fi
exit "$status"

#!/usr/bin/env bash
# Looks at what is depended on (deny.toml). With --if-there a missing cargo-deny is no error.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    if [ "${1:-}" = --if-there ]; then
        echo "no cargo-deny: licences and sources were not looked at (make audit)"
        exit 0
    fi
    nice cargo install --locked cargo-deny
fi
for manifest in Cargo.toml fuzz/Cargo.toml; do
    cargo deny --manifest-path "$manifest" --config "$PWD/deny.toml" check bans licenses sources
done
# The advisories are kept in a repository elsewhere.
said=$(mktemp)
trap 'rm -f "$said"' EXIT
if cargo deny check advisories 2>"$said"; then
    cat "$said" >&2
elif grep -Eqi 'failed to fetch advisory database|unable to fetch|failed to (clone|open).*advisor' "$said"; then
    echo "the advisory database could not be fetched: known vulnerabilities were NOT looked for" >&2
else
    cat "$said" >&2
    exit 1
fi

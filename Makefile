# make test is what must pass before a change is taken; it fetches what it needs.

export CARGO_TERM_COLOR ?= auto

.PHONY: test test-long tools fmt lint doc bench static deb

test: tools lint
	cargo test
	$(MAKE) --no-print-directory doc

# Long campaigns: more rounds of crashes and power cuts. KURA_SEED=n repeats a run.
test-long: tools
	KURA_LONG=1 cargo test --release -- --nocapture --test-threads=2

# DCMTK, dicom3tools, Chromium, a virtual environment and axe-core under target, installed only where missing.
tools:
	@tools/install.sh

fmt:
	cargo fmt

lint:
	cargo fmt --check
	cargo clippy --quiet --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps

bench:
	cargo bench

# One file that needs no library of the system; glibc's own warning about names of hosts does not concern who has none.
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
static:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --target $(TARGET)
	@ldd target/$(TARGET)/release/kura 2>&1 | grep -Eq 'statically linked|not a dynamic executable'
	@echo target/$(TARGET)/release/kura

deb:
	cargo build --release
	packaging/build-deb.sh

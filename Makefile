# make test is what must pass before a change is taken; it fetches what it needs.

export CARGO_TERM_COLOR ?= auto

.PHONY: test test-long tools fmt lint doc bench bench-peers static deb fuzz audit

test: tools lint
	tools/test.sh
	$(MAKE) --no-print-directory doc

# Long campaigns: more rounds of crashes and power cuts. KURA_SEED=n repeats a run.
test-long: tools
	KURA_LONG=1 cargo test --release -- --nocapture --test-threads=2
	cargo bench --bench instructions
	tools/fuzz.sh --if-there

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

# Kura beside other archives; in a network of its own, as some of them listen on all addresses.
# make bench-peers ARGUMENTS="--repetitions 5"
bench-peers:
	@tools/install.sh --peers
	cargo bench --quiet --no-run --bench peers
	unshare $(if $(filter 0,$(shell id -u)),,--map-root-user) --net sh -c \
		'ip link set lo up && exec cargo bench --quiet --offline --bench peers -- $(ARGUMENTS)'

# One file that needs no library of the system; glibc's own warning about names of hosts does not concern who has none.
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
static:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --target $(TARGET)
	@ldd target/$(TARGET)/release/kura 2>&1 | grep -Eq 'statically linked|not a dynamic executable'
	@echo target/$(TARGET)/release/kura

# Each target so long; fuzz/README.md says what each tries. KURA_SAMPLES names a folder of DICOM files to begin with.
MINUTES ?= 10
export MINUTES TARGETS
fuzz:
	@tools/fuzz.sh

# Licences, advisories, sources and duplicates of what is depended on: deny.toml.
audit:
	@tools/audit.sh

deb:
	cargo build --release
	packaging/build-deb.sh

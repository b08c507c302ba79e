# The front door; `make` alone lists what there is.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# One after the other: nearly everything here is cargo, which uses all cores by itself.
.NOTPARALLEL:

# Devices in the benchmark: make bench-smoke N=5000
N ?= 1000
# Most tests of the operator wait for something most of the time.
TEST_THREADS := $(or $(RUST_TEST_THREADS),$(shell echo $$((3 * $$(getconf _NPROCESSORS_ONLN)))))
CACHE := $(or $(DPS_DEV_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dps-operator)
TARGET := $(or $(CARGO_TARGET_DIR),target)
# What dev/generate writes; a folder has nothing else in it.
GENERATED := crds docs/reference.md docs/flags.md charts/dps-operator/files/crds charts/dps-operator/README.md

.PHONY: help
help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: need-cluster ## See the operator provision five devices, all on this machine (under a minute once built)
	@cargo run -p dps-dev -- demo

.PHONY: e2e
e2e: need-cargo ## Install the chart on a real node, upgrade it, kill it, remove it (two minutes once built; needs root)
	@cargo run -p dps-dev -- e2e

.PHONY: test
test: need-cluster need-node need-python ## Run all tests: the workspace's, then other people's clients against the simulator and what is in Secrets
	dev/build-control-plane
	for tool in helm kstatus argocd-lua cert-manager; do dev/build-tool $$tool; done
	@# The tests of the plugin run it; without this they would compile it while others look at a clock.
	cargo build --workspace --bin kubectl-dps
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --workspace --no-fail-fast
	simulator/tests/node/run.sh $(TARGET)/debug/dps-simulator
	simulator/tests/java/run.sh $(TARGET)/debug/dps-simulator
	tests/formats/run.sh $(TARGET)/tmp/formats.json

# make test runs a part of them, with faults that last seconds.
.PHONY: faults
faults: need-cluster need-python ## Run all fault tests, with faults that last as long as they may; one part: make faults ONLY="K5 R10"
	dev/build-control-plane
	for tool in kstatus argocd-lua cert-manager; do dev/build-tool $$tool; done
	dev/faults $(ONLY)

.PHONY: soak
soak: need-cluster ## Edit a fleet and let everything go wrong at once: make soak MINUTES=30 SEED=7 DEVICES=500
	dev/build-control-plane
	MINUTES=$(or $(MINUTES),10) $(if $(SEED),SEED=$(SEED)) $(if $(DEVICES),DEVICES=$(DEVICES)) \
	    cargo test --test operator -- --nocapture under_fire::soak

# One target or more: make fuzz SECONDS=600 ONLY="device ca_bundle"
.PHONY: fuzz
fuzz: ## Fuzz what reads foreign bytes, each target for SECONDS (60): coverage-guided, on stable Rust
	dev/fuzz $(or $(SECONDS),60) $(ONLY)

# Breadth first, as far as the time suffices; then at random.
.PHONY: explore
explore: need-cargo ## Search for what leads two devices astray: make explore DEPTH=2 SECONDS=1200 RUNS=500 LENGTH=6 SEED=7
	EXPLORE_DEPTH=$(or $(DEPTH),2) EXPLORE_SECONDS=$(or $(SECONDS),1200) EXPLORE_RUNS=$(or $(RUNS),500) \
	    EXPLORE_LENGTH=$(or $(LENGTH),6) EXPLORE_SEED=$(or $(SEED),1) \
	    cargo test -p dps-operator --lib -- --nocapture engine::tests::explore

# Some of them try random values; the few of this run find what is plainly wrong, `make test` tries them all.
.PHONY: unit
unit: need-cargo ## Run the unit tests: seconds, and nothing but cargo
	PROPTEST_CASES=$(or $(PROPTEST_CASES),16) EXPLORE_SECONDS=$(or $(EXPLORE_SECONDS),2) \
	    cargo test --workspace --lib --bins

.PHONY: build
build: need-cargo ## Build the programs
	cargo build --workspace --bins

.PHONY: plugin
plugin: need-cargo ## Build kubectl-dps, the plugin for kubectl, and say where it is
	cargo build --release -p kubectl-dps
	@echo "Copy it into a folder of your PATH: $(abspath $(TARGET))/release/kubectl-dps"

.PHONY: up
up: need-cluster ## Start a Kubernetes control plane with the CRDs and keep it until Ctrl-C
	@cargo run -p dps-dev -- up --crds crds

.PHONY: generate
generate: need-cargo need-python ## Write the generated files: the CRDs, docs/reference.md, docs/flags.md, and what the chart has of them
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; dev/generate "$$fresh"; \
	for path in $(GENERATED); do rm -rf "$$path"; cp -R "$$fresh/$$path" "$$path"; done

.PHONY: check-generated
check-generated: need-cargo need-python ## Check that the generated files are up to date
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; dev/generate "$$fresh"; stale=; \
	for path in $(GENERATED); do diff -ruN "$$path" "$$fresh/$$path" || stale=1; done; \
	[[ -z $$stale ]] || { echo "generated files are out of date: run make generate and commit it" >&2; exit 1; }; \
	echo "$(GENERATED): up to date"

.PHONY: fmt
fmt: need-cargo ## Format the Rust and Python code
	cargo fmt --all
	@dev/lint-scripts format

.PHONY: lint
lint: check-format clippy ## Check the format and run clippy, warnings denied

.PHONY: check-format
check-format: need-cargo
	cargo fmt --all -- --check

.PHONY: clippy
clippy: need-cargo
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: lint-scripts
lint-scripts: ## Lint scripts, Dockerfiles and YAML (seconds; the linters are installed outside the checkout on first use)
	@dev/lint-scripts

.PHONY: check-chart
check-chart: need-cluster need-chart ## Check the Helm chart: lint, refusals, alerts, and installed on a local control plane
	cargo build --workspace --bins
	tests/chart/run.sh $(TARGET)/debug

.PHONY: check-monitoring
check-monitoring: need-cluster need-chart ## Check metrics, alerts and dashboard: a Prometheus watches two operators while things go wrong (two minutes once built)
	cargo build --workspace --bins
	tests/monitoring/run.sh $(TARGET)/debug

.PHONY: check-docs
check-docs: need-cluster need-python ## Check the documentation: every link, and the commands of README and quick starts on a local control plane
	cargo build --workspace --bins
	tests/docs/run.sh $(TARGET)/debug

.PHONY: deny
deny: need-cargo ## Check the dependencies: licences, bans, sources (deny.toml)
	dev/cargo-deny check --hide-inclusion-graph bans licenses sources

.PHONY: ci
ci: ## Do what CI does
	.ci/run

.PHONY: bench-smoke
bench-smoke: need-cluster ## Measure N devices (default 1000) end to end: make bench-smoke N=5000
	cargo bench --bench smoke -- --devices $(N)

.PHONY: bench-fleet
bench-fleet: need-cluster ## The same, then a key rotation under a rate limit, and what trouble costs
	cargo bench --bench smoke -- --devices $(N) --rotate-at 1200 --storms

.PHONY: bench-states
bench-states: need-cluster ## What N devices cost in memory in each state: make bench-states N=10000
	cargo bench --bench smoke -- --states $(N)

.PHONY: bench-neighbours
bench-neighbours: need-cluster ## How long others take while something happens to a fleet of N devices
	cargo bench --bench smoke -- --neighbours $(N)

.PHONY: bench-certificates
bench-certificates: need-cluster ## What N devices cost by how they prove who they are: make bench-certificates N=10000 GROW_TO=50000
	cargo bench --bench smoke -- --certificates $(N) --grow-to $(or $(GROW_TO),0)

.PHONY: clean-cache
clean-cache: ## Remove what was compiled outside the checkout; it is compiled again when needed
	rm -rf "$(CACHE)"

.PHONY: need-cargo need-cluster need-node need-python need-chart
need-cargo:
	@dev/need cargo
need-cluster:
	@dev/need cargo go
need-node:
	@dev/need node npm curl openssl
need-python:
	@dev/need python3 venv
need-chart:
	@dev/need cargo go python3 curl

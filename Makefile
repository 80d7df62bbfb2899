# Every recipe works in a fresh clone: each calls `setup`, which installs what is missing.
#
# Demo, tests and CI share one dev profile and one build folder outside the clone, so that a machine
# compiles DataFusion once, for all clones. Set CARGO_TARGET_DIR to put it elsewhere.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/tidemark/target

TOOLS := $(HOME)/.cache/tidemark/tools/bin
DEMO_SECONDS ?= 60
IMAGE ?= tidemark
# Empty, or --network=host where containers reach package sources only over the host's network.
DOCKER_FLAGS ?=

# Words after `make scenario` are its arguments, not goals: make scenario F1 F4
ifeq (scenario,$(firstword $(MAKECMDGOALS)))
SCENARIOS := $(wordlist 2,$(words $(MAKECMDGOALS)),$(MAKECMDGOALS))
ifneq (,$(SCENARIOS))
.PHONY: $(SCENARIOS)
$(SCENARIOS): scenario ; @:
endif
endif
# LIMITS="p50=200 queue=5": what loads must keep, docs/SCENARIOS.md.
# auto (containers where Docker is), compose or local; FULL=1 for the long forms; JSON=FILE for figures of loads;
# RELEASE=1 for a release build, which takes half an hour the first time.
STACK ?= auto
FULL ?=
RELEASE ?=
SEED ?= 1
CHAOS_SECONDS ?= 900
LIMITS ?=
PROGRAM = $(CARGO_TARGET_DIR)/$(if $(RELEASE),release,debug)/tidemark
RUN_SCENARIOS = python3 tests/scenarios --program "$(PROGRAM)" --stack $(STACK) $(if $(FULL),--full) $(if $(JSON),--json "$(JSON)") $(foreach limit,$(LIMITS),--limit $(limit))

# How long `make fuzz` runs each of its targets.
FUZZ_SECONDS ?= 600
FUZZ_TARGETS := events decimals times xml smf

.PHONY: help setup setup-check build demo demo-psql clean-demo test scenario scenarios chaos fuzz fuzz-sql check advisories \
	bench image

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{ printf "make %-11s %s\n", $$1, $$2 }'

setup: ## Install what building and testing need (safe to repeat; the other recipes call it)
	@.ci/setup

setup-check:
	@.ci/setup --check

build: setup ## Compile with the dev profile (RELEASE=1: with the release profile)
	cargo build --locked --workspace $(if $(RELEASE),--release)

demo: build ## Run broker, generator, processor and PostgreSQL here for DEMO_SECONDS (60)
	"$(PROGRAM)" demo --seconds $(DEMO_SECONDS)

demo-psql: build ## psql on the database that the last demo left
	"$(PROGRAM)" demo --psql

clean-demo: ## Remove what the demo left
	rm -rf "$${TMPDIR:-/tmp}/tidemark-demo"

test: setup ## Run all tests; those that fail hide no others
	cargo build --locked --workspace
	@folder=$$(mktemp -d); \
	if mount -t tmpfs -o size=1M tidemark-test "$$folder" 2> /dev/null; then umount "$$folder"; else \
		echo "make test: SKIPPED: 3 tests of full disks, because this user may not mount a file system"; \
		export TIDEMARK_SKIP=disks; \
	fi; rmdir "$$folder"; docs=failed; \
	cargo test --locked --workspace --no-fail-fast --doc && docs=passed; \
	cargo test --locked --workspace --no-fail-fast --lib --bins --tests && [ $$docs = passed ]

scenario: build ## Run failure scenarios by name, as in `make scenario F1 F4`: docs/SCENARIOS.md
	@$(RUN_SCENARIOS) $(or $(SCENARIOS),--list)

scenarios: build ## Run all failure scenarios, in their short forms unless FULL=1
	@$(RUN_SCENARIOS)

chaos: build ## All faults at random for CHAOS_SECONDS (900), by SEED
	@$(RUN_SCENARIOS) F15 --seed $(SEED) --seconds $(CHAOS_SECONDS)

fuzz: setup ## Any bytes into decoders and the broker's wire format, FUZZ_SECONDS (600) each
	cp Cargo.lock tests/fuzz/Cargo.lock
	RUSTC_WRAPPER="$(CURDIR)/tests/fuzz/rustc-coverage" cargo build --manifest-path tests/fuzz/Cargo.toml
	for target in $(FUZZ_TARGETS); do \
		mkdir -p "$(CARGO_TARGET_DIR)/fuzz/$$target"; \
		LD_LIBRARY_PATH="$(CURDIR)/vendor/solclient/lib" "$(CARGO_TARGET_DIR)/debug/$$target" \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 \
			-artifact_prefix=tests/fuzz/corpus/$$target/ \
			"$(CARGO_TARGET_DIR)/fuzz/$$target" tests/fuzz/corpus/$$target || exit 1; \
	done

fuzz-sql: setup ## Random streams over the SQL corpus, against the SQL run from scratch, until one fails
	TIDEMARK_FUZZ_SECONDS=$${TIDEMARK_FUZZ_SECONDS:-1000000000} \
		cargo test --locked --test sql every_result -- --nocapture

check: setup-check ## Check formatting, lints, licences, sources, alert rules and the shape of the code
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	PATH="$(TOOLS):$$PATH" cargo deny --log-level error check licenses bans sources
	PATH="$(TOOLS):$$PATH" promtool test rules tests/alerts.yml
	cargo test --locked --test tidy

advisories: setup-check ## Look dependencies up in the RustSec database, which is fetched from the internet
	PATH="$(TOOLS):$$PATH" cargo deny --log-level error check advisories

bench: setup ## Measure, with a release build (half an hour, the first time)
	cargo bench --locked --bench decode
	cargo bench --locked --bench sql
	cargo bench --locked --bench xml
	cargo bench --locked --bench postgres
	cargo build --locked --workspace --release
	"$(CARGO_TARGET_DIR)/release/tidemark" bench

image: ## Build the container images IMAGE (tidemark) and IMAGE-dev, with a release build in them
	docker build $(DOCKER_FLAGS) -f docker/Dockerfile -t $(IMAGE) .
	docker build $(DOCKER_FLAGS) -f docker/Dockerfile --target dev -t $(IMAGE)-dev .

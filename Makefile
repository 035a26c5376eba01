# What is run by hand and by CI: the local stack, checks, tests, measurements. `make help` says what there is.

LOCAL := cargo run --quiet --release --package local --

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## the whole system on this machine; `ready` when it is, Ctrl-C stops it; TICKETING_PORT_OFFSET=1000 moves its ports
	@# Stops cleanly even if make itself is killed.
	@setpriv --pdeathsig TERM -- cargo run --release --package local -- run

.PHONY: token
token: ## a JWT for USER=alice [ROLES=operator], valid for a day
ifneq ($(origin USER),command line) # every environment has a USER: whoever is logged in isn't meant
	@echo "for whom? make -s token USER=alice [ROLES=operator]" >&2; exit 2
else
	@$(LOCAL) token --user "$$USER" $(if $(ROLES),--role "$$ROLES")
endif

.PHONY: clean-local
clean-local: ## drops the local stack's state: databases, topics, keys, logs
	@$(LOCAL) clean

.PHONY: tools
tools: ## fetches what the stack and the tests need, and prints where it is
	@$(LOCAL) tools

.PHONY: jaeger
jaeger: ## builds Jaeger, once, in three to ten minutes: from then on `make run` starts it
	@$(LOCAL) tools jaeger

.PHONY: prometheus
prometheus: ## fetches Prometheus, once: from then on `make run` starts it
	@$(LOCAL) tools prometheus

.PHONY: openapi
openapi: ## writes proto/openapi.yaml, the contract in JSON's terms, from the protos
	@document=$$(mktemp) && cargo run --quiet --package gateway -- openapi > "$$document" && cp "$$document" proto/openapi.yaml && rm "$$document"

BUF = $$(cargo run --quiet --package local -- tools buf | sed 's/^Buf: //')

# Everything that tests run beside: a throwaway Postgres and Kafka, started once for all of them.
WITH_SERVERS := cargo run --quiet --package local -- with-servers --room 5 --

.PHONY: check
check: ## formatting, clippy with warnings denied, documentation, protos
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings
	cargo clippy --workspace --all-targets --locked --features engine-tests/jaeger-agent -- --deny warnings
	@# A workspace of its own, whose lock has to follow this one's.
	cargo update --quiet --workspace --locked --manifest-path fuzz/Cargo.toml
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked --document-private-items --quiet
	"$(BUF)" lint proto
	"$(BUF)" breaking proto --against proto/baseline.binpb

# The exporter that is off by default, against the same Jaeger. Of the workspace, so that all else is built as it was.
AGENT_TEST := cargo test --workspace --locked --features engine-tests/jaeger-agent --test jaeger_agent

.PHONY: test
test: ## every test, on servers of its own
	cargo build --workspace --bins --locked
	cargo test --workspace --locked --no-run
	@# Nothing is fetched or built beside tests.
	cargo run --quiet --package local -- tools
	@# Most tests wait most of the time: more of them at once than there are cores.
	RUST_TEST_THREADS=6 $(WITH_SERVERS) cargo test --workspace --locked
	$(AGENT_TEST)

.PHONY: test-fast
test-fast: ## what needs no servers, in seconds: the rules, the choreography, the engine's pure parts
	cargo test --locked --package shared --package tickets --package orders --package expiration --package choreography --package gateway --package audit --package inputs
	cargo test --locked --package payments --lib --test domain

CARGO_FUZZ_VERSION := 0.13.1
CARGO_FUZZ := $(or $(TICKETING_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ticketing-local)/cargo-fuzz-$(CARGO_FUZZ_VERSION)

$(CARGO_FUZZ)/bin/cargo-fuzz:
	cargo install cargo-fuzz --locked --version $(CARGO_FUZZ_VERSION) --root $(CARGO_FUZZ)

.PHONY: fuzz
fuzz: $(CARGO_FUZZ)/bin/cargo-fuzz ## what strangers' bytes go through, a minute a target; SECONDS_EACH=60, TARGETS="events tokens"
	@# Sanitizers need a nightly compiler; without them stable does, and safe Rust has its own checks.
	for target in $(or $(TARGETS),$$(ls fuzz/seeds)); do \
		mkdir -p fuzz/corpus/$$target && \
		"$(CARGO_FUZZ)/bin/cargo-fuzz" run --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(or $(SECONDS_EACH),60) -max_len=4096 -timeout=10 -print_final_stats=1 || exit 1; \
	done

.PHONY: audit
audit: ## looks over what `make run` runs, and changes nothing: a line a violation, exit status 1 if there is any; AUDIT="--since ID"
	@cargo run --quiet --release --package audit -- $(AUDIT)

.PHONY: kill-and-audit
kill-and-audit: ## 300 orders, paid or not, while services, Postgres, Kafka and the provider are killed at random, then an audit from outside; ORDERS=300 KILLS=12
	cargo build --workspace --bins --locked
	cargo run --quiet --package stories --bin kill-and-audit -- \
		--orders $(or $(ORDERS),300) --kills $(or $(KILLS),12) $(if $(SEED),--seed $(SEED))

# What measures and what is measured, built alike.
BENCH := cargo build --profile dist --locked $(addprefix --package ,tickets orders payments expiration gateway sandbox bench) --bins && target/dist/bench

.PHONY: bench
bench: ## every ratio against its yardstick, in more than an hour, to bench/report; QUICK=1, ONLY=R1,R6, OUT=dir
	$(BENCH) report $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(if $(OUT),--out $(OUT))

# The local stack, as the README and CI use it. `make help` says what there is.

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
	@$(LOCAL) token --user "$$USER" --role "$$ROLES"
endif

.PHONY: clean-local
clean-local: ## drops the local stack's state: databases, topics, keys, logs
	@$(LOCAL) clean

.PHONY: tools
tools: ## fetches what the stack and the tests need, and prints where it is
	@$(LOCAL) tools

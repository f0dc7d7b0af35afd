# Targets: run, test, race, ledger, timed, fuzz, lint, bench, compare. Only Go is needed for `run`.
GO       ?= go
FUZZTIME ?= 60s
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2

# The comparison with other brokers takes a quarter of an hour on two processors; its results go to COMPARE_DIR.
COMPARE_DIR   ?= /tmp/noctule-compare
COMPARE_FLAGS ?= --duration 1500ms --rounds 3 --budget 12m --idle 5000

.PHONY: run test race ledger timed fuzz lint bench compare

run:
	$(GO) run ./cmd/noctule -c deploy/quickstart.conf

test:
	.ci/install
	$(GO) vet ./...
	$(GO) test ./...

ledger:
	NOCTULE_LEDGER_ROUNDS=200 $(GO) test -count 1 -run TestLedger -v ./cmd/noctule

race:
	$(GO) test -race -tags invariants ./...

timed:
	NOCTULE_TIMED=1 $(GO) test -count 1 -run Linear -v ./broker

fuzz:
	.ci/fuzz $(FUZZTIME)

lint:
	GOLANGCI_LINT_CACHE=$$(mktemp -d) $(GO) run $(LINT) run --allow-parallel-runners ./...  # its cache mixes up checkouts

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

compare:
	mkdir -p $(COMPARE_DIR)/bin
	$(GO) build -o $(COMPARE_DIR)/bin ./cmd/noctule ./cmd/noctule-bench
	path=$$(GO=$(GO) bench/peers/install.sh $(COMPARE_DIR)/bin) && PATH=$$path noctule-bench compare $(COMPARE_FLAGS) \
		--json $(COMPARE_DIR)/compare.json --markdown $(COMPARE_DIR)/compare.md --html $(COMPARE_DIR)/compare.html

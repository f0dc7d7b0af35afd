# Targets: run, test, race, fuzz, lint, bench. Only Go is needed for `run`.
GO       ?= go
FUZZTIME ?= 60s
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2

.PHONY: run test race fuzz lint bench

run:
	$(GO) run ./cmd/noctule -c deploy/quickstart.conf

test:
	.ci/install
	$(GO) vet ./...
	$(GO) test ./...

race:
	$(GO) test -race -tags invariants ./...

fuzz:
	.ci/fuzz $(FUZZTIME)

lint:
	GOLANGCI_LINT_CACHE=$$(mktemp -d) $(GO) run $(LINT) run --allow-parallel-runners ./...  # its cache mixes up checkouts

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

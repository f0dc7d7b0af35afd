# Targets: run, build, dist, deb, test, test-deps, race, ledger, search, mutations, timed, fuzz, lint, bench, compare.
# Only Go is needed for `run`, `build` and `dist`.
GO       ?= go
FUZZTIME ?= 60s
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2

# The comparison with other brokers takes a quarter of an hour on two processors; its results go to COMPARE_DIR.
COMPARE_DIR   ?= /tmp/noctule-compare
COMPARE_FLAGS ?= --duration 1500ms --rounds 3 --budget 12m --idle 5000

# What is released: static programs for Linux, a package for Debian made by nfpm. Who builds from source without a
# repository may say VERSION=1.2.3 COMMIT=0123456789ab.
NFPM    := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
VERSION := $(shell sed -n 's/^const Release = "\(.*\)"/\1/p' internal/version/version.go)
COMMIT  := $(shell git describe --always --abbrev=12 --exclude '*' --dirty 2>/dev/null)
LDFLAGS := -s -w -X noctule/internal/version.linked=$(VERSION) -X noctule/internal/version.commit=$(COMMIT)
STATIC   = CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)"

.PHONY: build dist deb run test test-deps race ledger search mutations timed fuzz lint bench compare

run:
	$(GO) run ./cmd/noctule -c deploy/quickstart.conf

build:
	mkdir -p bin
	$(STATIC) -o bin/ ./cmd/noctule ./cmd/noctule-bench

dist:
	rm -rf dist && mkdir dist
	for arch in amd64 arm64; do \
	  mkdir -p dist/linux-$$arch && \
	  GOOS=linux GOARCH=$$arch $(STATIC) -o dist/linux-$$arch/ ./cmd/noctule ./cmd/noctule-bench && \
	  cp LICENSE README.md CHANGELOG.md deploy/noctule.service deploy/mosquitto.conf dist/linux-$$arch/ && \
	  tar -C dist --transform "s|^linux-$$arch|noctule-$(VERSION)-linux-$$arch|" --owner 0 --group 0 \
	    -czf dist/noctule-$(VERSION)-linux-$$arch.tar.gz linux-$$arch || exit 1; \
	done
	cd dist && sha256sum *.tar.gz >SHA256SUMS

deb: dist
	for arch in amd64 arm64; do \
	  ARCH=$$arch VERSION=$(VERSION) $(GO) run $(NFPM) package -f deploy/deb/nfpm.yaml -p deb -t dist/ || exit 1; \
	done
	cd dist && sha256sum *.tar.gz *.deb >SHA256SUMS

test:
	GO=$(GO) .ci/test

test-deps:
	.ci/install

ledger:
	NOCTULE_LEDGER_ROUNDS=200 $(GO) test -count 1 -run TestLedger -v ./cmd/noctule

# Walks through what can happen to a session as far as SEARCHTIME allows on one processor, and through all of a larger
# model of retained messages.
SEARCHTIME ?= 10m
search:
	NOCTULE_SEARCH=$(SEARCHTIME) $(GO) test -count 1 -timeout 0 -run '^TestSearch' -v ./broker/session ./broker

# Plants faults in the session and sees that the search finds each.
mutations:
	NOCTULE_MUTATIONS=1 $(GO) test -count 1 -run Mutations -v ./broker/session

race:
	$(GO) test -race -tags invariants -timeout 25m ./...

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

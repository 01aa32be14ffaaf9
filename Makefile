# The modules of this repository. Each is tested by itself, with its own go.mod, not through go.work: that is how it
# reaches whoever requires it.
MODULES := . racetest examples bench tests tests/pgx58

export GOWORK = off

.PHONY: test test-sqlite servers fmt vet staticcheck race workspace fuzz bench torture

## test: everything that must hold before a change lands, on every database
test: servers fmt vet staticcheck workspace race

## test-sqlite: what needs nothing but Go and a C compiler
test-sqlite:
	@set -e; for m in . racetest examples bench; do echo "go test -race $$m"; (cd $$m && go test -race -count=1 ./...); done

# Installs what is missing if that can be done.
servers:
	tests/install-servers

fmt:
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt: $$files"; exit 1; }

vet:
	@set -e; for m in $(MODULES); do echo "go vet $$m"; (cd $$m && go vet ./...); done

# The version is pinned by a tool directive in tools/go.mod.
staticcheck:
	@set -e; tool=$$(cd tools && go tool -n staticcheck); \
	for m in $(MODULES); do echo "staticcheck $$m"; (cd $$m && "$$tool" ./...); done

# All with the same two servers, and a failure without them.
race:
	@set -e; cd tests; bin=$$(mktemp -d); trap 'rm -rf $$bin' EXIT; go build -o $$bin ./cmd/withservers; \
	RACEPROOF_REQUIRE=postgres,mariadb $$bin/withservers sh -ec 'for m in $(MODULES); do \
		echo "go test -race $$m"; (cd "$(CURDIR)/$$m" && go test -race -count=1 -timeout 20m ./...); done'

# That go.work ties the modules together, for the commands that the README gives.
workspace:
	GOWORK=$(CURDIR)/go.work go build -o /dev/null ./examples/race
	GOWORK=$(CURDIR)/go.work go build -o /dev/null ./bench

## fuzz: the fuzz tests, each for FUZZTIME
FUZZTIME ?= 60s
fuzz:
	go test -run '^$$' -fuzz FuzzName -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./internal/dialect
	go test -run '^$$' -fuzz FuzzChange -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./atomic
	cd racetest && go test -run '^$$' -fuzz FuzzScan -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./internal/statement

## torture: what takes too long for every change
torture: fuzz
	go test -race -count=20 . ./internal/... ./lock ./atomic ./optimistic ./lease ./serial
	@set -e; cd tests; bin=$$(mktemp -d); trap 'rm -rf $$bin' EXIT; go build -o $$bin ./cmd/withservers; \
	RACEPROOF_REQUIRE=postgres,mariadb RACEPROOF_TORTURE=1 $$bin/withservers go test -race -count=1 -timeout 2h -v ./once ./racetest ./lease ./serial

## bench: measures against other ways to write the same, and puts tables and curves into bench; takes ten minutes
bench:
	cd bench && go run . -write
	@set -e; cd tests; bin=$$(mktemp -d); trap 'rm -rf $$bin' EXIT; go build -o $$bin ./cmd/withservers; \
	RACEPROOF_REQUIRE=postgres,mariadb $$bin/withservers go test -run '^$$' -bench . ./racetest

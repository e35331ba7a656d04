# `make demo` and `make test` are all that a newcomer needs; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TOOLS := target/tools/bin
TOOL_SOURCES := tests/support/tools
CHART := charts/usercert-operator
HELM = $(TOOLS)/helm
CHART_TOOLS = $(HELM) $(addprefix $(TOOLS)/,kubeconform kube-score helm-unittest helm-docs)
PROMETHEUS := $(addprefix $(TOOLS)/,prometheus promtool)
SCHEMAS := target/schemas/written
EVIDENCE := $(abspath target/test-evidence)
# What the chart asks for where nothing else is set.
IMAGE ?= usercert-operator:$(shell sed -n 's/^appVersion: "\{0,1\}\([^"]*\)"\{0,1\}$$/\1/p' $(CHART)/Chart.yaml)
ARCHIVE ?= target/image.tar

# As the Dockerfile does it: other packages beside it would give it other features. A test compares the two.
BUILD_OPERATOR := cargo build --locked --release --package usercert-operator

# With the export of spans, which is tested too. `make test` builds its tests with the same packages and features, so that none is built twice.
TEST := cargo test --workspace --exclude usercert-fuzz --features usercert-operator/otlp-test

CARGO_FUZZ := target/tools/cargo-fuzz/bin/cargo-fuzz
# Without sanitizers it runs on the stable toolchain, and there is no unsafe code here for them to find fault with. The release profile
# strips and optimises across crates, which takes the symbols from a report and the counters of coverage from the fuzzer.
FUZZ := CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_LTO=off $(CARGO_FUZZ)
FUZZ_OPTIONS := --features libfuzzer --sanitizer none
# An input may take so many seconds and MiB.
FUZZ_LIMITS := -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=64 -max_len=65536 -print_final_stats=1
# What was found to reach new code: kept between runs, and not checked in.
FUZZ_FOUND := target/fuzz-corpus
SECONDS_EACH ?= 60
TARGET ?= $(patsubst fuzz/fuzz_targets/%.rs,%,$(wildcard fuzz/fuzz_targets/*.rs))

# The version that the API server tells, as its own build would set it.
KUBERNETES := $(shell sed -n 's/^require k8s.io\/kubernetes v//p' $(TOOL_SOURCES)/control-plane/go.mod)
KUBERNETES_MINOR := $(word 2,$(subst ., ,$(KUBERNETES)))
VERSION_FLAGS := -X k8s.io/component-base/version.gitVersion=v$(KUBERNETES) -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(KUBERNETES_MINOR)

# go build FOLDER PACKAGE BINARY: with a count of the packages compiled so far, for it takes minutes the first time.
define go_build
	@mkdir -p $(TOOLS)
	@echo "building $(3) (minutes the first time, seconds from Go's cache)"
	@cd $(TOOL_SOURCES)/$(1) && CGO_ENABLED=0 go build -v -mod=readonly -trimpath -tags "$(BUILD_TAGS)" -ldflags "-s -w $(VERSION_FLAGS)" \
	  -o $(abspath $(TOOLS))/$(3) $(2) 2>&1 | awk '/^go: downloading/ { next } /^#|: |error/ { print; next } { n++; if (n % 50 == 0) { printf "  $(3): %d packages\n", n; fflush() } }'
	@test -x $@ && touch $@
endef

# on_node ARGUMENTS: the end-to-end tests with what they need.
define on_node
	@echo "building the operator in release mode (minutes the first time)"
	$(BUILD_OPERATOR)
	cargo build --package usercert-test-support --bin secret-reader
	$(TEST) --test e2e -- $(1)
endef

# link PROGRAM: the one on the PATH, if it works.
define on_path
	command -v $(1) >/dev/null && $(1) version $(2) >/dev/null 2>&1
endef

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 20

.PHONY: demo
demo: tools ## From nothing to two certificates on a real API server; KEEP=1 leaves everything up; NODE=no leaves the node out
	@echo "building the operator and the stand-in for Atlas in release mode (minutes the first time)"
	@$(BUILD_OPERATOR)
	@cargo build --release --package usercert-test-support --bin demo --bin atlas-stand-in
	@target/release/demo $(if $(KEEP),--keep)
	@if [ "$(NODE)" = no ]; then echo "NODE=no: how workloads follow a renewal is not shown"; \
	  elif target/release/demo --find-node; then $(MAKE) --no-print-directory wave; fi

.PHONY: test
test: check unit cluster ## Everything that must hold

.PHONY: check
check: ## Format, lints, generated files, chart
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features usercert-operator/otlp-test --quiet -- -D warnings
	cargo clippy --package usercert-operator --quiet -- -D warnings
	$(MAKE) --no-print-directory check-generated check-chart

.PHONY: unit
unit: ## Unit and property tests, and a short run of every fuzz target; SEED=N takes other mutations
	$(TEST) --lib --bins
	cargo test --package usercert-fuzz --test corpus
	cargo test --workspace --doc --quiet

# All targets of tests but the fuzz corpus, which `make unit` runs. Those that mostly wait run beside the others.
TESTS := $(sort $(shell sed -n '/^\[\[test\]\]/{n;s/^name = "\(.*\)"/\1/p}' Cargo.toml src/*/Cargo.toml) $(notdir $(basename $(wildcard tests/support/tests/*.rs src/*/tests/*.rs))))
WAITING := clocks health interruptions limits quiet
BESIDE := target/beside.log
# One after the other, for each runs an operator that would take the lead from the other one, and with it the objects.
LIVE_ALERTS := $(TEST) --quiet --test alerts -- --include-ignored --nocapture --test-threads=1

.PHONY: cluster
cluster: tools $(PROMETHEUS) ## Tests against a real API server, and the alerts before a real Prometheus, beside each other
	@rm -rf $(EVIDENCE) $(BESIDE)
	$(TEST) $(TESTS:%=--test %) --no-run
	@echo "what mostly waits runs beside the rest, and is shown after it: alerts $(WAITING)"
	@export TEST_EVIDENCE=$(EVIDENCE); set -m; \
	  { $(TEST) $(WAITING:%=--test %) && $(LIVE_ALERTS); } > $(BESIDE) 2>&1 & beside=$$!; trap 'kill -- -$$beside 2> /dev/null || true' EXIT; \
	  failed=0; $(TEST) $(addprefix --test ,$(filter-out alerts $(WAITING),$(TESTS))) || failed=$$?; \
	  wait $$beside || failed=$$?; cat $(BESIDE); exit $$failed
	@cargo run --quiet --release --package usercert-test-support --bin secrecy-check $(EVIDENCE)

.PHONY: chaos
chaos: model tools ## Everything that can go wrong, at every point: the model, replicas, clocks, rest, crashes, old views; ends with a table
	$(TEST) --test replicas --test clocks --test quiet --test interruptions --test rollout --test former_pair --test refusals
	LIMITS=full $(TEST) --test limits
	$(TEST) --test chaos -- --full --lanes 16

.PHONY: e2e
e2e: tools $(TOOLS)/kubelet $(TOOLS)/kube-scheduler ## Make databases (DATABASES=no leaves them out), then the chart with the operator's own image on a real node and Pods that mount the Secrets; needs root and containerd
	@if [ "$(DATABASES)" = no ]; then echo "DATABASES=no: clients and databases are left out"; else $(MAKE) --no-print-directory databases; fi
	$(call on_node,--run)

.PHONY: alerts
alerts: tools $(PROMETHEUS) ## A real Prometheus scrapes the real operator; each alert is made to fire and to resolve, each query of the dashboard is run; ends with a table
	$(LIVE_ALERTS)

.PHONY: otlp
otlp: tools ## The export of spans by OTLP, which `make test` runs too, to a collector on loopback
	$(TEST) --test health -- otlp

.PHONY: wave
wave: tools $(TOOLS)/kubelet $(TOOLS)/kube-scheduler ## The part of it that shows how workloads follow a renewal
	$(call on_node,--run --wave)

.PHONY: tenancy
tenancy: tools ## What tenants may try against others, each attempt beside a neighbour that is served; ends with two tables, the second one of memory
	$(TEST) --test tenancy
	@$(TEST) --quiet --test memory -- --nocapture

.PHONY: reloader
reloader: tools ## Rollouts beside stakater/Reloader, whose program no target builds: RELOADER=FILE
	@test -x "$(RELOADER)" || { echo "give RELOADER=FILE, the program of stakater/Reloader"; exit 1; }
	RELOADER=$(abspath $(RELOADER)) $(TEST) --test rollout -- --include-ignored reloader

.PHONY: upgrade
upgrade: tools ## From release 0.1.0 to this one and back with the program of 0.1.0, which no target builds: FORMER_OPERATOR=FILE
	@test -x "$(FORMER_OPERATOR)" || { echo "give FORMER_OPERATOR=FILE, the program of release 0.1.0"; exit 1; }
	FORMER_OPERATOR=$(abspath $(FORMER_OPERATOR)) $(TEST) --test chart -- --ignored the_program_of_the_first_release

.PHONY: cases
cases: tools ## What OpenSSL says of CAs of all kinds, and what this operator makes of them; prints a table, then runs the cases on an API server
	@$(TEST) --quiet --test cases -- --nocapture --test-threads=1
	@echo "Webhooks that refuse, and names too long for an Event:"
	@$(TEST) --quiet --test issuing -- --format pretty admission a_success_is_told
	@echo "Secrets that belong to others, the CA's among them:"
	@$(TEST) --quiet --test tenancy -- adoption

.PHONY: databases
databases: tools ## Databases and drivers log in with what the operator wrote, before and after a renewal; ends with a table
	$(TEST) --test databases

.PHONY: image
image: ## Build the image for a release: IMAGE=name:tag BUILD_IMAGE=rust@sha256:...; needs docker
	@case "$(BUILD_IMAGE)" in *@sha256:*) ;; *) echo "give BUILD_IMAGE as NAME@sha256:DIGEST: a release is built on a known image"; exit 1;; esac
	docker build --build-arg BUILD_IMAGE="$(BUILD_IMAGE)" --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)" --tag "$(IMAGE)" .

.PHONY: image-tar
image-tar: ## Build the same image without docker, as an archive: IMAGE=name:tag ARCHIVE=target/image.tar
	$(BUILD_OPERATOR)
	@cargo run --quiet --package usercert-test-support --bin image-tar -- --name "$(IMAGE)" --archive "$(ARCHIVE)"

.PHONY: fuzz
fuzz: $(CARGO_FUZZ) ## Fuzz each target by coverage; SECONDS_EACH=60, TARGET=name for one alone; needs a C++ compiler
	@for target in $(TARGET); do \
	  echo "fuzzing $$target for $(SECONDS_EACH) s"; mkdir -p $(FUZZ_FOUND)/$$target; \
	  $(FUZZ) run $(FUZZ_OPTIONS) $$target $(FUZZ_FOUND)/$$target fuzz/corpus/$$target -- \
	    -max_total_time=$(SECONDS_EACH) $(FUZZ_LIMITS) \
	    || { echo "replay it: $(FUZZ) run $(FUZZ_OPTIONS) $$target FILE, with the file that is named above"; exit 1; }; \
	done

$(CARGO_FUZZ):
	CARGO_TARGET_DIR=target/tools/cargo-fuzz-build cargo install --quiet --locked --version 0.13.2 --root target/tools/cargo-fuzz cargo-fuzz

.PHONY: model
model: ## Check the decisions in a model of two replicas, an API server and Atlas, within the wide bound
	MODEL=full cargo test --release --test model -- --nocapture

.PHONY: generate
generate: $(TOOLS)/helm-docs ## Write the definitions of the custom resources to crds/ and into the chart, and the chart's README
	cargo run --quiet -- crds > crds/crds.yaml
	cp crds/crds.yaml $(CHART)/files/crds.yaml
	$(TOOLS)/helm-docs --chart-search-root $(CHART) --sort-values-order file --log-level warning

.PHONY: check-generated
check-generated: ## Compare them with what is checked in
	@cargo run --quiet -- crds | diff -u crds/crds.yaml - || { echo "run: make generate"; exit 1; }
	@diff -u crds/crds.yaml $(CHART)/files/crds.yaml || { echo "run: make generate"; exit 1; }
	@echo "the generated files are up to date"

.PHONY: check-chart
check-chart: $(CHART_TOOLS) $(SCHEMAS) ## The chart's value sets against the API server's schemas and kube-score, its unit tests, its README
	@tests/chart/check.sh $(TOOLS) $(dir $(SCHEMAS)) target/chart

# As the API server that is built here publishes them, with the definitions of this operator and of the Prometheus operator.
DEFINITIONS := crds/crds.yaml $(wildcard tests/chart/prometheus-operator/*.json)
$(SCHEMAS): $(DEFINITIONS) $(TOOL_SOURCES)/control-plane/go.mod tests/support/src/bin/openapi-schemas.rs | $(TOOLS)/etcd $(TOOLS)/kube-apiserver $(TOOLS)/kube-controller-manager $(TOOLS)/kubectl
	@rm -rf $(@D)
	cargo run --quiet --package usercert-test-support --bin openapi-schemas -- $(DEFINITIONS:%=--definitions %) $(@D)
	@touch $@

.PHONY: tools
tools: $(TOOLS)/etcd $(TOOLS)/kube-apiserver $(TOOLS)/kube-controller-manager $(TOOLS)/kubectl $(TOOLS)/gitops $(HELM) ## Build the pinned tools that are missing

.PHONY: all-tools
all-tools: tools $(CHART_TOOLS) $(PROMETHEUS) $(addprefix $(TOOLS)/,kubelet kube-scheduler) ## Build those as well that only the chart, the node and the alerts need; with --jobs=2 they take less time

# Whoever has the binaries of controller-runtime's envtest builds none of them.
ifneq ($(and $(KUBEBUILDER_ASSETS),$(wildcard $(KUBEBUILDER_ASSETS)/etcd),$(wildcard $(KUBEBUILDER_ASSETS)/kube-apiserver)),)
$(TOOLS)/etcd $(TOOLS)/kube-apiserver:
	@mkdir -p $(TOOLS) && ln -sf "$(abspath $(KUBEBUILDER_ASSETS))/$(@F)" $@
else
$(TOOLS)/etcd: $(TOOL_SOURCES)/control-plane/go.mod
	$(call go_build,control-plane,go.etcd.io/etcd/server/v3,etcd)
$(TOOLS)/kube-apiserver: $(TOOL_SOURCES)/control-plane/go.mod
	$(call go_build,control-plane,k8s.io/kubernetes/cmd/kube-apiserver,kube-apiserver)
endif

$(TOOLS)/kube-controller-manager: $(TOOL_SOURCES)/control-plane/go.mod
	$(call go_build,control-plane,k8s.io/kubernetes/cmd/kube-controller-manager,kube-controller-manager)

$(TOOLS)/kubelet: $(TOOL_SOURCES)/control-plane/go.mod
	$(call go_build,control-plane,k8s.io/kubernetes/cmd/kubelet,kubelet)
$(TOOLS)/kube-scheduler: $(TOOL_SOURCES)/control-plane/go.mod
	$(call go_build,control-plane,k8s.io/kubernetes/cmd/kube-scheduler,kube-scheduler)

# Without the discovery of targets by the APIs of clouds, which no test needs, and without the pages for browsers.
$(TOOLS)/prometheus: private BUILD_TAGS := remove_all_sd
$(TOOLS)/prometheus: $(TOOL_SOURCES)/prometheus/go.mod
	$(call go_build,prometheus,github.com/prometheus/prometheus/cmd/prometheus,prometheus)
$(TOOLS)/promtool: private BUILD_TAGS := remove_all_sd
$(TOOLS)/promtool: $(TOOL_SOURCES)/prometheus/go.mod
	$(call go_build,prometheus,github.com/prometheus/prometheus/cmd/promtool,promtool)

$(TOOLS)/gitops: $(TOOL_SOURCES)/gitops/go.mod $(wildcard $(TOOL_SOURCES)/gitops/*.go)
	$(call go_build,gitops,.,gitops)

$(TOOLS)/kubeconform: $(TOOL_SOURCES)/kubeconform/go.mod
	$(call go_build,kubeconform,github.com/yannh/kubeconform/cmd/kubeconform,kubeconform)
$(TOOLS)/kube-score: $(TOOL_SOURCES)/kube-score/go.mod
	$(call go_build,kube-score,github.com/zegl/kube-score/cmd/kube-score,kube-score)
$(TOOLS)/helm-docs: $(TOOL_SOURCES)/helm-docs/go.mod
	$(call go_build,helm-docs,github.com/norwoodj/helm-docs/cmd/helm-docs,helm-docs)
# A replacement in its go.mod holds in its own module alone, so that this one repeats it.
$(TOOLS)/helm-unittest: $(TOOL_SOURCES)/helm-unittest/go.mod
	$(call go_build,helm-unittest,github.com/helm-unittest/helm-unittest/cmd/helm-unittest,helm-unittest)

ifeq ($(shell $(call on_path,kubectl,--client) && echo yes),yes)
$(TOOLS)/kubectl:
	@mkdir -p $(TOOLS) && ln -sf "$$(command -v kubectl)" $@
else
$(TOOLS)/kubectl: $(TOOL_SOURCES)/control-plane/go.mod
	$(call go_build,control-plane,k8s.io/kubernetes/cmd/kubectl,kubectl)
endif

ifeq ($(shell $(call on_path,helm,) && echo yes),yes)
$(HELM):
	@mkdir -p $(TOOLS) && ln -sf "$$(command -v helm)" $@
else
$(HELM): $(TOOL_SOURCES)/helm/go.mod
	$(call go_build,helm,helm.sh/helm/v4/cmd/helm,helm)
endif

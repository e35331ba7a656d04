# `make demo` and `make test` are all that a newcomer needs; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# All that runs here listens on loopback, and no proxy leads there. Both spellings say the same, for programs differ in which one they heed.
comma := ,
empty :=
LOOPBACK := $(subst $(comma)$(comma),$(comma),$(subst $(empty) $(empty),$(comma),$(strip $(NO_PROXY) $(no_proxy) 127.0.0.1 localhost)))
override NO_PROXY := $(LOOPBACK)
override no_proxy := $(LOOPBACK)
export NO_PROXY no_proxy

TOOLS := target/tools/bin
TOOL_SOURCES := tests/support/tools
CHART := charts/usercert-operator
HELM = $(TOOLS)/helm
CHART_TOOLS = $(HELM) $(addprefix $(TOOLS)/,kubeconform kube-score helm-unittest helm-docs)
RELEASE_TOOLS = $(HELM) $(addprefix $(TOOLS)/,cosign crane helm-docs oras syft)
PROMETHEUS := $(addprefix $(TOOLS)/,prometheus promtool)
SCHEMAS := target/schemas/written
EVIDENCE := $(abspath target/test-evidence)
# What the chart asks for where nothing else is set.
IMAGE ?= usercert-operator:$(shell sed -n 's/^appVersion: "\{0,1\}\([^"]*\)"\{0,1\}$$/\1/p' $(CHART)/Chart.yaml)
ARCHIVE ?= target/image.tar
# What the image says of itself: SOURCE=address of the repository. $(call LABELS,IMAGE): the program is built in IMAGE.
LABELS = $(shell release/labels.sh "$(SOURCE)" "$(1)" | sed 's/^/--label /')

# A release builds with CARGO="cargo auditable", which puts the list of the dependencies into the program, for scanners.
CARGO ?= cargo
# As the Dockerfile does it: other packages beside it would give it other features. A test compares the two.
BUILD_OPERATOR := $(CARGO) rustc --locked --release --package usercert-operator --bin usercert-operator
# The C library is linked in. The flag is for the last step alone: a build script or a macro cannot be built so.
STATIC := -- -C target-feature=+crt-static

CARGO_AUDITABLE := target/tools/cargo-auditable/bin/cargo-auditable
# With the export of spans, which is tested too. Tests, lints and the programs that the tests need are built of the same packages and features: with
# others, cargo would build the dependencies once more.
PACKAGES := --workspace --exclude usercert-fuzz --features usercert-operator/otlp-test
TEST := cargo test $(PACKAGES)
# All programs. An example is among them, for only with one does cargo give the dependencies the features that they have in tests.
BUILD_PROGRAMS := cargo build --quiet $(PACKAGES) --bins --example reference
BUILT := $(or $(CARGO_TARGET_DIR),target)/debug

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
	$(BUILD_OPERATOR) $(STATIC)
	$(BUILD_PROGRAMS)
	$(TEST) --test e2e -- $(1)
endef

# olm_bundle FOLDER: the bundle for the Operator Lifecycle Manager, made from what the chart installs.
define olm_bundle
	$(HELM) template usercert-operator $(CHART) --namespace usercert-system | $(BUILT)/olm-bundle --chart $(CHART) --bundle $(1)
endef

# link PROGRAM: the one on the PATH, if it works.
define on_path
	command -v $(1) >/dev/null && $(1) version $(2) >/dev/null 2>&1
endef

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 20

# Looked for before minutes of building, which would end with a message of the linker.
.PHONY: static-libc
static-libc:
	@[ "$$(uname -s)" = Linux ] || { echo "needs Linux: the operator is built for it"; exit 1; }
	@libc=$$(cc -print-file-name=libc.a) && [ -f "$$libc" ] || { echo "needs a C compiler and the static C library, libc.a: install gcc and libc6-dev (Debian, Ubuntu), or gcc and glibc-static (Fedora)"; exit 1; }

.PHONY: demo
demo: static-libc tools ## From nothing to two certificates on a real API server; KEEP=1 leaves everything up; NODE=no leaves the node out
	@echo "building the operator in release mode, and what the demo needs around it (minutes the first time)"
	@$(BUILD_OPERATOR) $(STATIC)
	@$(BUILD_PROGRAMS)
	@$(BUILT)/demo --operator $(call folder_of,$(HOST))/usercert-operator $(if $(KEEP),--keep)
	@if [ "$(NODE)" = no ]; then echo "NODE=no: how workloads follow a renewal is not shown"; \
	  elif $(BUILT)/demo --find-node; then $(MAKE) --no-print-directory wave; fi

.PHONY: test
test: check unit cluster ## Everything that must hold

.PHONY: check
check: ## Format, lints, generated files, chart, docs
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features usercert-operator/otlp-test --quiet -- -D warnings
	cargo clippy --package usercert-operator --quiet -- -D warnings
	$(MAKE) --no-print-directory check-versions check-generated check-chart check-docs

.PHONY: unit
unit: ## Unit and property tests, and a short run of every fuzz target; SEED=N takes other mutations
	$(TEST) --lib --bins
	cargo test --package usercert-fuzz --test corpus
	$(TEST) --doc --quiet

# All targets of tests but the fuzz corpus, which `make unit` runs. Those that mostly wait run beside the others.
TESTS := $(sort $(shell sed -n '/^\[\[test\]\]/{n;s/^name = "\(.*\)"/\1/p}' Cargo.toml src/*/Cargo.toml) $(notdir $(basename $(wildcard tests/support/tests/*.rs src/*/tests/*.rs))))
WAITING := cli_table clocks health interruptions limits quiet refusals renewal
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
	  failed=0; $(TEST) --no-fail-fast $(addprefix --test ,$(filter-out alerts $(WAITING),$(TESTS))) || failed=$$?; \
	  wait $$beside || failed=$$?; cat $(BESIDE); exit $$failed
	$(BUILD_PROGRAMS)
	@$(BUILT)/secrecy-check $(EVIDENCE)

.PHONY: chaos
chaos: model tools ## Everything that can go wrong, at every point: the model, replicas, clocks, rest, crashes, old views; ends with a table
	$(TEST) --test replicas --test clocks --test quiet --test interruptions --test rollout --test former_pair --test refusals
	LIMITS=full $(TEST) --test limits
	$(TEST) --test chaos -- --full --lanes 16

.PHONY: e2e
e2e: static-libc tools $(TOOLS)/kubelet $(TOOLS)/kube-scheduler ## Make databases (DATABASES=no leaves them out), then the chart with the operator's own image on a real node and Pods that mount the Secrets; needs root and containerd
	@if [ "$(DATABASES)" = no ]; then echo "DATABASES=no: clients and databases are left out"; else $(MAKE) --no-print-directory databases; fi
	$(call on_node,--run)

.PHONY: alerts
alerts: tools $(PROMETHEUS) ## A real Prometheus scrapes the real operator; each alert is made to fire and to resolve, each query of the dashboard is run; ends with a table
	$(LIVE_ALERTS)

.PHONY: otlp
otlp: tools ## The export of spans by OTLP, which `make test` runs too, to a collector on loopback
	$(TEST) --test health -- otlp

.PHONY: wave
wave: static-libc tools $(TOOLS)/kubelet $(TOOLS)/kube-scheduler ## The part of it that shows how workloads follow a renewal
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
image: ## Build the image for a release: IMAGE=name:tag BUILD_IMAGE=rust@sha256:... SOURCE=address of the repository, for its label; needs docker
	@case "$(BUILD_IMAGE)" in *@sha256:*) ;; *) echo "give BUILD_IMAGE as NAME@sha256:DIGEST: a release is built on a known image"; exit 1;; esac
	docker build --build-arg BUILD_IMAGE="$(BUILD_IMAGE)" --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)" $(call LABELS,$(BUILD_IMAGE)) --tag "$(IMAGE)" .

.PHONY: image-tar
image-tar: static-libc ## Build the same image without docker, as an archive: IMAGE=name:tag ARCHIVE=target/image.tar
	$(BUILD_OPERATOR) $(STATIC)
	@cargo run --quiet --package usercert-test-support --bin image-tar -- $(call LABELS) --name "$(IMAGE)" --archive "$(ARCHIVE)"

# A machine of another kind to build for, with its linker in CARGO_TARGET_..._LINKER, as `release/check-parts.sh` does it for arm64.
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
CLI_TARGET ?= $(HOST)
OPERATOR_TARGET ?= $(HOST)
# for_target TRIPLE, folder_of TRIPLE: the host's own programs stay in the folder that everything else is built in.
for_target = $(if $(filter-out $(HOST),$(1)),--target $(1))
folder_of = $(or $(CARGO_TARGET_DIR),target)/$(if $(filter-out $(HOST),$(1)),$(1)/)release
CLI = $(call folder_of,$(CLI_TARGET))/kubectl-usercert
FILES ?= target/release-files
CLI_ARCHIVE = kubectl-usercert_$(shell release/versions.sh)_linux_$(if $(filter aarch64-%,$(CLI_TARGET)),arm64,amd64).tar.gz

# static PROGRAM: it asks for no loader.
define static
	@if readelf --program-headers $(1) | grep INTERP > /dev/null; then echo "$(1) is not static: it asks for a loader"; exit 1; fi
	@ls -l $(1)
endef

.PHONY: operator
operator: ## Build the operator as one static binary, as the image has it: OPERATOR_TARGET=triple
	$(BUILD_OPERATOR) $(call for_target,$(OPERATOR_TARGET)) $(STATIC)
	$(call static,$(call folder_of,$(OPERATOR_TARGET))/usercert-operator)

# The program runs on people's machines, and their nsswitch.conf may name modules. A static program of glibc loads them, and each is made for one glibc.
# So it is static only with musl, which loads nothing, and else uses the C library of its machine.
CLI_LINK = $(if $(filter %-musl,$(CLI_TARGET)),$(STATIC))
.PHONY: cli
cli: ## Build kubectl-usercert for this machine; CLI_TARGET=triple for another one, and one static binary if that is of musl
	$(CARGO) rustc --locked --release --package usercert-cli --bin kubectl-usercert $(call for_target,$(CLI_TARGET)) $(CLI_LINK)
	@ls -l $(CLI)

.PHONY: cli-archive
cli-archive: cli ## The archive of it that krew installs, which needs CLI_TARGET=triple of musl: FILES=folder
	$(call static,$(CLI))
	@folder=$$(mktemp -d) && trap 'rm -r "$$folder"' EXIT && install -m 0755 $(CLI) "$$folder/kubectl-usercert" && install -m 0644 LICENSE "$$folder/LICENSE" && mkdir -p $(FILES) \
	  && tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --create --directory "$$folder" kubectl-usercert LICENSE | gzip --no-name > $(FILES)/$(CLI_ARCHIVE) \
	  && echo "$(FILES)/$(CLI_ARCHIVE)"

# A release builds the archive by this line, in the build image. `make release-check` has it static with glibc for arm64. cargo has to find cargo-auditable on the PATH: it sets the variable CARGO anew for it.
MUSL := $(HOST:-gnu=-musl)
.PHONY: release-cli
release-cli: $(CARGO_AUDITABLE) ## The same with musl and with the list of the dependencies in the program, as a release has it; needs musl-gcc; CLI_TARGET=triple for another one
	CC_$(subst -,_,$(MUSL))=musl-gcc PATH="$(abspath $(dir $(CARGO_AUDITABLE))):$$PATH" \
	  $(MAKE) --no-print-directory cli-archive CARGO="cargo auditable" CLI_LINK="$(STATIC)" CLI_TARGET=$(if $(filter command,$(firstword $(origin CLI_TARGET))),$(CLI_TARGET),$(MUSL))

# All that publishes a release is a program here, so that the job with the rights to publish compiles nothing.
.PHONY: release-tools
release-tools: $(RELEASE_TOOLS) ## Build the pinned tools that publish a release
	cargo build --quiet --locked --package usercert-test-support --bin olm-bundle
	install -m 0755 $(or $(CARGO_TARGET_DIR),target)/debug/olm-bundle $(TOOLS)/olm-bundle
RELEASE_TOOLS_ARCHIVE ?= target/release-tools.tar
.PHONY: release-tools-archive
release-tools-archive: release-tools ## The same tools in one file, for another job: RELEASE_TOOLS_ARCHIVE=file
	tar --create --dereference --file $(RELEASE_TOOLS_ARCHIVE) --directory $(TOOLS) $(notdir $(RELEASE_TOOLS)) olm-bundle

.PHONY: release-check
release-check: ## Do all of a release that needs no network, with a registry on loopback and a key of its own; ends with a table; no part of .ci/run; QUICK=1 optimises nothing
	@QUICK=$(QUICK) release/check.sh

.PHONY: check-versions
check-versions: ## Compare what names this project's version, and Go's
	@release/versions.sh > /dev/null

.PHONY: check-workflows
check-workflows: $(TOOLS)/actionlint ## Check the workflows of GitHub
	$(TOOLS)/actionlint -color

# A release gives the manifest that it fills in, and an archive for this machine.
.PHONY: check-krew
check-krew: $(TOOLS)/krew $(TOOLS)/validate-krew-manifest $(TOOLS)/kubectl ## Have krew take a manifest and install its plugin, without a network: KREW_MANIFEST=file KREW_ARCHIVE=file
	@src/cli/check-krew.sh $(TOOLS) "$(KREW_MANIFEST)" "$(KREW_ARCHIVE)"

.PHONY: cli-table
cli-table: tools ## What the command line says of each fault, on a real API server: the table of docs/cli.md, and the answers in full
	@$(TEST) --quiet --test cli_table -- --nocapture

.PHONY: fuzz
fuzz: $(CARGO_FUZZ) ## Fuzz each target by coverage; SECONDS_EACH=60, TARGET=name for one alone; needs a C++ compiler
	@for target in $(TARGET); do \
	  echo "fuzzing $$target for $(SECONDS_EACH) s"; mkdir -p $(FUZZ_FOUND)/$$target; \
	  $(FUZZ) run $(FUZZ_OPTIONS) $$target $(FUZZ_FOUND)/$$target fuzz/corpus/$$target -- \
	    -max_total_time=$(SECONDS_EACH) $(FUZZ_LIMITS) \
	    || { echo "replay it: $(FUZZ) run $(FUZZ_OPTIONS) $$target FILE, with the file that is named above"; exit 1; }; \
	done

$(CARGO_AUDITABLE):
	CARGO_TARGET_DIR=target/tools/cargo-auditable-build cargo install --quiet --locked --version 0.7.7 --root target/tools/cargo-auditable cargo-auditable
	@rm -rf target/tools/cargo-auditable-build

$(CARGO_FUZZ):
	CARGO_TARGET_DIR=target/tools/cargo-fuzz-build cargo install --quiet --locked --version 0.13.2 --root target/tools/cargo-fuzz cargo-fuzz

# Pinned, without the parts that serve pages, and built like cargo-fuzz: outside of the workspace's own dependencies.
define install_tool
	CARGO_TARGET_DIR=target/tools/$(1)-build cargo install --quiet --locked --version $(2) --root target/tools/$(1) $(3) $(1)
	@rm -rf target/tools/$(1)-build
endef

CARGO_DENY := target/tools/cargo-deny/bin/cargo-deny
$(CARGO_DENY):
	$(call install_tool,cargo-deny,0.20.2)

DENY := $(CARGO_DENY) --workspace --all-features
.PHONY: check-dependencies
check-dependencies: $(CARGO_DENY) ## Licenses and sources of the dependencies, and which may not be there, by deny.toml
	$(DENY) check bans licenses sources

# What was published today is no fault of today's change. So a release fails for it, and .ci/run and QUICK=1 only print it.
.PHONY: check-advisories
check-advisories: $(CARGO_DENY) ## Compare the dependencies with the RustSec advisory database, where that can be fetched
	@if timeout 120 $(DENY) fetch db > /dev/null 2>&1; then timeout 300 $(DENY) check advisories; \
	  else echo "skipped: needs the RustSec advisory database, which cannot be fetched from here"; fi

MDBOOK := target/tools/mdbook/bin/mdbook
$(MDBOOK):
	$(call install_tool,mdbook,0.5.4,--no-default-features --features search)

# It looks at files alone, and so at no address of the internet.
HYPERLINK := target/tools/hyperlink/bin/hyperlink
$(HYPERLINK):
	$(call install_tool,hyperlink,0.3.2)

# The pages link to files of the repository by the paths that GitHub has, so the site has these files at the same places.
SITE := target/site
.PHONY: docs
docs: $(MDBOOK) ## Build the docs as a site in target/site/docs
	@rm -rf $(SITE)
	@$(MDBOOK) build --dest-dir $(abspath $(SITE)/docs) docs
	@grep -rhoE '\]\((\.\./)+[^)#]*' docs --include='*.md' | sed -E 's,^.*\((\.\./)+,,' | sort -u | while read -r file; do \
	  if [ -f "$$file" ]; then mkdir -p "$(SITE)/$$(dirname "$$file")"; cp "$$file" "$(SITE)/$$file"; fi; done
	@printf '<meta http-equiv="refresh" content="0; url=docs/index.html"><a href="docs/index.html">usercert-operator</a>\n' > $(SITE)/index.html

.PHONY: check-docs
check-docs: docs $(HYPERLINK) ## Build the site, and check its links and anchors
	$(HYPERLINK) --check-anchors --sources docs $(SITE)

.PHONY: model
model: ## Check the decisions in a model of two replicas, an API server and Atlas, within the wide bound
	MODEL=full cargo test --release --test model -- --nocapture

.PHONY: programs
programs:
	$(BUILD_PROGRAMS)

# reference_pages FOLDER: every field, every reason, and the chart's README with links as the docs need them.
define reference_pages
	$(BUILT)/examples/reference $(1)
	@sed -e 's,^# usercert-operator$$,# Helm values,' -e 's,](../../docs/,](,g' -e 's,](\(ci\|files\)/,](../$(CHART)/\1/,g' $(CHART)/README.md > $(1)/helm-values.md
endef

.PHONY: generate
generate: programs $(TOOLS)/helm-docs $(HELM) ## Write the definitions of the custom resources to crds/ and into the chart, the chart's README, and the pages of the docs and the OLM bundle that follow from these
	$(BUILT)/usercert-operator crds > crds/crds.yaml
	cp crds/crds.yaml $(CHART)/files/crds.yaml
	$(TOOLS)/helm-docs --chart-search-root $(CHART) --sort-values-order file --log-level warning
	$(call reference_pages,docs)
	$(call olm_bundle,bundle)

.PHONY: check-generated
check-generated: programs $(HELM) ## Compare them with what is checked in
	@$(BUILT)/usercert-operator crds | diff -u crds/crds.yaml - || { echo "run: make generate"; exit 1; }
	@diff -u crds/crds.yaml $(CHART)/files/crds.yaml || { echo "run: make generate"; exit 1; }
	$(call olm_bundle,target/bundle)
	@diff -ru bundle target/bundle || { echo "run: make generate"; exit 1; }
	$(call reference_pages,target/reference)
	@for page in target/reference/*.md; do diff -u "docs/$${page##*/}" "$$page" || { echo "run: make generate"; exit 1; }; done
	@echo "the generated files are up to date"

.PHONY: check-chart
check-chart: $(CHART_TOOLS) $(SCHEMAS) ## The chart's value sets against the API server's schemas and kube-score, its unit tests, its README
	@tests/chart/check.sh $(TOOLS) $(dir $(SCHEMAS)) target/chart

# As the API server that is built here publishes them, with the definitions of this operator and of the Prometheus operator.
DEFINITIONS := crds/crds.yaml $(wildcard tests/chart/prometheus-operator/*.json)
$(SCHEMAS): $(DEFINITIONS) $(TOOL_SOURCES)/control-plane/go.mod tests/support/src/bin/openapi-schemas.rs | $(TOOLS)/etcd $(TOOLS)/kube-apiserver $(TOOLS)/kube-controller-manager $(TOOLS)/kubectl
	@rm -rf $(@D)
	$(BUILD_PROGRAMS)
	$(BUILT)/openapi-schemas $(DEFINITIONS:%=--definitions %) $(@D)
	@touch $@

.PHONY: tools
tools: $(TOOLS)/etcd $(TOOLS)/kube-apiserver $(TOOLS)/kube-controller-manager $(TOOLS)/kubectl $(TOOLS)/gitops $(HELM) ## Build the pinned tools that are missing

.PHONY: all-tools
all-tools: tools $(CHART_TOOLS) $(PROMETHEUS) $(addprefix $(TOOLS)/,kubelet kube-scheduler) $(MDBOOK) $(HYPERLINK) $(CARGO_DENY) ## Build those as well that only the chart, the node, the alerts, the docs and the check of dependencies need; with --jobs=2 they take less time

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
$(TOOLS)/krew: $(TOOL_SOURCES)/krew/go.mod
	$(call go_build,krew,sigs.k8s.io/krew/cmd/krew,krew)
$(TOOLS)/validate-krew-manifest: $(TOOL_SOURCES)/krew/go.mod
	$(call go_build,krew,sigs.k8s.io/krew/cmd/validate-krew-manifest,validate-krew-manifest)
# A replacement in its go.mod holds in its own module alone, so that this one repeats it.
$(TOOLS)/helm-unittest: $(TOOL_SOURCES)/helm-unittest/go.mod
	$(call go_build,helm-unittest,github.com/helm-unittest/helm-unittest/cmd/helm-unittest,helm-unittest)

# What a release is checked with; no test needs them.
$(TOOLS)/actionlint: $(TOOL_SOURCES)/actionlint/go.mod
	$(call go_build,actionlint,github.com/rhysd/actionlint/cmd/actionlint,actionlint)
$(TOOLS)/crane: $(TOOL_SOURCES)/crane/go.mod
	$(call go_build,crane,github.com/google/go-containerregistry/cmd/crane,crane)
$(TOOLS)/cosign: $(TOOL_SOURCES)/cosign/go.mod
	$(call go_build,cosign,github.com/sigstore/cosign/v3/cmd/cosign,cosign)
$(TOOLS)/oras: $(TOOL_SOURCES)/oras/go.mod
	$(call go_build,oras,oras.land/oras/cmd/oras,oras)
$(TOOLS)/syft: $(TOOL_SOURCES)/syft/go.mod
	$(call go_build,syft,github.com/anchore/syft/cmd/syft,syft)
$(TOOLS)/operator-verify: $(TOOL_SOURCES)/operator-verify/go.mod
	$(call go_build,operator-verify,github.com/operator-framework/api/cmd/operator-verify,operator-verify)

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

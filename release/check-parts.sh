# The parts of check.sh, a function each. They share: out, files, version, registry.

# The address of a repository that there is none of.
repository=example/project
homepage=https://github.com/$repository

# A pipe ends with `grep > /dev/null` and not with `grep -q`, which does not read on: the program before it would fail for that.
skip() { echo "skipped: needs $*"; exit 75; }
fail() { echo "$*"; exit 1; }
# needs PROGRAM...: all of them, or the part is skipped.
needs() { local program; for program in "$@"; do command -v "$program" > /dev/null || skip "$program"; done; }
# refused COMMAND...: it has to fail.
refused() { if "$@" > "$out/refused" 2>&1; then fail "not refused: $*"; fi; }
architectures() { local arch; for arch in amd64 arm64; do if [ -f "$files/image-$arch.tar" ]; then echo "$arch"; fi; done; }
triple() { case $1 in amd64) echo x86_64-unknown-linux-gnu ;; arm64) echo aarch64-unknown-linux-gnu ;; esac; }
# Where the programs for an architecture are: one that is not the machine's own has a folder for itself.
own_architecture() { case $(uname -m) in x86_64) echo amd64 ;; aarch64) echo arm64 ;; esac; }
programs() { if [ "$1" = "$(own_architecture)" ]; then echo target/release; else echo "target/cross/$(triple "$1")/release"; fi; }
# The command line of this machine's architecture is linked with musl, as in a release. For another one there is no such compiler.
cli_triple() { if [ "$1" = "$(own_architecture)" ]; then triple "$1" | sed 's/-gnu$/-musl/'; else triple "$1"; fi; }
cli_of() { if [ "$1" = "$(own_architecture)" ]; then echo "target/$(cli_triple "$1")/release/kubectl-usercert"; else echo "$(programs "$1")/kubectl-usercert"; fi; }
size() { if [ "$2" = kubectl-usercert ]; then stat --format %s "$(cli_of "$1")"; else stat --format %s "$(programs "$1")/$2"; fi | numfmt --to=iec --suffix=B; }

versions() {
  release/versions.sh
  release/notes.sh "$version" "$homepage" > "$out/notes.md"
  refused grep -nE '\]\([^h]' "$out/notes.md"
  # What it has to refuse, or it did not look.
  local copy=$out/versions tag="no page says that nothing is published"
  mkdir -p "$copy"
  cp --parents --recursive Cargo.toml ./*.md docs charts/usercert-operator release .github tests/support/tools tests/databases/drivers/go/go.mod "$copy"
  sed -i 's/^go .*/go 1.999.0/' "$copy/tests/support/tools/syft/go.mod"
  refused "$copy/release/versions.sh"
  cp tests/support/tools/syft/go.mod "$copy/tests/support/tools/syft/go.mod"
  "$copy/release/versions.sh"
  refused "$copy/release/versions.sh" 0.0.0
  # A tag is taken where no page says so, and refused where one does.
  { grep -rlE 'no published image|has run yet' "$copy"/README.md "$copy"/docs "$copy"/charts || true; } | xargs --no-run-if-empty sed -i -E '/no published image|has run yet/d'
  "$copy/release/versions.sh" "$version"
  local page=$copy/docs/install.md line
  cp "$page" "$copy/install.md"
  for line in 'There is no published image yet.' '- **Not yet**: a release.' 'The Dockerfile was not built.'; do
    { cat "$copy/install.md"; echo "$line"; } > "$page"
    refused "$copy/release/versions.sh" "$version"
  done
  release/versions.sh "$version" > "$out/refused" 2>&1 || tag="a tag is refused, for pages say that nothing is published"
  echo "Cargo.toml, the chart, CHANGELOG.md and docs/upgrade.md say $version, and all pages name one Go; $tag"
}

# docker is a stand-in here, which gives the file that the digest names.
build_image() {
  local docker=$out/docker arch
  mkdir -p "$docker"
  printf '#!/usr/bin/env bash\n[ "$1 $2 $3 $4" = "buildx imagetools inspect --raw" ] && cat "%s/${5##*:}"\n' "$docker" > "$docker/docker"
  chmod +x "$docker/docker"
  index_of() { echo '{"manifests": ['; for arch in "$@"; do echo "{\"platform\": {\"architecture\": \"$arch\", \"os\": \"linux\"}},"; done; echo '{}]}'; }
  digit() { printf '%064d' "$1"; }
  index_of amd64 arm64 unknown > "$docker/$(digit 1)"
  index_of amd64 unknown > "$docker/$(digit 2)"
  local run=(env "PATH=$docker:$PATH" release/require-build-image.sh)
  "${run[@]}" "rust@sha256:$(digit 1)"
  local wrong
  for wrong in "" rust:1.95-bookworm rust@sha256:1 "rust:1.95@sha256:$(digit 1) " "rust@sha256:$(digit 2)" "rust@sha256:$(digit 3)"; do
    refused "${run[@]}" "$wrong"
    grep -q 'Set the variable BUILD_IMAGE' "$out/refused" || fail "refused for another reason: $(tail -n 3 "$out/refused")"
  done
  echo "an image without a digest, without arm64, or that no registry has is refused; with a stand-in for docker"
}

# gh is a stand-in here, with a line "TAG DRAFT ID" for each release.
draft() {
  local gh=$out/gh
  mkdir -p "$gh" "$out/offered"
  cat > "$gh/gh" << 'GH'
#!/usr/bin/env bash
set -euo pipefail
case "$1 $2" in
  "api --paginate") awk -v tag="$TAG" '$1 == tag { print $2, $3 }' "$RELEASES" ;;
  "api --method") sed -i "/ ${4##*/}$/d" "$RELEASES" ;;
  "release create") draft=false; case " $* " in *" --draft "*) draft=true ;; esac; echo "$3 $draft 9" >> "$RELEASES"; for argument in "$@"; do [ ! -f "$argument" ] || basename "$argument"; done | LC_ALL=C sort > "$UPLOADED"; for argument in "$@"; do case $argument in */notes.md) cp "$argument" "$NOTES" ;; esac; done ;;
  *) echo "not expected: gh $*" >&2; exit 1 ;;
esac
GH
  chmod +x "$gh/gh"
  touch "$out/offered/SHA256SUMS" "$out/offered/image-amd64.tar"
  echo "amd64: built here" > "$out/offered/built-with_${version}_linux_amd64.txt"
  local run=(env "PATH=$gh:$PATH" "TAG=v$version" "RELEASES=$out/releases" "UPLOADED=$out/uploaded" "NOTES=$out/draft.md" release/draft.sh "v$version" "$repository" "$out/offered")
  printf 'v0.0.1 false 1\nv%s true 2\nv%s true 3\n' "$version" "$version" > "$out/releases"
  "${run[@]}"
  [ "$(paste -sd, "$out/releases")" = "v0.0.1 false 1,v$version true 9" ] || fail "not one draft in place of two: $(< "$out/releases")"
  [ "$(paste -sd, "$out/uploaded")" = "SHA256SUMS,built-with_${version}_linux_amd64.txt,notes.md" ] || fail "these were uploaded: $(< "$out/uploaded")"
  grep -qx -- '- amd64: built here' "$out/draft.md" || fail "the text of the release does not say what it was built with"
  echo "v$version false 9" > "$out/releases"
  refused "${run[@]}"
  grep -q 'published already' "$out/refused" || fail "refused for another reason: $(tail -n 3 "$out/refused")"
  echo "a draft takes the place of one that was left, and a published release stays; with a stand-in for gh"
}

tools() {
  local tool missing=()
  for tool in helm helm-docs crane cosign syft oras actionlint operator-verify krew validate-krew-manifest kubectl; do
    make --no-print-directory "target/tools/bin/$tool" || missing+=("$tool")
  done
  make --no-print-directory "target/tools/cargo-auditable/bin/cargo-auditable" || missing+=(cargo-auditable)
  make --no-print-directory release-tools || missing+=(olm-bundle)
  # They are pinned, so this is a fault and not something that this machine lacks.
  [ "${#missing[@]}" -eq 0 ] || fail "could not be built: ${missing[*]}"
  echo "built from the Go module proxy and crates.io, as their go.mod and the Makefile pin them"
}

workflows() {
  needs actionlint
  actionlint
  # One that it has to refuse, or it did not look.
  printf 'on: push\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: "echo ${{ nothing.here }}"}]}}\n' > "$out/wrong.yaml"
  refused actionlint "$out/wrong.yaml"
  local unpinned
  unpinned=$(grep -nE '^ *-? *uses: ' .github/workflows/*.yaml | grep -vE '@[0-9a-f]{40} # v[0-9.]+$' || true)
  [ -z "$unpinned" ] || fail "not pinned by commit: $unpinned"
  echo "actionlint finds nothing in $(ls .github/workflows | wc -l) workflows; actions are pinned by commit. They have not run"
}

generated() {
  make --no-print-directory check-generated
}

# QUICK=1 is for a change that is not released. An advisory may be as new as today, and then is no fault of it.
advisories() {
  local found=$out/advisories-found
  if ! make --no-print-directory check-advisories > "$found" 2>&1; then
    cat "$found"
    [ -n "${QUICK:-}" ] || fail "an advisory is about a dependency, or they could not be compared"
    echo "there are advisories about dependencies: they fail a release, and not this run (QUICK)"
  elif grep '^skipped: needs' "$found"; then
    return 75
  else
    cat "$found"
    echo "the RustSec advisory database has nothing about the dependencies"
  fi
}

# QUICK=1: the last step of both programs, which takes most of the time, optimises nothing.
quick=() optimised=
if [ -n "${QUICK:-}" ]; then
  quick=(STATIC="-- -C target-feature=+crt-static -C opt-level=0")
  optimised=", not optimised (QUICK)"
fi

binaries() {
  local arch=$1 libc=$2
  needs cargo-auditable readelf
  make --no-print-directory operator OPERATOR_TARGET="$(triple "$arch")" CARGO="cargo auditable" "${quick[@]}"
  make --no-print-directory release-cli CLI_TARGET="$(cli_triple "$arch")" FILES="$files" "${quick[@]}"
  release/look-at-program.sh "$(programs "$arch")/usercert-operator" "$arch" "usercert-operator $version"
  release/look-at-archive.sh "$files/kubectl-usercert_${version}_linux_$arch.tar.gz" "$version" "$libc"
  release/built-with.sh "$arch" "" "$libc" > "$files/built-with_${version}_linux_$arch.txt"
}

binaries_own() {
  needs musl-gcc
  [ -d "$(rustc --print sysroot)/lib/rustlib/$(cli_triple "$(own_architecture)")" ] || skip "rustup target add $(cli_triple "$(own_architecture)")"
  binaries "$(own_architecture)" musl
  echo "static, with the list of their dependencies$optimised: operator $(size "$(own_architecture)" usercert-operator), kubectl-usercert $(size "$(own_architecture)" kubectl-usercert)"
}

# On a machine for amd64. It is to be known that both programs build and run; a release builds them on arm64 itself.
binaries_arm64() {
  local run="not run: that needs qemu-aarch64-static"
  [ "${ARM64:-}" != no ] || { echo "skipped: ARM64=no"; exit 75; }
  [ "$(own_architecture)" = amd64 ] || skip "a machine for amd64"
  needs aarch64-linux-gnu-gcc
  [ -d "$(rustc --print sysroot)/lib/rustlib/$(triple arm64)" ] || skip "rustup target add $(triple arm64)"
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
  # Optimised less, for that takes most of the time.
  export CARGO_TARGET_DIR=target/cross CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1
  binaries arm64 glibc
  if [ "${REQUIRE:-}" = all ]; then needs qemu-aarch64-static; fi
  if command -v qemu-aarch64-static > /dev/null; then
    qemu-aarch64-static "$(programs arm64)/usercert-operator" crds | diff - crds/crds.yaml
    qemu-aarch64-static "$(cli_of arm64)" --version
    run="the definitions and --version by qemu"
  fi
  echo "static, optimised less, by a cross compiler ($run): operator $(size arm64 usercert-operator), kubectl-usercert $(size arm64 kubectl-usercert)"
}

images() {
  local arch labels
  needs cargo-auditable
  labels=$(release/labels.sh "$homepage" | sed 's/^/--label /')
  for arch in amd64 arm64; do
    [ -f "$files/kubectl-usercert_${version}_linux_$arch.tar.gz" ] || continue
    cargo run --quiet --package usercert-test-support --bin image-tar -- $labels \
      --program "$(programs "$arch")/usercert-operator" --name "usercert-operator:$version" --archive "$files/image-$arch.tar"
    release/look-at-image.sh "$files/image-$arch.tar" "$version" "$homepage"
    mkdir -p "$out/image-$arch"
    tar --extract --to-stdout --file "$files/image-$arch.tar" --wildcards './*.tar' > "$out/image-$arch/layer.tar"
  done
  [ -n "$(architectures)" ] || skip 'the part before, "binaries for this machine"'
  echo "$(architectures | paste -sd,): the program, certificates of public CAs and nsswitch.conf, with labels; $(stat --format %s "$files/image-$(own_architecture).tar" | numfmt --to=iec --suffix=B) for $(own_architecture)"
}

dockerfile() {
  needs docker
  docker info > /dev/null 2>&1 || skip "a running Docker, and BUILD_IMAGE"
  [ -n "${BUILD_IMAGE:-}" ] || skip "BUILD_IMAGE=NAME@sha256:DIGEST"
  make --no-print-directory image IMAGE="usercert-operator:$version" BUILD_IMAGE="$BUILD_IMAGE" SOURCE="$homepage"
  docker save --output "$out/docker.tar" "usercert-operator:$version"
  release/look-at-image.sh "$out/docker.tar" "$version" "$homepage" "$BUILD_IMAGE"
  docker run --rm --network none --read-only "usercert-operator:$version" --version
  echo "built on $BUILD_IMAGE"
}

names() {
  needs unshare ip chroot
  [ "$(id -u)" -eq 0 ] || skip "root, for a network namespace"
  [ -f "$out/image-$(own_architecture)/layer.tar" ] || skip 'the part before, "image without Docker"'
  cargo build --quiet --package usercert-test-support --bin name-resolution
  mkdir -p "$out/root"
  tar --extract --file "$out/image-$(own_architecture)/layer.tar" --directory "$out/root"
  unshare --net sh -c "ip link set lo up && target/debug/name-resolution --root '$out/root'"
  echo "$(grep -c '^  ok' "$out/names.log") ways to a name, in the files of the image: /etc/hosts, DNS, search domains, TCP, a second name server"
}

# Publishes what is in the folder and leaves the list of tags in $out/NAME.tags: push NAME FOLDER.
push() {
  env "GITHUB_OUTPUT=$out/$1.outputs" "ARCHITECTURES=$(architectures)" "COSIGN_KEY=${COSIGN_KEY:-$out/release.key}" PLAIN_HTTP=1 \
    release/publish.sh "$registry" "$2" "$homepage" "$out/$1.tags"
}
# What the jobs before leave to the job that publishes: handed_over FOLDER.
handed_over() {
  mkdir "$1"
  cp "$files"/image-*.tar "$files"/kubectl-usercert_*.tar.gz "$files"/built-with_*.txt "$1"
}

publish() {
  needs crane cosign syft oras helm
  [ -n "$(architectures)" ] || skip 'the part before, "image without Docker"'
  local image=$registry/usercert-operator name tag before
  cosign generate-key-pair --output-key-prefix "$out/release"
  cosign generate-key-pair --output-key-prefix "$out/another"
  handed_over "$out/again"
  handed_over "$out/other"
  # Nothing has a tag before the last step, whether signing fails or not.
  COSIGN_KEY=$out/missing.key refused push unsigned "$files"
  push first "$files"
  while read -r name tag; do refused crane digest "${name%@*}:$tag"; done < "$out/first.tags"
  # The job fails after the first tag and is run again. It gives the same digests, and sets the other tags.
  head -n 1 "$out/first.tags" > "$out/half.tags"
  release/tag.sh "$out/half.tags"
  push second "$out/again"
  diff "$out/first.tags" "$out/second.tags"
  diff "$out/first.outputs" "$out/second.outputs"
  release/tag.sh "$out/second.tags"
  release/tag.sh "$out/second.tags"
  while read -r name tag; do
    [ "$(crane digest "${name%@*}:$tag")" = "${name#*@}" ] || fail "${name%@*}:$tag is not ${name#*@}"
  done < "$out/first.tags"
  # The same version with other contents, by either script: a tag stays where it is.
  before=$(crane digest "$image:$version")
  crane pull "$(crane mutate "$image:$version-$(own_architecture)" --label changed=yes --tag "$image:other")" "$out/other/image-$(own_architecture).tar"
  refused push third "$out/other"
  grep 'is published already' "$out/refused" > /dev/null || fail "the other image was refused for another reason: $(tail -n 3 "$out/refused")"
  sed "s/@sha256:[0-9a-f]*/@$(crane digest "$image:other")/" "$out/half.tags" > "$out/other.tags"
  refused release/tag.sh "$out/other.tags"
  grep 'is published already' "$out/refused" > /dev/null || fail "the other tag was refused for another reason: $(tail -n 3 "$out/refused")"
  # The tag that is of no version goes with its file.
  for name in other "$version"; do
    echo "$image@$(crane digest "$image:$name") artifacthub.io" > "$out/owners.tags"
    release/tag.sh "$out/owners.tags"
    [ "$(crane digest "$image:artifacthub.io")" = "$(crane digest "$image:$name")" ] || fail "the tag artifacthub.io has not moved"
  done
  refused crane copy --no-clobber "$image:other" "$image:$version"
  [ "$(crane digest "$image:$version")" = "$before" ] || fail "the tag $version has moved"
  echo "images, chart, bundle and signatures to a registry on loopback, the tags last; a second run gives the same digests and goes on; another image is refused; $(ls "$files" | wc -l) files"
}
published() { [ -f "$files/SHA256SUMS.sigstore.json" ] || skip "the part before, \"published\""; }
digest_of() { sed -n "s/^$1-digest=//p" "$out/first.outputs"; }
key_of() { echo --key "$out/$1.pub" --insecure-ignore-tlog=true; }

pulled() {
  published
  local arch image
  image=$registry/usercert-operator@$(digest_of image)
  for arch in $(architectures); do
    crane config --platform "linux/$arch" "$image" | grep '"User":"65532:65532"' > /dev/null || fail "the image for $arch does not run as 65532"
    crane config --platform "linux/$arch" "$image" | grep "\"org.opencontainers.image.source\":\"$homepage\"" > /dev/null || fail "the image for $arch does not say where it comes from"
  done
  [ "$(id -u)" -eq 0 ] || skip "root, to run it in its own files"
  mkdir -p "$out/pulled"
  crane export --platform "linux/$(own_architecture)" "$image" - | tar --extract --directory "$out/pulled"
  echo "by digest, for $(architectures | paste -sd,): $(chroot --userspec=65532:65532 --groups= "$out/pulled" /usercert-operator --version) runs without root in its own files"
}

signatures() {
  published
  local image=$registry/usercert-operator chart=$registry/charts/usercert-operator name
  for name in "$image@$(digest_of image)" "$chart@$(digest_of chart)" "$image-bundle:$version" "$chart:artifacthub.io"; do
    cosign verify $(key_of release) "$name"
    refused cosign verify $(key_of another) "$name"
  done
  # The same image with one more label is another one.
  crane mutate "$image:$version-$(architectures | head -n 1)" --label changed=yes --tag "$image:changed"
  refused cosign verify $(key_of release) "$image:changed"
  echo "image, chart, bundle and the chart's owners verify with the key; another key and a changed image are refused"
}

sbom() {
  published
  local arch image=$registry/usercert-operator missing count
  for arch in $(architectures); do
    cosign verify-attestation $(key_of release) --type spdxjson "$image@$(crane digest "$image:$version-$arch")" > /dev/null
  done
  cargo tree --locked --package usercert-operator --edges normal,no-proc-macro --target "$(triple "$(own_architecture)")" --prefix none --format '{p}' \
    | sed 's/^\([^ ]*\) v\([^ ]*\).*/\1 \2/' | sort -u > "$out/linked"
  tr ',' '\n' < "$files/usercert-operator_${version}_linux_$(own_architecture).spdx.json" | sed -n 's/.*"referenceLocator":"pkg:cargo\/\([^@"]*\)@\([^"?]*\).*/\1 \2/p' | sort -u > "$out/listed"
  missing=$(comm -23 "$out/linked" "$out/listed")
  count=$(wc -l < "$out/linked")
  [ "$count" -gt 50 ] || fail "cargo tree names $count crates only"
  [ -z "$missing" ] || fail "the SBOM lacks: $(paste -sd, <<< "$missing")"
  echo "syft reads all $count linked crates from the program in the image, and $(comm -13 "$out/linked" "$out/listed" | wc -l) that are not linked; attached and signed"
}

chart() {
  published
  local pulled=$out/chart
  mkdir -p "$pulled"
  helm pull --plain-http "oci://$registry/charts/usercert-operator" --version "$version" --destination "$pulled"
  helm lint --quiet --strict "$pulled/usercert-operator-$version.tgz"
  helm template usercert-operator "$pulled/usercert-operator-$version.tgz" > "$pulled/objects.yaml"
  grep -q "image: \"$registry/usercert-operator:$version\"" "$pulled/objects.yaml" || fail "the chart does not install the image that was pushed"
  local mirror
  for mirror in global.imageRegistry image.registry; do
    helm template usercert-operator "$pulled/usercert-operator-$version.tgz" --set "$mirror=mirror.example.com" > "$pulled/mirrored.yaml"
    grep -q "image: \"mirror.example.com/${registry#*/}/usercert-operator:$version\"" "$pulled/mirrored.yaml" || fail "$mirror does not take the place of the registry"
  done
  helm show chart "$pulled/usercert-operator-$version.tgz" > "$pulled/Chart.yaml"
  # Whoever clicks on an alert comes to its runbook, with the rules of the chart and with the file itself.
  local rules
  helm template usercert-operator "$pulled/usercert-operator-$version.tgz" --set prometheusRule.enabled=true --show-only templates/prometheus-rule.yaml > "$pulled/rule.yaml"
  tar --extract --gzip --to-stdout --file "$pulled/usercert-operator-$version.tgz" usercert-operator/files/alerts.yaml > "$pulled/alerts.yaml"
  for rules in rule alerts; do
    [ "$(grep -c "runbook_url: $homepage/blob/v$version/docs/alerts.md#usercert" "$pulled/$rules.yaml")" = "$(grep -c 'alert: ' "$pulled/$rules.yaml")" ] || fail "an alert of $rules.yaml has no address of its runbook"
  done
  local key
  for key in images crds crdsExamples license links operator; do grep -q "artifacthub.io/$key:" "$pulled/Chart.yaml" || fail "no artifacthub.io/$key"; done
  oras pull --plain-http "$registry/charts/usercert-operator:artifacthub.io" --output "$pulled"
  diff "$pulled/artifacthub-repo.yml" artifacthub-repo.yml
  echo "pulled, rendered with the image of the registry; metadata for Artifact Hub, which has not read them"
}

krew() {
  published
  [ -f "$files/usercert.yaml" ] || skip "binaries for both architectures"
  needs krew validate-krew-manifest kubectl
  local arch
  for arch in amd64 arm64; do
    grep -q "sha256: \"$(sha256sum "$files/kubectl-usercert_${version}_linux_$arch.tar.gz" | cut -d' ' -f1)\"" "$files/usercert.yaml" || fail "another SHA-256 for $arch"
  done
  src/cli/check-krew.sh target/tools/bin "$files/usercert.yaml" "$files/kubectl-usercert_${version}_linux_$(own_architecture).tar.gz"
}

# operator-verify ends with 0 whatever it finds.
bundle_errors() { operator-verify manifests --object_validate --operatorhub_validate "$1" 2>&1 | tee "$out/operator-verify" | grep -c level=error || true; }
# skip_range BUNDLE: which versions it takes the place of.
skip_range() { sed -n "s/^    olm.skipRange: [\"']\{0,1\}\([^\"']*\)[\"']\{0,1\}$/\1/p" "$1"/manifests/*.clusterserviceversion.yaml; }
# The bundle of the next version, made from the same chart, takes the place of this one, and this one not of itself: followed_by_the_next BUNDLE.
followed_by_the_next() {
  local next=${version%.*}.$((${version##*.} + 1)) copy=$out/next
  rm -rf "$copy" && mkdir -p "$copy" && cp -r charts/usercert-operator "$copy/chart"
  sed -i "s/^\(version\|appVersion\): $version$/\1: $next/" "$copy/chart/Chart.yaml"
  helm template usercert-operator "$copy/chart" --namespace usercert-system | olm-bundle --chart "$copy/chart" --bundle "$copy/bundle"
  grep -qx "  name: usercert-operator.v$next" "$copy"/bundle/manifests/*.clusterserviceversion.yaml || fail "the next bundle has not the version $next"
  [ "$(skip_range "$1")" = ">=0.1.0 <$version" ] || fail "the bundle of $version takes the place of: $(skip_range "$1")"
  [ "$(skip_range "$copy/bundle")" = ">=0.1.0 <$next" ] || fail "the bundle of $next takes the place of: $(skip_range "$copy/bundle")"
}
olm() {
  published
  needs operator-verify
  mkdir -p "$out/bundle"
  crane export "$registry/usercert-operator-bundle:$version" - | tar --extract --directory "$out/bundle"
  [ "$(bundle_errors "$out/bundle/manifests")" -eq 0 ] || fail "$(cat "$out/operator-verify")"
  grep -q "image: $registry/usercert-operator@$(digest_of image)" "$out"/bundle/manifests/*.clusterserviceversion.yaml || fail "the bundle does not install the image by its digest"
  crane config "$registry/usercert-operator-bundle:$version" | grep operators.operatorframework.io.bundle.package.v1 > /dev/null || fail "the bundle has no labels"
  grep -qE '^    createdAt: "?[0-9]{4}-[0-9]{2}-[0-9]{2}T' "$out"/bundle/manifests/*.clusterserviceversion.yaml || fail "the bundle does not say when it was made"
  grep -qx "    repository: $homepage" "$out"/bundle/manifests/*.clusterserviceversion.yaml || fail "the bundle does not name the repository"
  followed_by_the_next "$out/bundle"
  # OpenShift chooses the user, and refuses a Pod that asks for one.
  refused grep -nE 'runAs(User|Group)|fsGroup' "$out"/bundle/manifests/*.clusterserviceversion.yaml
  # One that it has to refuse, or it did not look.
  cp -r "$out/bundle/manifests" "$out/bundle/wrong"
  rm "$out"/bundle/wrong/usercert.dev_certificateissuers.yaml
  [ "$(bundle_errors "$out/bundle/wrong")" -gt 0 ] || fail "a bundle without one of its definitions is not refused"
  echo "valid by operator-verify, with the image by its digest; the next version takes its place. No OLM has installed it"
}

sums() {
  published
  (cd "$files" && sha256sum --check SHA256SUMS)
  cosign verify-blob $(key_of release) --bundle "$files/SHA256SUMS.sigstore.json" "$files/SHA256SUMS"
  refused cosign verify-blob $(key_of another) --bundle "$files/SHA256SUMS.sigstore.json" "$files/SHA256SUMS"
  cp "$files/SHA256SUMS" "$out/changed"
  echo >> "$out/changed"
  refused cosign verify-blob $(key_of release) --bundle "$files/SHA256SUMS.sigstore.json" "$out/changed"
  echo "$(wc -l < "$files/SHA256SUMS") files; the list is signed"
}

docs() {
  make --no-print-directory check-docs
  echo "the site is built, and its links and anchors lead somewhere"
}

provenance() {
  skip "the identity that GitHub gives to a run of the release workflow"
}

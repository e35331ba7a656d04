#!/usr/bin/env bash
# publish.sh REGISTRY FOLDER HOMEPAGE TAGS: pushes what is in FOLDER to REGISTRY, signs it, and adds to FOLDER what a release offers for download.
#
# Everything is put together in a registry of its own on loopback, and goes to REGISTRY by its digest. It gets no tag here: TAGS is a file for tag.sh, which
# is the last step of a release, so nobody pulls by a tag what has no signature or no provenance. The same files give the same digests, so that a job which
# failed half-way can be run again. A version that is there with another digest ends it.
#
# The release workflow runs it with a registry namespace of the repository. `make release-check` runs it with a registry on loopback and a key of its own:
#   COSIGN_KEY  the private key to sign with. Without it, cosign signs with a certificate that Sigstore gives to the workflow, and writes to its log.
#   PLAIN_HTTP  not empty: the registry has no TLS.
#   ARCHITECTURES  for a machine that cannot build both; a release has both.
# FOLDER holds image-ARCH.tar, kubectl-usercert_VERSION_linux_ARCH.tar.gz and built-with_VERSION_linux_ARCH.txt of each.
set -euo pipefail
cd "$(dirname "$0")/.."
registry=$1 files=$(realpath "$2") homepage=$3 tags=$(realpath "$4")
PATH=$PWD/target/tools/bin:$PATH
architectures=${ARCHITECTURES:-amd64 arm64}
version=$(release/versions.sh)
image=$registry/usercert-operator
chart=$registry/charts/usercert-operator
work=$(mktemp -d)
staging=
trap '[ -z "$staging" ] || kill "$staging"; rm -rf "$work"' EXIT

say() { printf -- '-- %s\n' "$*"; }
# For the steps of the workflow that follow.
output() { echo "$1=$2" | tee -a "${GITHUB_OUTPUT:-/dev/null}"; }
with_key=() plain=()
if [ -n "${COSIGN_KEY:-}" ]; then
  # Neither a log nor a timestamp of Sigstore, which could not be reached.
  with_key=(--key "$COSIGN_KEY" --tlog-upload=false --use-signing-config=false)
fi
if [ -n "${PLAIN_HTTP:-}" ]; then plain=(--plain-http); fi
sign() { cosign sign --yes "${with_key[@]}" "$@"; }

say "a registry on loopback"
crane registry serve --address 127.0.0.1:0 > "$work/staging" 2>&1 &
staging=$!
for _ in $(seq 50); do if grep -q port "$work/staging"; then break; fi; sleep 0.1; done
port=$(sed -n 's/.*port \([0-9]*\).*/\1/p' "$work/staging")
[ -n "$port" ] || { cat "$work/staging" >&2; exit 1; }
staged=127.0.0.1:$port
# What is to be tagged at the end: NAME@DIGEST TAG, a line each.
: > "$tags"
# send STAGED NAME TAG: pushes it by its digest, which is printed, unless TAG is there with another one.
send() {
  local digest found
  digest=$(crane digest "$1") || return 1
  if found=$(crane digest "$2:$3" 2> /dev/null) && [ "$found" != "$digest" ]; then
    echo "$2:$3 is published already, as $found and not as $digest: give the release another version" >&2; return 1
  fi
  crane copy "$1" "$2@$digest" >&2 && echo "$2@$digest $3" >> "$tags" && echo "$digest"
}
# The time of the commit, where something has to have one: the time of the day would give the same files another digest.
commit_time=@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || echo 0)}
tar_of() { tar --sort=name --mtime="$commit_time" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --create "$@"; }

say "the image for each architecture, and an index of them"
manifests=()
for arch in $architectures; do
  for file in "image-$arch.tar" "built-with_${version}_linux_$arch.txt"; do
    [ -f "$files/$file" ] || { echo "$files/$file is missing" >&2; exit 1; }
  done
  crane push "$files/image-$arch.tar" "$staged/image:$arch"
  manifests+=(--manifest "$staged/image:$arch")
done
crane index append "${manifests[@]}" --tag "$staged/image:index"
image_digest=$(send "$staged/image:index" "$image" "$version")
output image-name "$image"
output image-digest "$image_digest"

say "what is in it, for scanners: SBOMs, attached to the image of each architecture"
sign --recursive "$image@$image_digest"
for arch in $architectures; do
  sbom=$files/usercert-operator_${version}_linux_$arch.spdx.json
  syft scan --quiet "docker-archive:$files/image-$arch.tar" --source-name "$image" --source-version "$version" --output "spdx-json=$sbom"
  digest=$(send "$staged/image:$arch" "$image" "$version-$arch")
  cosign attest --yes "${with_key[@]}" --type spdxjson --predicate "$sbom" "$image@$digest"
done

say "the chart, which installs that image"
cp -r charts/usercert-operator "$work/chart"
files_of=$homepage/blob/v$version
# The registry is a value of its own, so that another one can take its place.
sed -i "s|^  registry: \"\"$|  registry: \"${image%%/*}\"|; s|^  repository: usercert-operator$|  repository: ${image#*/}|" "$work/chart/values.yaml"
# Some texts are true in the sources alone: where the chart comes from, and links to files beside the chart.
sed -i "s| install usercert-operator charts/usercert-operator | install usercert-operator oci://$chart --version $version |
        s|--set image.registry=REGISTRY --wait|--wait|
        s|](\.\./\.\./docs/|]($files_of/docs/|g
        s|](\(ci\|files\)/|]($files_of/charts/usercert-operator/\1/|g" "$work/chart/README.md.gotmpl"
# The address of the runbooks, and that of each page that a comment names.
sed -i "s|\bdocs/\([a-z-]*\.md\)|$files_of/docs/\1|g
        s|^  runbookBaseUrl: \"\"$|  runbookBaseUrl: $files_of/docs/alerts.md|" "$work/chart/values.yaml" "$work/chart/files/alerts.yaml" "$work/chart/templates/NOTES.txt"
sed -i 's|^# There are no home and no sources yet:.*|# The icon is icon.svg.|' "$work/chart/Chart.yaml"
helm-docs --chart-search-root "$work/chart" --sort-values-order file --log-level warning
grep -q "^  registry: \"${image%%/*}\"$" "$work/chart/values.yaml" || { echo "values.yaml has no image.registry to replace" >&2; exit 1; }
grep -q "^  repository: ${image#*/}$" "$work/chart/values.yaml" || { echo "values.yaml has no image.repository to replace" >&2; exit 1; }
if grep -rnE 'no published image|no sources yet|\]\(\.\./' "$work/chart"; then echo "the published chart would say what is true of the sources alone" >&2; exit 1; fi
if grep -rnE '(^|[^/[:alnum:]])docs/[a-z-]+\.md' "$work/chart"; then echo "the published chart would name pages without their address" >&2; exit 1; fi
grep -q "^  runbookBaseUrl: $files_of/" "$work/chart/values.yaml" || { echo "values.yaml has no prometheusRule.runbookBaseUrl to replace" >&2; exit 1; }
cat >> "$work/chart/Chart.yaml" <<METADATA
  artifacthub.io/images: |
    - name: usercert-operator
      image: $image:$version
      platforms: [$(printf 'linux/%s, ' $architectures | sed 's/, $//')]
  artifacthub.io/links: |
    - {name: Before an upgrade, url: "$homepage/blob/v$version/docs/upgrade.md"}
    - {name: Changes, url: "$homepage/blob/v$version/CHANGELOG.md"}
home: $homepage
sources: ["$homepage"]
METADATA
# Helm 3 packs with the time of the day, so the chart is packed once more with the time of the commit. helm push gives the chart the time of its archive.
helm package "$work/chart" --destination "$work"
mkdir "$work/packed"
tar --extract --gzip --file "$work/usercert-operator-$version.tgz" --directory "$work/packed"
tar_of --directory "$work/packed" usercert-operator | gzip --no-name > "$files/usercert-operator-$version.tgz"
touch --date="$commit_time" "$files/usercert-operator-$version.tgz"
TZ=UTC helm push --plain-http "$files/usercert-operator-$version.tgz" "oci://$staged/charts"
chart_digest=$(send "$staged/charts/usercert-operator:$version" "$chart" "$version")
sign "$chart@$chart_digest"
output chart-name "$chart"
output chart-digest "$chart_digest"
# By this artifact Artifact Hub knows whose the chart is. It is of no version: its tag moves when its file changes. Without a time given, oras takes that of
# the day.
owners_digest=$(oras push "${plain[@]}" "$chart" --format go-template='{{.digest}}' --annotation org.opencontainers.image.created=1970-01-01T00:00:00Z \
  --config /dev/null:application/vnd.cncf.artifacthub.config.v1+yaml artifacthub-repo.yml:application/vnd.cncf.artifacthub.repository-metadata.layer.v1.yaml)
sign "$chart@$owners_digest"
echo "$chart@$owners_digest artifacthub.io" >> "$tags"

say "the bundle for the Operator Lifecycle Manager, with the image by its digest"
helm template usercert-operator "$files/usercert-operator-$version.tgz" --namespace usercert-system --set "image.digest=$image_digest" \
  | olm-bundle --chart "$work/chart" --bundle "$work/bundle" --created-at "$(date --utc --date="$commit_time" +%Y-%m-%dT%H:%M:%SZ)"
tar_of --file "$work/bundle.tar" --directory "$work/bundle" manifests metadata
crane append --oci-empty-base --new_layer "$work/bundle.tar" --new_tag "$staged/bundle:layers"
labels=$(sed -n 's/^  \(operators[^:]*\): "\{0,1\}\([^"]*\)"\{0,1\}$/\1=\2/p' "$work/bundle/metadata/annotations.yaml" | paste -sd,)
crane mutate "$staged/bundle:layers" --label "$labels" --tag "$staged/bundle:labelled"
bundle_digest=$(send "$staged/bundle:labelled" "$image-bundle" "$version")
sign "$image-bundle@$bundle_digest"
output bundle-name "$image-bundle"
output bundle-digest "$bundle_digest"
gzip --no-name < "$work/bundle.tar" > "$files/usercert-operator-bundle_$version.tar.gz"

say "the manifest for krew, and the sums of all that is offered for download"
[ "$(wc -w <<< "$architectures")" -ne 2 ] || release/krew.sh "$version" "$files" "$homepage" > "$files/usercert.yaml"
(cd "$files" && find . -maxdepth 1 -type f ! -name 'image-*.tar' ! -name 'SHA256SUMS*' -printf '%f\n' | LC_ALL=C sort | xargs sha256sum > SHA256SUMS)
cosign sign-blob --yes "${with_key[@]}" --bundle "$files/SHA256SUMS.sigstore.json" "$files/SHA256SUMS"

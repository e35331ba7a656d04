#!/usr/bin/env bash
# All of a release that needs no network: builds what a release has, publishes it by release/publish.sh to a registry on loopback with a key made
# here, and looks at what came out as its users would. Advisories about the dependencies are fetched, where that can be. Ends with a table. A part that lacks something says "skipped: needs ...", and is no pass.
# With REQUIRE=all, as a release has it, a part that is skipped has failed, but for what only the release workflow itself can do.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$PWD/target/release-check files=$PWD/target/release-files
export PATH=$PWD/target/tools/bin:$PWD/target/tools/cargo-auditable/bin:$PATH CARGO_TERM_QUIET=true COSIGN_PASSWORD=
if [ "${REQUIRE:-}" = all ] && [ -n "${QUICK:-}" ]; then echo "REQUIRE=all takes no QUICK, which builds other programs than a release"; exit 1; fi
rm -rf "$out" "$files"
mkdir -p "$out" "$files"
source release/check-parts.sh

registry_pid=
trap '[ -z "$registry_pid" ] || kill "$registry_pid"' EXIT
results=() failed=0 skipped=0

# part NAME FUNCTION: what the function prints last is its line of the table. It ends with 75 for "skipped".
part() {
  local name=$1 log=$out/$2.log status verdict
  printf '%s ... (at %d s, %d GB are free on the disk)\n' "$name" "$SECONDS" "$(df --output=avail --block-size=GB . | tr -dc '[:digit:]')"
  (set -e; "$2") > "$log" 2>&1
  status=$?
  case $status in
    0) verdict=ok ;;
    75) if [ "${REQUIRE:-}" = all ] && [ "$2" != provenance ]; then verdict=FAILED failed=$((failed + 1)); else verdict=skipped skipped=$((skipped + 1)); fi ;;
    *) verdict=FAILED failed=$((failed + 1)); tail -n 20 "$log" | sed 's/^/    /' ;;
  esac
  results+=("$(printf '%-8s %-28s %s' "$verdict" "$name" "$(tail -n 1 "$log")")")
  printf '  %s\n' "${results[-1]}"
}

version=$(release/versions.sh) || exit 1
part "versions" versions
part "build image" build_image
part "tools" tools
part "workflows" workflows
part "generated files" generated
part "advisories" advisories
part "binaries for this machine" binaries_own
part "binaries for arm64" binaries_arm64
part "image without Docker" images
part "Dockerfile" dockerfile
part "names in the image" names

# In this shell, for it goes on until the end.
if command -v crane > /dev/null; then
  crane registry serve --address 127.0.0.1:0 > "$out/registry" 2>&1 &
  registry_pid=$!
  for _ in $(seq 50); do grep -q 'port' "$out/registry" && break; sleep 0.1; done
  registry=127.0.0.1:$(sed -n 's/.*port \([0-9]*\).*/\1/p' "$out/registry")/project
fi
part "published" publish
part "draft of the release" draft
part "image, pulled" pulled
part "signatures" signatures
part "SBOM" sbom
part "chart as OCI" chart
part "krew manifest" krew
part "OLM bundle" olm
part "sums" sums
part "docs" docs
part "provenance" provenance

printf '\nRelease %s:\n' "$version"
printf '  %s\n' "${results[@]}"
printf '%s parts, %s failed, %s skipped; logs in target/release-check\n' "${#results[@]}" "$failed" "$skipped"
[ "$failed" -eq 0 ]

#!/usr/bin/env bash
# versions.sh [VERSION]: whatever names the version names the same one, and what a reader of a release looks for is written. Whatever names the version
# of Go names the one that the tools ask for. Prints the version. With VERSION, which a tag has, no page may say that nothing is published.
set -euo pipefail
cd "$(dirname "$0")/.."
fail() { echo "$*" >&2; exit 1; }
chart=charts/usercert-operator/Chart.yaml

version=$(sed -n '/^\[workspace.package\]/,/^$/ s/^version = "\(.*\)"$/\1/p' Cargo.toml)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "Cargo.toml has no version X.Y.Z in [workspace.package]"
expected=${1:-$version}
[ "$version" = "$expected" ] || fail "Cargo.toml says $version, and this is to be $expected"
for key in version appVersion; do
  found=$(sed -n "s/^$key: //p" "$chart")
  [ "$found" = "$version" ] || fail "$key of $chart is $found instead of $version"
done
grep -qE "^## $version - [0-9]{4}-[0-9]{2}-[0-9]{2}$" CHANGELOG.md || fail "CHANGELOG.md has no section '## $version - DATE'"
grep -qx "## $version" docs/upgrade.md || fail "docs/upgrade.md has no section '## $version': what to look at before an upgrade to it"

go=$(sed -n 's/^go //p' tests/support/tools/*/go.mod tests/databases/drivers/go/go.mod | sort --version-sort | tail -n 1)
for file in README.md CONTRIBUTING.md docs/demo.md .github/workflows/ci.yaml .github/workflows/release.yaml; do
  found=$(grep -oE '\bGo [0-9]+(\.[0-9]+)*|go-version: .*' "$file" | sed 's/^Go //; s/^go-version: //' | tr -d '"' | sort -u | paste -sd' ')
  [ "$found" = "$go" ] || fail "$file names Go ${found:-nowhere}, and the tools need $go (the highest go.mod of tests/support/tools)"
done

if [ $# -gt 0 ]; then
  pages=(README.md CONTRIBUTING.md SECURITY.md docs charts/usercert-operator/README.md charts/usercert-operator/README.md.gotmpl charts/usercert-operator/values.yaml)
  unpublished='no published (image|chart|release|version)|no release yet|not (been )?published yet|(run|built|published) yet\b|\*\*not yet\*\*|(was|were) (not|never) (built|published)'
  if grep -rniE --include='*.md' --include='*.gotmpl' --include='*.yaml' "$unpublished" "${pages[@]}" >&2; then
    fail "these lines say that nothing is published, which a reader of $version would read in its pages: rewrite them"
  fi
fi
echo "$version"

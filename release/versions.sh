#!/usr/bin/env bash
# versions.sh [VERSION]: whatever names the version names the same one, and what a reader of a release looks for is written. Prints the version.
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
echo "$version"

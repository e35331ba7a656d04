#!/usr/bin/env bash
# notes.sh VERSION HOMEPAGE [FOLDER]: the text of a release, which is what to look at before the upgrade, the section of the changelog, and what the
# programs were built with, as FOLDER has it. Links lead to the files of that version.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1 homepage=$2 files=${3:-}
section() { awk -v heading="$2" 'index($0, heading) == 1 { inside = 1; next } /^## / { inside = 0 } inside' "$1"; }
upgrade=$(section docs/upgrade.md "## $version")
changes=$(section CHANGELOG.md "## $version - ")
[ -n "$upgrade" ] && [ -n "$changes" ] || { echo "docs/upgrade.md or CHANGELOG.md says nothing of $version" >&2; exit 1; }
printf '## Before the upgrade\n%s\n\n%s\n' "$upgrade" "$changes" \
  | sed -E "s~\]\((docs/)?([a-z][a-z/-]*\.md)~](${homepage//&/\\&}/blob/v$version/docs/\2~g"
[ -n "$files" ] || exit 0
printf '\n## Built with\n\n'
sed 's/^/- /' "$files/built-with_${version}_linux_"*.txt

#!/usr/bin/env bash
# draft.sh TAG REPOSITORY FOLDER: a draft of the release TAG with the files of FOLDER, in place of a draft that a failed job has left. A release that is
# published stays as it is. Needs gh with a token that may write releases.
set -euo pipefail
tag=$1 repository=$2 files=$(realpath "$3")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
release/notes.sh "${tag#v}" "https://github.com/$repository" "$files" > "$work/notes.md"
# Drafts are in this list, for whoever may write.
gh api --paginate "repos/$repository/releases?per_page=100" --jq ".[] | select(.tag_name == \"$tag\") | \"\(.draft) \(.id)\"" > "$work/there"
if grep -q '^false ' "$work/there"; then echo "the release $tag is published already, and stays as it is" >&2; exit 1; fi
while read -r _ id; do gh api --method DELETE "repos/$repository/releases/$id"; done < "$work/there"
mapfile -t offered < <(find "$files" -maxdepth 1 -type f ! -name 'image-*.tar' | sort)
gh release create "$tag" --repo "$repository" --draft --verify-tag --title "$tag" --notes-file "$work/notes.md" "${offered[@]}"

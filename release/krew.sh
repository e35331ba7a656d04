#!/usr/bin/env bash
# krew.sh VERSION FOLDER HOMEPAGE: the krew manifest of a release, with the SHA-256 of each archive in FOLDER.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1 files=$2 homepage=$3
manifest=$(< src/cli/krew.yaml)
manifest=$(sed '/^# Template/d' <<< "$manifest")
for arch in amd64 arm64; do
  archive=$files/kubectl-usercert_${version}_linux_$arch.tar.gz
  [ -f "$archive" ] || { echo "$archive is missing" >&2; exit 1; }
  manifest=${manifest//"\${SHA256_LINUX_${arch^^}}"/$(sha256sum "$archive" | cut -d' ' -f1)}
done
manifest=${manifest//'${VERSION}'/$version}
manifest=${manifest//'${HOMEPAGE}'/$homepage}
manifest=${manifest//'${DOWNLOADS}'/$homepage/releases/download/v$version}
[[ $manifest != *'${'* ]] || { echo "src/cli/krew.yaml has a place that nothing fills: $(grep -o '\${[A-Z0-9_]*}' <<< "$manifest" | head -1)" >&2; exit 1; }
printf '%s\n' "$manifest"

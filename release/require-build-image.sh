#!/usr/bin/env bash
# require-build-image.sh BUILD_IMAGE: it is named by its digest and is there for both architectures, or the release ends here, before hours of building.
# Needs docker with buildx, which asks the registry and pulls nothing.
set -euo pipefail
image=${1:-}
fail() { echo "$*"; echo "Set the variable BUILD_IMAGE of the repository, as docs/release.md says. Then run this workflow again."; exit 1; }
[[ $image =~ ^[^[:space:]@]+@sha256:[0-9a-f]{64}$ ]] || fail "BUILD_IMAGE is to be NAME@sha256:DIGEST, and is \"$image\""
index=$(docker buildx imagetools inspect --raw "$image" | tr -d '[:space:]') || fail "the registry gives no $image"
for arch in amd64 arm64; do
  grep "\"architecture\":\"$arch\"" <<< "$index" > /dev/null || fail "$image is not for $arch: take the digest of the index, and not that of one image"
done
echo "$image is for amd64 and arm64"

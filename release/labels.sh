#!/usr/bin/env bash
# labels.sh [SOURCE [BUILD_IMAGE]]: what an image says of itself to registries and scanners, as KEY=VALUE, a line each. SOURCE is the address of the
# repository. BUILD_IMAGE is the image, by its digest, that the program was built in: the C library of the program is from there.
# https://github.com/opencontainers/image-spec/blob/main/annotations.md
set -euo pipefail
cd "$(dirname "$0")/.."
source=${1:-} build_image=${2:-}
label() { if [ -n "$2" ]; then echo "org.opencontainers.image.$1=$2"; fi; }
version=$(release/versions.sh)
label title usercert-operator
label licenses "$(sed -n '/^\[workspace.package\]/,/^$/ s/^license = "\(.*\)"$/\1/p' Cargo.toml)"
label version "$version"
label revision "$(git rev-parse HEAD 2> /dev/null || true)"
label source "$source"
if [ -n "$build_image" ]; then echo "dev.usercert.build-image=$build_image"; fi

#!/usr/bin/env bash
# labels.sh [SOURCE]: what an image says of itself to registries and scanners, as KEY=VALUE, a line each. SOURCE is the address of the repository.
# https://github.com/opencontainers/image-spec/blob/main/annotations.md
set -euo pipefail
cd "$(dirname "$0")/.."
source=${1:-}
label() { if [ -n "$2" ]; then echo "org.opencontainers.image.$1=$2"; fi; }
version=$(release/versions.sh)
label title usercert-operator
label licenses "$(sed -n '/^\[workspace.package\]/,/^$/ s/^license = "\(.*\)"$/\1/p' Cargo.toml)"
label version "$version"
label revision "$(git rev-parse HEAD 2> /dev/null || true)"
label source "$source"

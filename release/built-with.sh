#!/usr/bin/env bash
# built-with.sh ARCHITECTURE BUILD_IMAGE [glibc]: the compiler and the C libraries that the programs of a release are linked with, a line each. No package
# manager has installed these libraries where the programs run, so no scanner finds them. It runs where the programs are built. With "glibc" the command
# line is linked with glibc too: `make release-check` has no musl for the architecture that is not its own.
set -euo pipefail
architecture=$1 build_image=$2 cli=${3:-musl}
fail() { echo "$*" >&2; exit 1; }
case $architecture in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; *) fail "the architecture is to be amd64 or arm64, and is $architecture" ;; esac
# The package has the version with all fixes of the distribution. Where there are no such packages, glibc tells its own.
package=libc6-dev
[ "$machine" = "$(uname -m)" ] || package=libc6-dev-$architecture-cross
# shellcheck disable=SC2016
glibc=$(dpkg-query --show --showformat '${Version} (${Package})' "$package" 2> /dev/null) || glibc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
[ -n "$glibc" ] || fail "the version of glibc is not to be found out"
linked="glibc $glibc"
if [ "$cli" = musl ]; then
  # rustc brings musl along. musl-gcc compiles C code of crates, and gives nothing to the last step.
  library=$(rustc --print sysroot)/lib/rustlib/$machine-unknown-linux-musl/lib/self-contained/libc.a
  musl=$(ar p "$library" version.lo | tr '\0' '\n' | grep --text --line-regexp --extended-regexp '[0-9]+\.[0-9]+\.[0-9]+') || fail "$library tells no version"
  linked="musl $musl (of rustc)"
fi
echo "$architecture: built ${build_image:+in }${build_image:-on a machine without a build image}"
echo "$architecture: built with $(rustc --version)"
echo "$architecture: usercert-operator is linked with glibc $glibc"
echo "$architecture: kubectl-usercert is linked with $linked"

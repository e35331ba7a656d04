#!/usr/bin/env bash
# look-at-archive.sh ARCHIVE VERSION [glibc]: what is in an archive of the command line, before it is offered. It holds the program and the license, and
# the program is what look-at-program.sh asks for. With musl, as a release has it, the program knows no NSS modules. `make release-check` has no musl for
# the architecture that is not its own, and says so with "glibc".
set -euo pipefail
archive=$1 version=$2 libc=${3:-musl}
fail() { echo "$archive: $*" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[[ $archive =~ /kubectl-usercert_${version//./\\.}_linux_(amd64|arm64)\.tar\.gz$ ]] || fail "its name is not .../kubectl-usercert_${version}_linux_ARCHITECTURE.tar.gz"
architecture=${BASH_REMATCH[1]}
found=$(tar --list --gzip --file "$archive" | LC_ALL=C sort | paste -sd' ')
[ "$found" = "LICENSE kubectl-usercert" ] || fail "it holds $found instead of LICENSE kubectl-usercert"
tar --extract --gzip --file "$archive" --directory "$work"
cmp "$work/LICENSE" "$(dirname "$0")/../LICENSE"
[ -x "$work/kubectl-usercert" ] || fail "its program may not be run"
ran=$("$(dirname "$0")/look-at-program.sh" "$work/kubectl-usercert" "$architecture" "kubectl-usercert $version")
# glibc would load modules of the machine that it runs on.
if [ "$libc" = musl ] && grep --text --quiet libnss_ "$work/kubectl-usercert"; then fail "the program would load NSS modules, so it is not linked with musl"; fi
echo "$archive, for $architecture: $found, $libc; $ran"

#!/usr/bin/env bash
# look-at-program.sh PROGRAM ARCHITECTURE LINE: the program is static, names its dependencies, is for ARCHITECTURE (amd64 or arm64), and answers --version
# with LINE. It is run if it is of this machine's architecture; what is printed says whether.
set -euo pipefail
program=$1 architecture=$2 line=$3
fail() { echo "$program: $*" >&2; exit 1; }
if readelf --program-headers "$program" | grep INTERP > /dev/null || readelf --dynamic "$program" | grep NEEDED > /dev/null; then fail "it is not static"; fi
readelf --sections --wide "$program" | grep '\.dep-v0' > /dev/null || fail "it has no list of its dependencies"
machine=$(readelf --file-header "$program" | sed -n 's/^ *Machine: *//p')
case $architecture/$machine in
  amd64/*X86-64 | arm64/AArch64) ;;
  *) fail "it is to be for $architecture, and is for $machine" ;;
esac
case $architecture/$(uname -m) in
  amd64/x86_64 | arm64/aarch64)
    says=$("$program" --version)
    [ "$says" = "$line" ] || fail "it says $says instead of $line"
    echo "it says $line" ;;
  *) echo "it was not run, for this machine is another one" ;;
esac

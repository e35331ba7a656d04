#!/usr/bin/env bash
# look-at-image.sh ARCHIVE VERSION: what is in the archive of an image, before it is pushed. It holds three files, runs as 65532, and its program is
# static, names its dependencies, and says VERSION. The program is run if it is of this machine's architecture.
set -euo pipefail
archive=$1 version=$2
fail() { echo "$archive: $*" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/archive" "$work/root"
tar --extract --file "$archive" --directory "$work/archive"
manifest=$(tr -d ' \n' < "$work/archive/manifest.json")
config=$(sed -n 's/.*"Config":"\([^"]*\)".*/\1/p' <<< "$manifest")
layers=$(sed -n 's/.*"Layers":\[\([^]]*\)\].*/\1/p' <<< "$manifest" | tr -d '"' | tr , ' ')
[ -n "$config" ] && [ -n "$layers" ] || fail "its manifest.json names no configuration or no layers"
for layer in $layers; do tar --extract --file "$work/archive/$layer" --directory "$work/root"; done

found=$(cd "$work/root" && find . ! -type d -printf '%P\n' | sort | paste -sd' ')
expected="etc/nsswitch.conf etc/ssl/certs/ca-certificates.crt usercert-operator"
[ "$found" = "$expected" ] || fail "it holds $found instead of $expected"
settings=$(tr -d ' \n' < "$work/archive/$config")
[[ $settings == *'"User":"65532:65532"'* ]] || fail "it does not run as 65532:65532"
[[ $settings == *'"Entrypoint":["/usercert-operator"]'* ]] || fail "it does not start /usercert-operator"

program=$work/root/usercert-operator
if readelf --program-headers "$program" | grep INTERP > /dev/null || readelf --dynamic "$program" | grep NEEDED > /dev/null; then fail "the program is not static"; fi
readelf --sections --wide "$program" | grep '\.dep-v0' > /dev/null || fail "the program has no list of its dependencies"
architecture=$(sed -n 's/.*"architecture":"\([^"]*\)".*/\1/p' <<< "$settings")
case $architecture/$(readelf --file-header "$program" | sed -n 's/^ *Machine: *//p') in
  amd64/*X86-64 | arm64/AArch64) ;;
  *) fail "it is for $architecture, and the program is not" ;;
esac
case $architecture/$(uname -m) in
  amd64/x86_64 | arm64/aarch64)
    says=$("$program" --version)
    [ "$says" = "usercert-operator $version" ] || fail "the program says $says instead of usercert-operator $version"
    ran=", and the program says $version" ;;
  *) ran="; the program was not run, for this machine is another one" ;;
esac
echo "$archive, for $architecture: $expected$ran"

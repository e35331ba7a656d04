#!/usr/bin/env bash
# look-at-image.sh ARCHIVE VERSION SOURCE [BUILD_IMAGE]: what is in the archive of an image, before it is pushed. It holds three files, runs as 65532, says
# where it comes from in its labels, and in which image it was built if there is one, and its program is what look-at-program.sh asks for.
set -euo pipefail
archive=$1 version=$2 source=$3 build_image=${4:-}
here=$(dirname "$0")
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

found=$(cd "$work/root" && find . ! -type d -printf '%P\n' | LC_ALL=C sort | paste -sd' ')
expected="etc/nsswitch.conf etc/ssl/certs/ca-certificates.crt usercert-operator"
[ "$found" = "$expected" ] || fail "it holds $found instead of $expected"
settings=$(tr -d ' \n' < "$work/archive/$config")
[[ $settings == *'"User":"65532:65532"'* ]] || fail "it does not run as 65532:65532"
[[ $settings == *'"Entrypoint":["/usercert-operator"]'* ]] || fail "it does not start /usercert-operator"
labels=$("$here/labels.sh" "$source" "$build_image")
keys=(org.opencontainers.image.{title,licenses,version,revision,source})
if [ -n "$build_image" ]; then keys+=(dev.usercert.build-image); fi
for key in "${keys[@]}"; do
  label=$(grep --fixed-strings "$key=" <<< "$labels") || fail "labels.sh knows no $key"
  [[ $settings == *"\"${label%%=*}\":\"${label#*=}\""* ]] || fail "it has no label $label"
done

architecture=$(sed -n 's/.*"architecture":"\([^"]*\)".*/\1/p' <<< "$settings")
ran=$("$here/look-at-program.sh" "$work/root/usercert-operator" "$architecture" "usercert-operator $version") || fail "its program is not in order"
echo "$archive, for $architecture: $expected; $ran"

#!/usr/bin/env bash
# check-krew.sh TOOLS MANIFEST ARCHIVE: krew's own validator takes the manifest of a release, krew installs the plugin from the archive
# without a network, and kubectl finds the plugin and its completions. TOOLS: the folder with krew, validate-krew-manifest and kubectl.
set -euo pipefail
tools=$(realpath "$1") manifest=$(realpath "$2") archive=$(realpath "$3")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export KREW_ROOT=$folder/krew HOME=$folder KREW_NO_UPGRADE_CHECK=1 KUBECONFIG=/dev/null PATH=$folder/krew/bin:$tools:$PATH

# It compares the name in the manifest with the file's. It would fetch the archives, which are not published yet.
cp "$manifest" "$folder/usercert.yaml"
"$tools/validate-krew-manifest" -manifest "$folder/usercert.yaml" -skip-install

# krew compares the archive's digest with the manifest's.
"$tools/krew" install --manifest "$folder/usercert.yaml" --archive "$archive" 2>&1 | sed 's/^/  /'
version=$(sed -n 's/^  version: v//p' "$manifest")
found=$("$tools/kubectl" usercert --version)
[ "$found" = "kubectl-usercert $version" ] || { echo "kubectl finds $found instead of version $version" >&2; exit 1; }
"$tools/kubectl" usercert --help | grep -q "who expires when" || { echo "the installed plugin gives no help" >&2; exit 1; }
find -L "$KREW_ROOT/store/usercert" -name LICENSE | grep -q . || { echo "krew's index wants LICENSE in the archive" >&2; exit 1; }
echo "krew takes the manifest of $version and installs the plugin, and kubectl finds it"

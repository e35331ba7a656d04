#!/usr/bin/env bash
# What can be known of the chart without a cluster: its value sets by lint, schemas and kube-score, its unit tests, and its README and icon.
# Arguments: the folder of the tools, the folder of the schemas, a folder for what is rendered.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$1 schemas=$2 rendered=$3
chart=charts/usercert-operator
fail() { echo "$*" >&2; exit 1; }

mkdir -p "$rendered"
findings=$rendered/findings
: > "$findings"
for values in "$chart"/ci/*-values.yaml; do
  set=$(basename "$values" -values.yaml)
  manifests=$rendered/$set.yaml
  "$tools/helm" lint --quiet --strict "$chart" --values "$values"
  "$tools/helm" template usercert-operator "$chart" --namespace usercert-system --values "$values" > "$manifests"
  "$tools/kubeconform" -strict -schema-location "$schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json" "$manifests" \
    || fail "$values makes objects that the API server's schemas do not allow"
  # It ends with 1 where it finds something. A limit of CPU time would throttle renewals.
  { "$tools/kube-score" score --output-format ci --ignore-container-cpu-limit "$manifests" || true; } > "$rendered/$set.score"
  grep -q '^\[OK\]' "$rendered/$set.score" || fail "kube-score has not run: $(head -c 500 "$rendered/$set.score")"
  sed -n "s/^\[\(CRITICAL\|WARNING\)\]/$set: &/p" "$rendered/$set.score" >> "$findings"
done

argued=$(grep -v -e '^#' -e '^$' tests/chart/kube-score.argued)
if unargued=$(grep -vE "$argued" "$findings"); then fail "kube-score finds what tests/chart/kube-score.argued does not argue:"$'\n'"$unargued"; fi
while IFS= read -r pattern; do
  grep -qE "$pattern" "$findings" || fail "tests/chart/kube-score.argued argues what kube-score does not find: $pattern"
done <<< "$argued"
echo "kube-score: $(wc -l < "$findings") findings in $(ls "$chart"/ci | wc -l) value sets, all argued"

# A chart that has it among its dependencies, with the condition that Helm's guide names.
parent=$rendered/parent
rm -rf "$parent"
mkdir -p "$parent/charts"
cp -r "$chart" "$parent/charts/"
version=$(sed -n 's/^version: //p' "$chart/Chart.yaml")
cat > "$parent/Chart.yaml" <<CHART
apiVersion: v2
name: platform
version: 1.0.0
dependencies: [{name: usercert-operator, version: $version, condition: usercert-operator.enabled}]
CHART
for enabled in true false; do
  "$tools/helm" template platform "$parent" --set "usercert-operator.enabled=$enabled,global.imageRegistry=mirror.example.com,tags.platform=true" > "$rendered/parent-$enabled.yaml"
done
grep -q '^kind: Deployment$' "$rendered/parent-true.yaml" || fail "a parent chart does not install the chart that its condition enables"
if grep -q '^kind: ' "$rendered/parent-false.yaml"; then fail "a parent chart installs the chart that its condition disables"; fi

"$tools/helm-unittest" --strict --file 'tests/*_test.yaml' "$chart"

"$tools/helm-docs" --chart-search-root "$chart" --sort-values-order file --log-level warning --dry-run | diff -u "$chart/README.md" - || fail "run: make generate"
undocumented=$(sed -n 's/^| \([A-Za-z.]*\) |.*|  |$/\1/p' "$chart/README.md")
[ -z "$undocumented" ] || fail "values without a comment: $undocumented"
grep -qF "base64,$(base64 --wrap=0 "$chart/icon.svg")" "$chart/Chart.yaml" || fail "the icon of Chart.yaml is not icon.svg: base64 --wrap=0 icon.svg"
echo "the chart is in order"

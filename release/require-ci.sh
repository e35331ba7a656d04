#!/usr/bin/env bash
# require-ci.sh REPOSITORY COMMIT: the workflow ci has passed for this commit on main, or the release ends here. Needs gh with a token that may read actions.
set -euo pipefail
repository=$1 commit=$2
runs=$(gh api "repos/$repository/actions/workflows/ci.yaml/runs?head_sha=$commit&branch=main&event=push&per_page=100" \
  --jq '.workflow_runs[] | "\(.conclusion // .status) \(.html_url)"')
if grep '^success ' <<< "$runs"; then exit 0; fi
echo "ci has not passed on main for $commit. Its runs:"
echo "${runs:-none}"
echo "Let ci pass for this commit. Then run this workflow again."
exit 1

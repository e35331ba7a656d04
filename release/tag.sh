#!/usr/bin/env bash
# tag.sh TAGS: the last step of publishing. TAGS is what publish.sh wrote: NAME@DIGEST TAG, a line each. A tag that is there already with that digest is
# left, so that a job that failed in between can be run again. One with another digest ends it before any tag is set: the tag of a version never moves. The
# tag artifacthub.io is of no version.
set -euo pipefail
tags=$(realpath "$1")
cd "$(dirname "$0")/.."
PATH=$PWD/target/tools/bin:$PATH
[ -s "$tags" ] || { echo "$tags names no tags" >&2; exit 1; }
under() { crane digest "$1" 2> /dev/null || true; }

while read -r signed tag; do
  [ "$tag" != artifacthub.io ] || continue
  found=$(under "${signed%@*}:$tag")
  if [ -n "$found" ] && [ "$found" != "${signed#*@}" ]; then
    echo "${signed%@*}:$tag is published already, as $found and not as ${signed#*@}: give the release another version" >&2; exit 1
  fi
done < "$tags"
while read -r signed tag; do
  if [ "$(under "${signed%@*}:$tag")" = "${signed#*@}" ]; then
    echo "${signed%@*}:$tag is there"
  elif [ "$tag" = artifacthub.io ]; then
    crane tag "$signed" "$tag"
  else
    # Where the registry did not answer before, it says now that the tag is there.
    crane copy --no-clobber "$signed" "${signed%@*}:$tag"
  fi
done < "$tags"

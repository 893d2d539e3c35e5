# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts share: words for the person, packages, the build. Sourced, never run.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034  # read by the scripts that source this
started=$SECONDS

say() { printf '%s\n' "$*"; }
step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[[ -t 1 ]] || step() { printf '\n%s\n' "$*"; }
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit "${die_code:-2}"
}

# Runs a command quietly; shows what it printed when it fails.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "missing packages, and neither root nor sudo is here. Install them first: apt-get install ${missing[*]}"
  fi
}

# The package, or a command of its name from elsewhere (npm beside another vendor's nodejs).
is_installed() {
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]] || command -v "$1" >/dev/null
}
# (Not through a pipe: with pipefail, grep -q that found its line early makes apt-cache fail.)
is_known() { [[ $(apt-cache policy "$1" 2>/dev/null) =~ Candidate:\ [^\(] ]]; }

# Installs the missing packages of the named groups (scripts/lib/packages).
need_packages() {
  local group word alternative chosen
  local -a words=()
  missing=()
  for group in "$@"; do
    read -r -d '' -a words < <(sed -n "s/^$group //p" "$top/scripts/lib/packages") || true
    for word in "${words[@]}"; do
      for alternative in ${word//|/ }; do is_installed "$alternative" && continue 2; done
      missing+=("$word")
    done
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  command -v apt-get >/dev/null || die "this needs Debian's packages: ${missing[*]}"
  say "Installing ${#missing[@]} packages (Debian's own, with apt-get) …"
  quietly as_root apt-get update -qq || die_code=4 die "apt-get update failed; is a package source reachable?"
  local -a names=()
  for word in "${missing[@]}"; do
    chosen=
    for alternative in ${word//|/ }; do is_known "$alternative" && { chosen=$alternative; break; }; done
    if [[ -z $chosen ]]; then
      [[ ${1:-} == optional-* ]] && { say "  (not in this release: $word)"; continue; }
      die_code=4 die "no package source has $word"
    fi
    names+=("$chosen")
  done
  [[ ${#names[@]} -gt 0 ]] || return 0
  quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${names[@]}" \
    || die_code=4 die "apt-get install failed (the last lines are above)"
}

# Agents and their callers are other users than root. Some bare containers have a / that only root may enter; Debian's own mode is 0755.
open_root_folder() {
  [[ $EUID -eq 0 && $(stat -c %A /) != *x ]] || return 0
  say "/ is closed to all users but root here ($(stat -c %a /)): it gets Debian's mode, 0755, so that the agent need not run as root."
  chmod 0755 /
}

# build FOLDER CMAKE-OPTION… -- TARGET…: configures once and builds.
build() {
  local folder=$1
  shift
  local -a options=()
  while [[ $# -gt 0 && $1 != -- ]]; do options+=("$1"); shift; done
  [[ ${1:-} == -- ]] && shift
  quietly cmake -S "$top" -B "$folder" -G Ninja "${options[@]}" || die_code=4 die "cmake failed (the last lines are above)"
  if [[ -t 1 ]]; then
    ninja -C "$folder" "$@"
  else
    reporting_progress ninja -C "$folder" "$@"
  fi || die_code=4 die "the build failed (the last lines are above)"
}

# Runs ninja without a terminal: a line with n/total every 10 s, its output only when it fails.
reporting_progress() {
  local log pid status=0 tick=0 from=$SECONDS
  log=$(mktemp)
  "$@" >"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.5
    tick=$((tick + 1))
    if [[ $((tick % 20)) -eq 0 ]]; then progress_of "$log" "$((SECONDS - from))"; fi
  done
  wait "$pid" || status=$?
  [[ $status -eq 0 ]] || tail -n 40 "$log" >&2
  rm -f "$log"
  return "$status"
}

# progress_of LOG SECONDS: "  132/640, 60 s, about 230 s left", from ninja's last [n/total].
progress_of() {
  local last built total
  last=$(grep -ao '^\[[0-9]*/[0-9]*\]' "$1" | tail -n 1) || return 0
  last=${last//[\[\]]/}
  built=${last%/*} total=${last#*/}
  [[ $built -eq 0 ]] || say "  $last, $2 s, about $(($2 * (total - built) / built)) s left"
}

#!/usr/bin/env bash
# Fetches the real programs that Firewatch is compared with, from Debian's unstable suite, into the user's cache folder
# and prints the folder their programs lie in. Nothing is installed; what is there already is not fetched again.
#   tests/bench/peers.sh [PACKAGE...]
set -euo pipefail

fail() { echo "peers.sh: $*" >&2; exit 1; }

root=${XDG_CACHE_HOME:-$HOME/.cache}/firewatch/peers
wanted=("$@")
if [[ $# == 0 ]]; then
  wanted=(prometheus victoria-metrics prometheus-node-exporter prometheus-blackbox-exporter prometheus-alertmanager)
fi

# A package whose archive lies in the cache needs no network; `unpacked` says that it was unpacked to its end.
missing=()
mkdir -p "$root/debs" "$root/unpacked"
for package in "${wanted[@]}"; do
  compgen -G "$root/debs/${package}_*.deb" >/dev/null || missing+=("$package")
done

if ((${#missing[@]})); then
  command -v apt-get >/dev/null || fail "there is no apt-get to fetch ${missing[*]} with"
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  [[ -r $keys ]] || fail "cannot check Debian's signatures: $keys is missing (package debian-archive-keyring)"
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m 1 '/debian/*$' || true)
  lists=$root/lists
  mkdir -p "$lists"/{parts,state/lists/partial,cache/archives/partial}
  : >>"$lists/status"
  echo "deb [signed-by=$keys] ${mirror:-http://deb.debian.org/debian} sid main" >"$lists/sources.list"
  options=(-qq
    -o "Dir::Etc::SourceList=$lists/sources.list" -o "Dir::Etc::SourceParts=$lists/parts"
    -o "Dir::State=$lists/state" -o "Dir::State::status=$lists/status" -o "Dir::Cache=$lists/cache"
    -o APT::Update::Error-Mode=any)
  # as root, apt would fetch as a user that may not write here
  if [[ $(id -u) == 0 ]]; then options+=(-o APT::Sandbox::User=root); fi
  apt-get "${options[@]}" update >/dev/null || fail "cannot read the package list of ${mirror:-deb.debian.org}"
  staging=$(mktemp -d "$root/fetch.XXXXXX")
  trap 'rm -rf "$staging"' EXIT
  for package in "${missing[@]}"; do
    (cd "$staging" && apt-get "${options[@]}" download "$package" >/dev/null) || fail "cannot fetch $package"
    mv "$staging/${package}"_*.deb "$root/debs/"
  done
fi

for package in "${wanted[@]}"; do
  [[ -e $root/unpacked/$package ]] && continue
  archives=("$root/debs/${package}"_*.deb)
  dpkg-deb --extract "${archives[-1]}" "$root" || fail "cannot unpack ${archives[-1]}"
  touch "$root/unpacked/$package"
done
echo "$root/usr/bin"

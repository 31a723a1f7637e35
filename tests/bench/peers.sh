#!/usr/bin/env bash
# Fetches the real programs that Firewatch is tested with from Debian into the user's cache folder and prints the folder
# their programs lie in. Nothing is installed; what is there already is not fetched again.
#   tests/bench/peers.sh [PACKAGE...]              what it is compared with, from Debian's unstable suite
#   tests/bench/peers.sh --third-party [PACKAGE...] what it scrapes: exporters and the servers behind them, from the machine's own
#                                                  release, with those of their libraries that are not installed
set -euo pipefail

fail() { echo "peers.sh: $*" >&2; exit 1; }

third_party=
[[ ${1:-} == --third-party ]] && { third_party=1; shift; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/firewatch
wanted=("$@")
if [[ $third_party ]]; then
  root=$cache/third-party
  [[ $# != 0 ]] || wanted=(prometheus-redis-exporter prometheus-postgres-exporter prometheus-mysqld-exporter
    prometheus-mongodb-exporter prometheus-pushgateway redis-server redis-tools postgresql)
else
  root=$cache/peers
  [[ $# != 0 ]] || wanted=(prometheus victoria-metrics prometheus-node-exporter prometheus-blackbox-exporter
    prometheus-alertmanager)
fi

# A package whose archive lies in the cache needs no network; `unpacked` says that it was unpacked to its end.
missing=()
mkdir -p "$root/debs" "$root/unpacked"
for package in "${wanted[@]}"; do
  compgen -G "$root/debs/${package}_*.deb" >/dev/null || missing+=("$package")
done

if ((${#missing[@]})); then
  command -v apt-get >/dev/null || fail "there is no apt-get to fetch ${missing[*]} with"
  lists=$root/lists
  mkdir -p "$lists"/{parts,state/lists/partial,cache/archives/partial}
  options=(-qq -o "Dir::State=$lists/state" -o "Dir::Cache=$lists/cache" -o APT::Update::Error-Mode=any)
  if [[ $third_party ]]; then
    mirror="the machine's package sources"
    options+=(-o Dir::State::status=/var/lib/dpkg/status -o Debug::NoLocking=1)
  else
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    [[ -r $keys ]] || fail "cannot check Debian's signatures: $keys is missing (package debian-archive-keyring)"
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m 1 '/debian/*$' || true)
    mirror=${mirror:-http://deb.debian.org/debian}
    : >>"$lists/status"
    echo "deb [signed-by=$keys] $mirror sid main" >"$lists/sources.list"
    options+=(-o "Dir::Etc::SourceList=$lists/sources.list" -o "Dir::Etc::SourceParts=$lists/parts"
      -o "Dir::State::status=$lists/status")
  fi
  # as root, apt would fetch as a user that may not write here
  if [[ $(id -u) == 0 ]]; then options+=(-o APT::Sandbox::User=root); fi
  apt-get "${options[@]}" update >/dev/null || fail "cannot read the package list of $mirror"
  if [[ $third_party ]]; then
    # not every release has every exporter
    mapfile -t there < <(apt-cache "${options[@]:1}" --no-all-versions show "${missing[@]}" 2>/dev/null |
      sed -n 's/^Package: //p')
    for package in "${missing[@]}"; do
      [[ " ${there[*]} " == *" $package "* ]] || echo "peers.sh: $mirror have no $package" >&2
    done
    missing=("${there[@]}")
    # what apt would install beside them, as far as programs need it to start: libraries, but for a compiler (unused) and scripts
    plan=
    ((!${#missing[@]})) || plan=$(apt-get "${options[@]}" --simulate --no-install-recommends --reinstall install "${missing[@]}") ||
      fail "cannot plan to fetch ${missing[*]}"
    mapfile -t more < <(awk '$1 == "Inst" && $2 ~ /^(lib|postgresql-[0-9])/ && $2 !~ /^lib(llvm|js-|.*-perl$)/ { print $2 }' <<<"$plan")
    # the server's own package has its release in its name, and may be installed
    if [[ " ${missing[*]} " == *" postgresql "* ]]; then
      server=$(apt-cache "${options[@]:1}" depends postgresql | grep -o -m 1 'postgresql-[0-9]*$')
      more+=("$server" "postgresql-client-${server##*-}")
    fi
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" "${more[@]}" | sed '/^$/d' | sort -u)
  fi
  staging=$(mktemp -d "$root/fetch.XXXXXX")
  trap 'rm -rf "$staging"' EXIT
  for package in "${missing[@]}"; do
    (cd "$staging" && apt-get "${options[@]}" download "$package" >/dev/null) || fail "cannot fetch $package"
  done
  ((!${#missing[@]})) || mv "$staging"/*.deb "$root/debs/"
fi

# what third parties' programs need lies beside them
if [[ $third_party ]]; then
  wanted=()
  for archive in "$root"/debs/*.deb; do archive=${archive##*/}; wanted+=("${archive%%_*}"); done
fi
for package in "${wanted[@]}"; do
  [[ -e $root/unpacked/$package ]] && continue
  archives=("$root/debs/${package}"_*.deb)
  dpkg-deb --extract "${archives[-1]}" "$root" || fail "cannot unpack ${archives[-1]}"
  touch "$root/unpacked/$package"
done
echo "$root/usr/bin"

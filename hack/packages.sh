#!/usr/bin/env bash
# Installs the Debian packages that the tests against real programs need (test/real), where they are missing. What it
# installs is not started, now or at the next boot: the tests run the programs themselves.
set -euo pipefail

say() { echo "packages: $*" >&2; }

missing=()
# need PACKAGE FILE-OR-PROGRAM: a file may be a pattern.
need() {
  if [[ $2 == /* ]]; then compgen -G "$2" >/dev/null; else PATH=$PATH:/usr/sbin command -v "$2" >/dev/null; fi || missing+=("$1")
}
need orthanc Orthanc
need orthanc-postgresql /usr/share/orthanc/plugins/libOrthancPostgreSQLIndex.so
need orthanc-dicomweb /usr/share/orthanc/plugins/libOrthancDicomWeb.so
need dcmtk storescu
need prometheus promtool
# Debian keeps PostgreSQL's programs out of PATH. Any version will do.
command -v initdb >/dev/null || need postgresql '/usr/lib/postgresql/*/bin/initdb'

if [[ ${#missing[@]} -eq 0 ]]; then exit 0; fi
if ! command -v apt-get >/dev/null; then
  say "not found: what Debian's packages ${missing[*]} hold. There is no apt-get here: install it in another way"
  exit 1
fi
if [[ $EUID -ne 0 ]]; then
  say "not installed: ${missing[*]}. Run this as root, or: apt-get install --no-install-recommends ${missing[*]}"
  exit 1
fi

# Packages ask this program whether they may start their services; 101 is no (Debian Policy, 9.3.3).
policy=/usr/sbin/policy-rc.d
kept=
restore() {
  rm -f "$policy"
  if [[ -n $kept ]]; then mv "$kept" "$policy"; fi
}
trap restore EXIT
if [[ -e $policy ]]; then
  kept=$(mktemp "$policy.XXXXXX")
  mv "$policy" "$kept"
fi
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

enabled() {
  if [[ -d /run/systemd/system ]]; then
    systemctl list-unit-files --state=enabled --no-legend | awk '{ print $1 }' | LC_ALL=C sort
  fi
}
before=$(enabled)

say "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${missing[@]}"

for unit in $(LC_ALL=C comm -13 <(echo "$before") <(enabled)); do
  systemctl disable "$unit"
done

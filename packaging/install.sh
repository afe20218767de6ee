#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs the key service on this machine, as root: the program, its systemd unit,
# its user and the folder of its configuration. Nothing is started, and nothing that
# is there is changed but program and unit.
#
#   packaging/install.sh PROGRAM
#
# With DESTDIR set, files go below that folder, and no user is made.
set -eu

[ $# -eq 1 ] || { echo "usage: packaging/install.sh PROGRAM" >&2; exit 2; }
case $1 in */*) program=$1 ;; *) program=./$1 ;; esac
unit=$(dirname "$0")/cretula-kms.service
dest=${DESTDIR:-}

"$program" kms serve --help >/dev/null || { echo "$program does not run here" >&2; exit 1; }

install -d -m 0755 "$dest/usr/local/bin" "$dest/etc/systemd/system"
# Not written over: a program that runs stays what it is until it is restarted.
install -m 0755 "$program" "$dest/usr/local/bin/.cretula.new"
mv -f "$dest/usr/local/bin/.cretula.new" "$dest/usr/local/bin/cretula"
install -m 0644 "$unit" "$dest/etc/systemd/system/cretula-kms.service"

if [ -z "$dest" ]; then
	getent passwd cretula >/dev/null ||
		useradd --system --user-group --home-dir /var/lib/cretula --no-create-home --shell /usr/sbin/nologin cretula
fi
[ -d "$dest/etc/cretula" ] || install -d -m 0750 "$dest/etc/cretula"
for dir in cretula cretula-root; do # as StateDirectory of the unit has them
	[ -d "$dest/var/lib/$dir" ] || install -d -m 0700 "$dest/var/lib/$dir"
done
if [ -z "$dest" ]; then
	chgrp cretula /etc/cretula
	chown cretula:cretula /var/lib/cretula /var/lib/cretula-root
	systemctl daemon-reload
fi
echo "installed; next: /etc/cretula/kms.toml, cretula kms init, systemctl enable --now cretula-kms"

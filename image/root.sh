#!/bin/sh
# Lays out the root of an image: root.sh PROGRAM FOLDER. The Dockerfile and `make image-tar` both run it, so that their images hold the same files:
# the program, the shared libraries that it is linked with (a release's has none), the certificates of public CAs, and where names are looked up. There is
# no shell and no package manager.
set -eu
program=$1
root=$2

install -D -m 0755 "$program" "$root/$(basename "$program")"
# A program that asks for no loader has no libraries. ldd cannot tell that from a program of another architecture.
if readelf --program-headers "$program" | grep -q INTERP; then
  # ldd prints `NAME => PATH (ADDRESS)` for a library, and `PATH (ADDRESS)` for the loader. The kernel's own (linux-vdso) has no path.
  libraries=$(ldd "$program" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }')
  [ -n "$libraries" ] || { echo "ldd finds no library of $program: is it of another architecture?" >&2; exit 1; }
  for library in $libraries; do
    # Links are followed: the loader looks for the name alone.
    install -D -m 0755 "$library" "$root$library"
  done
fi
install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
# Without this file glibc asks DNS before it looks into /etc/hosts, where a Pod's hostAliases are. Both are in glibc itself; a module of another name could
# not be loaded.
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
chmod 0644 "$root/etc/nsswitch.conf"

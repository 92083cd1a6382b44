#!/bin/sh
# mmdebstrap customize hook, after base.sh: what a machine of its own needs beside a container. $1 is the new root.
set -eu
root=$1
in_root() { chroot "$root" "$@"; }

echo "LABEL=root / ext4 errors=remount-ro,x-systemd.growfs 0 1" >"$root/etc/fstab"
mkdir -p "$root/etc/repart.d"
printf '[Partition]\nType=root\n' >"$root/etc/repart.d/50-root.conf"
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/80-dhcp.network"
in_root systemctl enable -q systemd-networkd systemd-timesyncd
in_root systemctl mask -q systemd-networkd-wait-online.service

mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<'CFG'
set timeout=0
linux /vmlinuz root=LABEL=root ro console=tty0 console=ttyS0,115200
initrd /initrd.img
boot
CFG
rm -rf "$root"/var/log/* "$root"/boot/*.old "$root"/*.old "$root"/var/lib/dpkg/*-old

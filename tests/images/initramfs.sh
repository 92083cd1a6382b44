#!/bin/sh
# mmdebstrap essential hook: settings of initramfs-tools, before the kernel's installation makes an initramfs. $1 is the new root.
set -eu
mkdir -p "$1/etc/initramfs-tools/conf.d"
printf 'COMPRESS=zstd\nMODULES=most\n' >"$1/etc/initramfs-tools/conf.d/machine"
printf 'virtio_pci\nvirtio_blk\nvirtio_net\nvirtio_console\nautofs4\nbinfmt_misc\n' >"$1/etc/initramfs-tools/modules"

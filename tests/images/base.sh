#!/bin/sh
# mmdebstrap customize hook: turns a minimal Debian into a base that an operator would sign. $1 is the new root.
set -eu
root=$1
in_root() { chroot "$root" "$@"; }

in_root useradd --system --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin web
in_root systemctl set-default multi-user.target
echo "LANG=C.UTF-8" >"$root/etc/default/locale"
ln -sf /usr/share/zoneinfo/Etc/UTC "$root/etc/localtime"
echo "Etc/UTC" >"$root/etc/timezone"
echo "demo" >"$root/etc/hostname"

# ssh: keys only; one host key, of the one kind worth having, made on first boot
cat >"$root/etc/ssh/sshd_config.d/hardening.conf" <<'EOF'
PermitRootLogin no
PasswordAuthentication no
PermitEmptyPasswords no
X11Forwarding no
MaxAuthTries 4
HostKey /etc/ssh/ssh_host_ed25519_key
EOF
cat >"$root/etc/systemd/system/ssh-host-keys.service" <<'EOF'
[Unit]
Description=Make this machine's ssh host key
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
Before=ssh.service
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
[Install]
WantedBy=multi-user.target
EOF
in_root systemctl enable ssh-host-keys.service

# kernel settings, password rules, who may become root
cat >"$root/etc/sysctl.d/50-hardening.conf" <<'EOF'
kernel.kptr_restrict = 2
kernel.dmesg_restrict = 1
fs.protected_hardlinks = 1
fs.protected_symlinks = 1
net.ipv4.conf.all.accept_redirects = 0
net.ipv4.conf.all.accept_source_route = 0
EOF
sed -i -e 's/^PASS_MAX_DAYS.*/PASS_MAX_DAYS 365/' -e 's/^UMASK.*/UMASK 027/' "$root/etc/login.defs"
chmod 0600 "$root/etc/crontab" 2>/dev/null || true

# PAM: an empty password is no password
sed -i 's/ nullok//' "$root"/etc/pam.d/common-*

# nothing of the build stays behind
rm -rf "$root"/etc/ssh/ssh_host_* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/*-old \
    "$root"/var/cache/ldconfig/aux-cache "$root"/var/lib/dpkg/*-old "$root"/etc/*- "$root"/root/.bash_history \
    "$root"/tmp/* "$root"/var/tmp/* "$root"/etc/resolv.conf "$root"/var/lib/systemd/random-seed "$root"/var/lib/dbus/machine-id
find "$root/var/log" -type f -delete
: >"$root/etc/machine-id"

# The customize hook of mmdebstrap: $1 is the new root file system. Runs as root of the build's
# user namespace (or as real root), so that owners are right in the image; leaves its products in
# $1/xk8s, from where mmdebstrap copies them out. Environment: XK8S_KERNEL, a package name.
set -eu
cd "$1"
mkdir -m 755 xk8s xk8s/kernel

# --- kernel: unpacked, not installed: no initramfs-tools, no boot loader hooks ---------------
package=$(APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-cache depends --no-recommends --no-suggests \
    "$XK8S_KERNEL" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
cd xk8s/kernel
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q -o APT::Sandbox::User=root \
    download "${package:-$XK8S_KERNEL}"
dpkg-deb --show --showformat '${Package} ${Version} ${Architecture}\n' ./*.deb >../packages.txt
dpkg-deb --extract ./*.deb .
rm ./*.deb
cd "$1"
release=$(ls xk8s/kernel/usr/lib/modules)
printf '%s\n' "$release" >xk8s/kernel-release
cp "xk8s/kernel/boot/vmlinuz-$release" xk8s/kernel.img
cp "xk8s/kernel/boot/config-$release" xk8s/kernel-config
modules=xk8s/kernel/usr/lib/modules/$release
# Decompressed here once instead of in every guest at every boot.
find "$modules" -name '*.ko.xz' -print0 | xargs -0 -r -n 64 -P 4 xz --decompress
ln -s usr/lib xk8s/kernel/lib # where kmod looks
chroot . depmod -b /xk8s/kernel "$release"
mkdir -p xk8s/tree/usr/lib xk8s/modules
cp -a xk8s/kernel/usr/lib/modules xk8s/tree/usr/lib/
cp "$modules/modules.dep" "$modules/modules.builtin" xk8s/modules/
# The modules that the initramfs loads, each behind those it needs. XK8S_BOOT_MODULES: names.
for name in $XK8S_BOOT_MODULES; do
    chroot . modprobe -d /xk8s/kernel -S "$release" --show-depends "$name"
done | sed -n 's/^insmod *//p' | awk '!seen[$1]++ { print $1 }' | while read -r path; do
    file=${path##*/}
    cp ".$path" "xk8s/modules/$file"
    printf '%s\n' "$file"
done >xk8s/modules/order
mkfs.erofs -x-1 -T0 -Enoinline_data -U "$XK8S_UUID" --all-root --quiet xk8s/modules.erofs xk8s/tree
cp usr/bin/busybox xk8s/busybox
dpkg-query --admindir=var/lib/dpkg --show \
    --showformat '${Package} ${Version} ${Architecture}\n' | LC_ALL=C sort >>xk8s/packages.txt

# --- root file system: the same packages must give the same bytes -----------------------------
# What mmdebstrap takes from the build host, and what identifies one machine.
rm -f etc/hostname etc/resolv.conf etc/hosts var/lib/dbus/machine-id var/lib/systemd/random-seed
: >etc/machine-id
# All machines would share these keys of the SSH server. It is not started: "xk8s ssh" has one per
# connection, and nobody in the lab is to find an open port that they have not asked for.
rm -f etc/ssh/ssh_host_*
find etc/systemd/system \( -lname '*/ssh.service' -o -lname '*/ssh.socket' \) -delete
# Caches, logs and back-ups, which tell when and where it was built.
rm -f etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid- \
    var/cache/ldconfig/aux-cache var/lib/dpkg/*-old var/lib/dpkg/lock* var/lib/dpkg/triggers/Lock \
    var/cache/debconf/*-old usr/lib/udev/hwdb.bin etc/udev/hwdb.bin
find var/log var/cache/apt var/lib/apt -mindepth 1 -delete
# The day of the build, in field 3.
awk -F: -v OFS=: '{ $3 = 20000; print }' etc/shadow >xk8s/shadow
cat xk8s/shadow >etc/shadow
# Without the places where mmdebstrap has mounted or made things that differ with its mode; the
# initramfs makes them in the guest.
mkfs.erofs -x-1 -T0 -Enoinline_data -U "$XK8S_UUID" --quiet --exclude-path=xk8s \
    --exclude-regex='^(dev|proc|run|sys|tmp)(/|$)' xk8s/base.erofs .
# Guests map them in pieces of that size.
truncate -s %2M xk8s/modules.erofs xk8s/base.erofs
rm -rf xk8s/tree xk8s/kernel xk8s/shadow
chmod -R a+rX xk8s

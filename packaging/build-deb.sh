#!/bin/sh
# Makes a Debian package of a built program: packaging/build-deb.sh [PROGRAM] [FOLDER]
#
# PROGRAM: target/release/kura where nothing is said; FOLDER: where the package goes, target/debian.
# Needs dpkg-deb, gzip and nothing of the network. The pages and completions are what the program says of itself.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
program=${1:-$here/target/release/kura}
folder=${2:-$here/target/debian}
[ -x "$program" ] || { echo "error: $program is not there; build it: cargo build --release, or make static" >&2; exit 1; }
version=$("$program" --version | cut -d' ' -f2)
architecture=$(dpkg --print-architecture)

mkdir -p "$folder"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
umask 022
chmod 755 "$tree"

install -D -m 755 "$program" "$tree/usr/bin/kura"
install -D -m 644 "$here/contrib/systemd/kura.service" "$tree/lib/systemd/system/kura.service"
install -D -m 644 "$here/packaging/debian/kura.toml" "$tree/etc/kura/kura.toml"
doc=$tree/usr/share/doc/kura
mkdir -p "$doc" "$tree/usr/share/man/man1"
cp "$here/README.md" "$here/CHANGELOG.md" "$here/CONFORMANCE.md" "$here/storage-layout.md" "$doc/"
cat "$here/LICENSE-MIT" "$here/LICENSE-APACHE" > "$doc/copyright"
cp -R "$here/docs" "$doc/docs"
if [ -d "$here/contrib" ]; then cp -R "$here/contrib" "$doc/contrib"; fi
"$tree/usr/bin/kura" man "$tree/usr/share/man/man1" > /dev/null
gzip -9n "$tree"/usr/share/man/man1/*.1
completion() {
    mkdir -p "$(dirname "$tree/$2")"
    "$tree/usr/bin/kura" completions "$1" > "$tree/$2"
}
completion bash usr/share/bash-completion/completions/kura
completion zsh usr/share/zsh/vendor-completions/_kura
completion fish usr/share/fish/vendor_completions.d/kura.fish
find "$tree" -type f ! -path '*/usr/bin/*' -exec chmod 644 {} +
find "$tree" -type d -exec chmod 755 {} +

# A static program needs no library.
depends="adduser"
if ldd "$program" > /dev/null 2>&1; then
    libc=$(ldd --version | sed -n '1s/.* //p')
    depends="$depends, libc6 (>= $libc), libgcc-s1"
fi
mkdir "$tree/DEBIAN"
cat > "$tree/DEBIAN/control" <<CONTROL
Package: kura
Version: $version
Section: science
Priority: optional
Architecture: $architecture
Depends: $depends
Suggests: default-mta | mail-transport-agent
Installed-Size: $(du -sk "$tree" | cut -f1)
Maintainer: Kura
Description: embedded DICOM archive server (PACS)
 Receives, keeps, finds and hands back medical images (C-STORE, C-FIND, C-MOVE,
 C-GET, storage commitment), with a second copy of each on another disk. Every
 image is on disk before it is answered, and every disk can be read alone.
CONTROL
echo /etc/kura/kura.toml > "$tree/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    install -m 755 "$here/packaging/debian/$script" "$tree/DEBIAN/$script"
done
package=$folder/kura_${version}_$architecture.deb
dpkg-deb -Zgzip --root-owner-group --build "$tree" "$package" > /dev/null
echo "$package"

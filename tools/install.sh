#!/usr/bin/env bash
# Installs the other programs that tests drive, where they are missing: DCMTK, dicom3tools,
# xmllint, Chromium and what makes file systems by the package manager, pydicom and others in
# target/venv, axe-core in target/axe. Never asks. A thing that cannot be installed is named
# in one line; the tests that need it skip then (and fail where CI=true). `--peers`: also the
# archives that the benchmark measures beside ours.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

say() { echo "tools: $*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

updated=
apt_install() { # what it is for, packages...
    local why=$1
    shift
    if ! command -v apt-get >/dev/null || ! as_root true; then
        say "please install $* ($why)"
        return 1
    fi
    say "installing $* ($why)"
    if [ -z "$updated" ]; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >/dev/null || :
        updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends "$@" >/dev/null || {
        say "could not install $* ($why)"
        return 1
    }
}

if ! command -v openssl >/dev/null; then
    apt_install "openssl, a client of TLS that can be too old" openssl || :
fi

if ! command -v xmllint >/dev/null; then
    apt_install "holds audit messages against their schema" libxml2-utils || :
fi

for program in storescu echoscu dcmsend findscu movescu getscu storescp dcmdump; do
    if ! command -v "$program" >/dev/null; then
        apt_install "DCMTK: $program and others" dcmtk || :
        break
    fi
done

if ! command -v dciodvfy >/dev/null; then
    apt_install "dciodvfy, which judges amended files" dicom3tools || :
fi

if ! command -v mkfs.xfs >/dev/null && ! [ -x /usr/sbin/mkfs.xfs ]; then
    apt_install "mkfs.xfs, for power cuts of an xfs" xfsprogs || :
fi

if ! compgen -G "/usr/lib/faketime/libfaketimeMT.so.1" >/dev/null &&
    ! compgen -G "/usr/lib/*/faketime/libfaketimeMT.so.1" >/dev/null; then
    apt_install "libfaketime, for clocks that jump" libfaketime || :
fi

if ! command -v mkfs.btrfs >/dev/null && ! [ -x /usr/sbin/mkfs.btrfs ]; then
    apt_install "mkfs.btrfs, for a file system that counts its blocks late" btrfs-progs || :
fi

if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    apt_install "a browser that walks the administrator's page" chromium chromium-driver fonts-ipafont-gothic || :
fi

# What finds barriers for people who do not see, or have no mouse.
axe=axe-core@4.12.1
if [ "$(cat target/axe/installed.txt 2>/dev/null)" != "$axe" ]; then
    command -v npm >/dev/null || apt_install "npm, which fetches axe-core" npm || :
    mkdir -p target/axe
    if npm install --prefix target/axe --silent --no-fund --no-audit --ignore-scripts "$axe" >/dev/null; then
        echo "$axe" >target/axe/installed.txt
    else
        say "could not install $axe (accessibility of the administrator's page)"
    fi
fi

venv=target/venv
if ! cmp -s tools/requirements.txt "$venv/installed.txt" ||
    ! "$venv/bin/python" -c 'import numpy, PIL, pydicom, pynetdicom, schemathesis, selenium' 2>/dev/null; then
    rm -rf "$venv"
    mkdir -p target
    # Debian splits venv off; the module may be there and still lack ensurepip.
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        apt_install "virtual environment of the tests" python3 python3-venv || :
    fi
    if python3 -m venv "$venv" >/dev/null &&
        "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
            -r tools/requirements.txt; then
        cp tools/requirements.txt "$venv/installed.txt"
    else
        say "no virtual environment: please install python3-venv and run make tools again"
    fi
fi

[ "${1:-}" = --peers ] || exit 0

if ! command -v Orthanc >/dev/null && ! [ -x /usr/sbin/Orthanc ]; then
    apt_install "another archive" orthanc || :
fi
peers=target/peers
[ -x "$peers/bin/dicom-storescp" ] || cargo install --quiet --locked --root "$peers" dicom-storescp ||
    say "could not build dicom-storescp"
"$venv/bin/python" -c 'import sqlalchemy' 2>/dev/null ||
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check sqlalchemy ||
    say "could not install sqlalchemy (the archive of pynetdicom)"

# Sourced by ./lumachrome and ./run-tests: installs what is missing (where it may) and builds once.
# Messages go to stderr; the whole build log is build/build.log.

packages=(g++ meson ninja-build pkg-config libeigen3-dev libpng-dev libjpeg62-turbo-dev liblcms2-dev
    libcli11-dev nlohmann-json3-dev libmicrohttpd-dev)

fail() {
    echo "lumachrome: $*" >&2
    exit 69
}

install_packages() {
    command -v dpkg-query >/dev/null || return 0 # not Debian: Meson says what it misses
    local missing=() package
    for package in "${packages[@]}"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return 0
    local sudo=
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || fail "please run: sudo apt-get install ${missing[*]}"
        sudo=sudo
    fi
    echo "lumachrome: installing ${missing[*]}" >&2
    {
        $sudo apt-get update &&
            $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
    } >"$build/install.log" 2>&1 </dev/null ||
        { tail -5 "$build/install.log" >&2; fail "could not install ${missing[*]}"; }
}

# up_to_date BINARY: nothing that it is built from is newer.
up_to_date() {
    [ -x "$1" ] && [ -z "$(cd "$root" && find meson.build meson_options.txt tensor image autograd layers model \
        train apps ${2:-} -newer "$1" \( -name '*.?pp' -o -name '*.cu*' -o -name 'meson*' -o -path '*/serve/page/*' \) -print -quit 2>/dev/null)" ]
}

# build_targets TARGET...
build_targets() {
    mkdir -p "$build"
    exec 9>"$build/lock"
    flock 9 # two first calls at once: the second waits
    install_packages
    if [ ! -f "$build/build.ninja" ]; then
        meson setup "$build" "$root" ${LUMACHROME_MESON_OPTIONS:-} >"$build/build.log" 2>&1 ||
            { tail -15 "$build/build.log" >&2; fail "cannot configure the build, see build/build.log"; }
    fi
    # Configured before doctest was installed, the build knows no tests.
    ninja -C "$build" -t query "${@: -1}" >/dev/null 2>&1 || meson setup --reconfigure "$build" "$root" >>"$build/build.log" 2>&1 ||
        fail "cannot configure the build, see build/build.log"
    echo "lumachrome: building (once, a few minutes)" >&2
    ninja -C "$build" "$@" >>"$build/build.log" 2>&1 ||
        { grep -E 'error|FAILED' "$build/build.log" | head -15 >&2; fail "the build failed, see build/build.log"; }
    exec 9>&-
}

#!/usr/bin/env bash
# bundle.sh [--sources FILE] [FOLDER]: for machines where only a compiler, CMake and perhaps CUDA are installed: puts what
# else lemoe needs into FOLDER (build/bundle) as an ordinary user, installing nothing: the Debian packages of packages.sh
# and what they need, unpacked, each library made to find the others beside it. `. FOLDER/env.sh`, or env.sh of this
# repository where FOLDER is build/bundle or $LEMOE_BUNDLE, makes CMake, pkg-config and Open MPI use it. FOLDER can be moved
# and copied to machines of the same processor type that have at least the C library FOLDER/needs names: no network there.
#   --sources FILE   an apt sources file (*.list or *.sources) in place of the machine's own: another mirror, or an older
#                    release for machines with an older C library
# Needs here: apt-get and dpkg-deb (any Debian or Ubuntu), readelf, and a reachable package mirror.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    echo "bundle: $*" >&2
    exit 1
}

sources=
if [[ ${1:-} == --sources ]]; then
    sources=$(realpath -e "${2:-}" 2>/dev/null) || fail "--sources: there is no file ${2:-}"
    shift 2
fi
[[ $# -le 1 && ${1:-} != -* ]] || fail "usage: scripts/bundle.sh [--sources FILE] [FOLDER]"
folder=$(realpath -m "${1:-$here/../build/bundle}")

if [[ -e $folder/needs ]]; then
    echo "bundle: $folder is there (to make it anew, remove it first)"
    exit 0
fi
[[ ! -e $folder ]] || fail "$folder exists and is no bundle: name another folder"
for tool in apt-get dpkg dpkg-deb readelf; do
    command -v "$tool" >/dev/null ||
        fail "there is no $tool here: make the bundle on a Debian or Ubuntu machine of the same processor type, and copy the folder"
done
mkdir -p "${folder%/*}"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT

# ---- the packages, by an apt whose state is in our folder ----

# What is not taken from packages, as one package that is there already: what comes with any compiler (a second C library
# would not fit the machine's; its age is compared instead), what only installing needs, and what headers of headers need.
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,tree}
machine=(libc6 libc6-dev libc-dev libgcc-s1 libstdc++6 libgomp1 gfortran
    debconf debconf-2.0 adduser passwd perl automake-1.16 autotools-dev hdf5-helpers libjs-jquery libjs-jquery-ui ssh-client openssh-client
    zlib1g-dev libjpeg-dev libaec-dev libssl-dev libcurl-dev libcurl4-openssl-dev libibverbs-dev libhwloc-dev libevent-dev
    libpmix-dev libhwloc-plugins)
{
    printf '%s\n' "Package: lemoe-bundle-machine" "Status: install ok installed" "Version: 1" "Architecture: $(dpkg --print-architecture)" \
        "Maintainer: nobody <nobody@localhost>" "Description: what the machine has"
    printf 'Provides: gfortran-mod-14, gfortran-mod-15, gfortran-mod-16'
    printf ', %s (= 9:999)' "${machine[@]}"
    printf '\n\n'
} >"$work/status"
cat >"$work/apt.conf" <<END
Dir::State "$work/state";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
${sources:+Dir::Etc::SourceList "$sources"; Dir::Etc::SourceParts "/dev/null";}
Debug::NoLocking "true";
APT::Install-Recommends "false";
APT::Sandbox::User "";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
#clear APT::Keep-Downloaded-Packages;
END
apt=(apt-get -c "$work/apt.conf" -qq -y)
mapfile -t names < <("$here/packages.sh" --print-bundled)
# One source of several may be out of reach, as long as the packages are found.
fetch() {
    "${apt[@]}" update
    "${apt[@]}" install --download-only "${names[@]}" patchelf
}
echo "bundle: fetching packages"
if ! fetch >"$work/log" 2>&1 </dev/null; then
    cat "$work/log" >&2
    fail "apt-get found no packages, see above: it must reach a mirror (--sources names another), or copy a bundle made elsewhere"
fi

# ---- unpacked, without what nobody reads ----

tree=$work/tree
for package in "$work"/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$tree"
    dpkg-deb -f "$package" Package Version | sed 's/^[A-Za-z]*: //' | paste -sd' '
done >"$work/packages"
(cd "$tree" && rm -rf usr/share/{man,info,lintian,bug,locale} var bin sbin usr/sbin)
find "$tree/usr/share/doc" -type f ! -name copyright -delete
find "$tree" -name '*.a' -delete
# Some packages still use /lib: one tree, as on a machine.
if [[ -d $tree/lib ]]; then
    cp -a "$tree/lib/." "$tree/usr/lib/"
    rm -r "${tree:?}/lib"
fi
ln -s usr/lib "$tree/lib"
# Links that start at the root of a machine start at the root of the tree; those to what is not taken go.
while IFS= read -r link; do
    target=$tree$(readlink "$link")
    ln -sfn "$(realpath -sm --relative-to="${link%/*}" "$target")" "$link"
done < <(find "$tree" -lname '/*')
find "$tree" -xtype l -delete
# The names by which libraries are looked for, where installing a package makes them.
mapfile -t library_folders < <(find "$tree/usr/lib" -name 'lib*.so.*' -type f -printf '%h\n' | sort -u)
PATH=$PATH:/sbin:/usr/sbin ldconfig -n "${library_folders[@]}"

# ---- made independent of where the folder stands ----

# Every .pc file, a link to one too, knows where it is; its prefix follows from that.
while IFS= read -r file; do
    [[ ! -L $file ]] || cp --remove-destination "$(realpath "$file")" "$file"
    up="\${pcfiledir}/$(realpath -sm --relative-to="${file%/*}" "$tree/usr")"
    sed -i -E -e "s#^prefix *=.*#prefix=$up#" -e "s#(^|[ =]|-[IL])/usr/#\\1$up/#g" "$file"
done < <(find "$tree/usr" -name '*.pc')

# Where PMIx finds its components follows from PMIX_LIBDIR, once its settings do not name a folder of the machine.
find "$tree" -name pmix-mca-params.conf -exec sed -i '/^mca_base_component_path/d' {} +

# Every library and program finds the libraries it needs from where it is, whatever LD_LIBRARY_PATH says. What is not in the
# tree must be what comes with a compiler.
mapfile -t elves < <(find "$tree/usr/bin" "$tree/usr/lib" -type f -exec sh -c '
    for file; do [ "$(head -c 4 "$file" | tail -c 3)" != ELF ] || echo "$file"; done' _ {} +)
declare -A folder_of
while IFS= read -r file; do
    [[ $(realpath "$file") != "${file%/*}"/* ]] || folder_of[${file##*/}]=${file%/*}
done < <(find "$tree/usr/lib" -name 'lib*.so*')
machines='^(ld-linux.*|lib(c|m|pthread|dl|rt|resolv|util|anl|gcc_s|stdc\+\+|gomp))\.so(\.[0-9]+)*$'
patchelf=$tree/usr/bin/patchelf
for file in "${elves[@]}"; do
    path=
    while IFS= read -r needed; do
        if [[ ${folder_of[$needed]:-} ]]; then
            step=\$ORIGIN/$(realpath -s --relative-to="${file%/*}" "${folder_of[$needed]}")
            [[ :$path: == *":$step:"* ]] || path+=${path:+:}$step
        elif [[ ! $needed =~ $machines ]]; then
            fail "${file#"$tree/"} needs $needed, and none of the packages has it"
        fi
    done < <("$patchelf" --print-needed "$file")
    [[ ! $path || $file == "$patchelf" ]] || "$patchelf" --force-rpath --set-rpath "$path" "$file"
done
rm "$patchelf"

# What is called by name; the short names are Debian's alternatives, made when a package is installed.
mkdir "$tree/bin"
for name in $(cd "$tree/usr/bin" && ls -d mpi* ompi* opal* orte* ninja pkg-config); do
    ln -sf "../usr/bin/$name" "$tree/bin/${name%.openmpi}"
done
cp "$here/bundle/env.sh" "$here/bundle/check.sh" "$tree/"

# newest PREFIX: the newest symbol version of that name that the tree asks of a machine.
newest() { readelf -VW "${elves[@]}" 2>/dev/null | grep -oE "Name: $1_[0-9]+(\.[0-9]+)*" | sed 's/.*_//' | sort -uV | tail -n 1; }
libraries=$(find "$tree/usr/lib" -name 'libopen-pal.so.*' -type f -printf '%h\n' | head -n 1)
printf '%s\n' "machine $(uname -m)" "triplet ${libraries##*/}" "GLIBC $(newest GLIBC)" "GLIBCXX $(newest GLIBCXX)" >"$tree/needs"
mv "$work/packages" "$tree/packages"
mv -T "$tree" "$folder"
echo "bundle: $folder, $(wc -l <"$folder/packages") packages, $(du -sh "$folder" | cut -f1)"
echo "bundle: needs, or newer: $(grep -v triplet "$folder/needs" | paste -sd' ')"
echo "bundle: next: . $folder/env.sh"

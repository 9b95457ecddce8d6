#!/usr/bin/env bash
# Builds the image of the application, without Docker and without a network in the build proper.
#
#   tools/map/build.sh [OUT]        OUT (build/map) then holds samreg-map-VERSION.tar and .cdx.json
#
# BASE_IMAGE   an image to build on; without it a Debian base is made (needs root, mmdebstrap)
# PYTHON_TAG   version of the base's Python, for the wheels (3.11)
# TAG          of the image (samreg-map:VERSION)
# LAYERS       "yes" keeps the layers, and builds anew what has changed alone
#
# Exit code 3: this machine cannot build or run containers; 2: something else is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

out="$(realpath -m "${1:-build/map}")"
python="${PYTHON:-.venv/bin/python}"
export PYTHONPATH=bundle
version="$("$python" -c 'import samreg; print(samreg.__version__)')"
tag="${TAG:-samreg-map:$version}"
python_tag="${PYTHON_TAG:-3.11}"
# Files have the date of the last commit, and those of the base none, so the same commit with the same packages gives the
# same image.
epoch="$(git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml)"
revision="$(git rev-parse HEAD 2>/dev/null || echo unknown)"
mkdir -p "$out"

cannot() {
    echo "samreg: $1" >&2
    exit 3
}

for tool in buildah podman runc; do
    command -v "$tool" >/dev/null || cannot "$tool is missing. On Debian: apt-get install buildah podman runc mmdebstrap"
done

limits=(--ulimit nofile=8192:8192 --ulimit nproc=4096:4096)

if [[ -z "${BASE_IMAGE:-}" ]]; then
    BASE_IMAGE="samreg-base:bookworm"
    if ! buildah inspect --type image "$BASE_IMAGE" >/dev/null 2>&1; then
        command -v mmdebstrap >/dev/null || cannot "mmdebstrap is missing, and no BASE_IMAGE is given"
        echo "samreg: making a Debian base …"
        # Byte code that is checked by no date, since layers change the dates; no manuals nor translations.
        SOURCE_DATE_EPOCH=0 mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates \
            --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
            --customize-hook='chroot "$1" python3 -m compileall -qf --invalidation-mode unchecked-hash /usr/lib/python3*' \
            bookworm "$out/base.tar" || cannot "mmdebstrap cannot make a Debian base here; give BASE_IMAGE"
        printf 'FROM scratch\nADD base.tar /\n' > "$out/Containerfile.base"
        buildah bud --isolation chroot --timestamp 0 -t "$BASE_IMAGE" -f "$out/Containerfile.base" "$out" >/dev/null ||
            cannot "this machine does not let buildah build an image"
        rm "$out/base.tar" "$out/Containerfile.base"
    fi
fi

podman --runtime runc run --rm --network none "${limits[@]}" "$BASE_IMAGE" true ||
    cannot "this machine does not let podman run a container"

echo "samreg: staging …"
"$python" tools/map/stage.py "$out/context"

echo "samreg: fetching wheels …"
mkdir -p "$out/wheels"
platforms=()
for n in 35 34 31 28 27 24 17; do platforms+=(--platform "manylinux_2_${n}_x86_64"); done
"$python" -m pip download --quiet --quiet --only-binary=:all: --python-version "$python_tag" --implementation cp \
    "${platforms[@]}" --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform any \
    --dest "$out/wheels" --requirement "$out/context/app/requirements.txt"

echo "samreg: building $tag on $BASE_IMAGE, without a network …"
buildah --runtime "$(command -v runc)" bud --isolation oci --network none "${limits[@]}" \
    --layers="$([[ "${LAYERS:-}" == yes ]] && echo true || echo false)" --timestamp "$epoch" \
    --label "org.nrg.commands=[$(tr -d '\n' < app/platforms/xnat-command.json)]" \
    --build-arg BASE_IMAGE="$BASE_IMAGE" --build-arg VERSION="$version" --build-arg REVISION="$revision" \
    --build-arg CREATED="$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)" \
    -v "$out/wheels:/wheels:ro" -t "$tag" -f Containerfile "$out/context"

"$python" tools/map/sbom.py "$tag" > "$out/samreg-map-$version.cdx.json"
# Of former builds nothing stays but the layers that this one shares: each is more than a gigabyte.
podman image prune --force --filter label=org.opencontainers.image.title=samreg >/dev/null
rm -f "$out/samreg-map-$version.tar"
podman save --quiet --format oci-archive -o "$out/samreg-map-$version.tar" "$tag"
podman images --format '{{.Repository}}:{{.Tag}} {{.Size}}' "$tag"

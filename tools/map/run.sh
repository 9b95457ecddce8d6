#!/usr/bin/env bash
# Runs the image under the strictest sandbox: no network, read-only root and input, no capabilities, no new privileges,
# the caller's uid, limited memory.
#
#   tools/map/run.sh FIXED MOVING OUT [options of the application]
#
# TAG      of the image (samreg-map:VERSION)
# MEMORY   limit (2g)
# RUN_AS   uid:gid (the caller's); of root's it may be any: an OUT that this makes belongs to it, one that is there is
#          left as it is
# OPTIONS  of podman besides, such as "--device nvidia.com/gpu=all" for a GPU
set -euo pipefail

if [[ $# -lt 3 ]]; then
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
refuse() {
    echo "samreg: $1. Expected $2. Give another path." >&2
    exit 2
}

for folder in "$1" "$2"; do
    [[ -d "$folder" ]] || refuse "'$folder' is not a folder" "the folder of a DICOM series"
done
fixed="$(realpath -- "$1")" moving="$(realpath -- "$2")" out="$(realpath -m -- "$3")"
[[ -d "$out" || ! -e "$out" ]] || refuse "The output '$out' is a file" "a folder"
for folder in "$fixed" "$moving"; do
    [[ "${out%/}/" != "${folder%/}/"* && "${folder%/}/" != "${out%/}/"* ]] ||
        refuse "The output folder '$out' and the input '$folder' contain one another" "an output folder apart from the input"
done
for folder in "$fixed" "$moving" "$out"; do
    [[ "$folder" != *:* ]] || refuse "'$folder' has a colon in its path" "a folder that podman can mount"
done
shift 3
tag="${TAG:-samreg-map:$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$(dirname "$0")/../../bundle/samreg/__init__.py")}"
user="${RUN_AS:-$(id -u):$(id -g)}"
if [[ ! -d "$out" ]]; then
    mkdir -p -- "$out"
    if [[ "$(id -u)" == 0 ]]; then chown -- "$user" "$out"; fi
fi

# shellcheck disable=SC2086  # OPTIONS is a list
exec podman --runtime runc run --rm --network none --read-only --tmpfs /tmp:rw,size=1g --cap-drop ALL \
    --security-opt no-new-privileges --user "$user" --memory "${MEMORY:-2g}" --memory-swap "${MEMORY:-2g}" \
    --ulimit nofile=8192:8192 --ulimit nproc=4096:4096 --stop-timeout 5 ${OPTIONS:-} \
    -v "$fixed:/var/holoscan/input/fixed:ro" -v "$moving:/var/holoscan/input/moving:ro" \
    -v "$out:/var/holoscan/output:rw" "$tag" run "$@"

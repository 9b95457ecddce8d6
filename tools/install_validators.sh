#!/usr/bin/env bash
# Installs the Debian tools that the tests check DICOM and HTML with, and build and run the image with, where that is
# allowed.
# Where it is not, says what the tests will skip.
set -euo pipefail

declare -A tools=(
    [dciodvfy]=dicom3tools [dcmdump]=dcmtk [storescp]=dcmtk [Orthanc]=orthanc
    [libOrthancDicomWeb.so]=orthanc-dicomweb
    [plastimatch]=plastimatch [chromium]=chromium [chromedriver]=chromium-driver
    [podman]=podman [buildah]=buildah [runc]=runc [mmdebstrap]=mmdebstrap
)

missing() {
    local tool
    for tool in "${!tools[@]}"; do
        PATH="$PATH:/usr/sbin" command -v "$tool" >/dev/null || [[ -e "/usr/share/orthanc/plugins/$tool" ]] || echo "$tool"
    done
}

[[ -z "$(missing)" ]] && exit 0
if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || true
    for tool in $(missing); do
        apt-get install -y -qq --no-install-recommends "${tools[$tool]}" >/dev/null ||
            echo "apt-get could not install ${tools[$tool]}."
    done
fi
for tool in $(missing); do
    echo "$tool is missing (Debian package ${tools[$tool]}): the tests that need it are skipped."
done

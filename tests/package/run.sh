#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Uses the library from another project, each way there is. Needs no network.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
common=(-G Ninja "-DCMAKE_CXX_COMPILER=${CXX:-c++}" -DFETCHCONTENT_FULLY_DISCONNECTED=ON
    "-DMOR_SOURCE=$source")

# Runs a command silently; shows its output if it fails.
quietly() {
    "$@" >"$work/log" 2>&1 || { cat "$work/log"; echo "package: FAILED: $*" >&2; exit 1; }
}

# use NAME CMAKE-ARGUMENTS...: the consumer configures, compiles, links and runs.
use() {
    local build=$work/$1 program
    quietly cmake -S "$here" -B "$build" "${common[@]}" "${@:2}"
    quietly cmake --build "$build"
    for program in "$build"/consumer "$build"/consumer_{io,cuda,instances}; do
        if [[ -x $program ]]; then
            echo "package: $1: $(basename "$program") says: $(cd "$build" && "$program")"
        fi
    done
}

# refuse NAME SENTENCE CMAKE-ARGUMENTS...: the consumer is refused, with this sentence.
refuse() {
    if cmake -S "$here" -B "$work/$1" "${common[@]}" "${@:3}" >"$work/log" 2>&1; then
        echo "package: FAILED: $1 was configured, but must be refused" >&2
        exit 1
    fi
    # CMake breaks and indents long lines.
    if ! tr -s ' \n' ' ' <"$work/log" | grep -qF -- "$2"; then
        cat "$work/log"
        echo "package: FAILED: $1 did not say: $2" >&2
        exit 1
    fi
    echo "package: $1: refused with: $2"
}

# install PREFIX CMAKE-ARGUMENTS...
install() {
    quietly cmake -S "$source" -B "$1-build" "${common[@]}" -DMOR_BUILD_TESTS=OFF \
        -DMOR_BUILD_EXAMPLES=OFF "-DCMAKE_INSTALL_PREFIX=$1" "${@:2}"
    quietly cmake --build "$1-build"
    quietly cmake --install "$1-build"
}

use add_subdirectory -DWAY=add_subdirectory
use fetch_content -DWAY=fetch_content

install "$work/with-io" -DMOR_IO=ON -DMOR_CUDA=OFF
install "$work/without-io" -DMOR_IO=OFF -DMOR_CUDA=OFF
# Without optimisation, as it is quicker.
install "$work/with-instances" -DMOR_IO=OFF -DMOR_CUDA=OFF -DMOR_INSTANCES=ON \
    -DCMAKE_BUILD_TYPE=Debug
for headers in io backends/cuda; do
    if [[ -e $work/without-io/include/mor/$headers ]]; then
        echo "package: FAILED: an installation without a component has its headers: $headers" >&2
        exit 1
    fi
done
use find_package -DWAY=find_package "-DCMAKE_PREFIX_PATH=$work/with-io"
use find_package_io -DWAY=find_package "-DCMAKE_PREFIX_PATH=$work/with-io" -DCOMPONENTS=io
use find_package_without_io -DWAY=find_package "-DCMAKE_PREFIX_PATH=$work/without-io"

use find_package_instances -DWAY=find_package "-DCMAKE_PREFIX_PATH=$work/with-instances" \
    -DCOMPONENTS=instances

refuse missing_instances "this mor was installed without component 'instances'" \
    -DWAY=find_package "-DCMAKE_PREFIX_PATH=$work/with-io" -DCOMPONENTS=instances

if command -v nvcc /usr/local/cuda/bin/nvcc >/dev/null; then
    install "$work/with-cuda" -DMOR_IO=OFF -DMOR_CUDA=ON
    use find_package_cuda -DWAY=find_package "-DCMAKE_PREFIX_PATH=$work/with-cuda" \
        -DCOMPONENTS=cuda
    refuse missing_toolkit "needs the CUDA toolkit 12.4 with cuBLAS, which was not found" \
        -DWAY=find_package "-DCMAKE_PREFIX_PATH=$work/with-cuda" -DCOMPONENTS=cuda \
        -DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit=ON
else
    echo "package: no nvcc: component cuda was not used"
fi

refuse missing_component "this mor was installed without component 'io'" \
    -DWAY=find_package "-DCMAKE_PREFIX_PATH=$work/without-io" -DCOMPONENTS=io
refuse missing_cuda "this mor was installed without component 'cuda'" \
    -DWAY=find_package "-DCMAKE_PREFIX_PATH=$work/with-io" -DCOMPONENTS=cuda
refuse unknown_component "mor has no component 'vulkan'" \
    -DWAY=find_package "-DCMAKE_PREFIX_PATH=$work/with-io" -DCOMPONENTS=vulkan
refuse missing_json "needs nlohmann_json 3.10, which was not found" \
    -DWAY=find_package "-DCMAKE_PREFIX_PATH=$work/with-io" -DCOMPONENTS=io \
    -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON
echo "package: all ways work"

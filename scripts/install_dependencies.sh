#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what is missing on Debian or Ubuntu; elsewhere says what is missing.
# usage: install_dependencies.sh [build|test|quickstart|corpus|clang|format|benchmark]...   (default: build test)
set -euo pipefail

# package, and the command or the file (below a system prefix) by which it is recognised
declare -A groups=(
    [build]="g++=g++ cmake=cmake ninja-build=ninja libeigen3-dev=include/eigen3/Eigen/Core
             nlohmann-json3-dev=include/nlohmann/json.hpp"
    [test]="doctest-dev=include/doctest/doctest.h python3=python3
            librapidcheck-dev=include/rapidcheck.h libcxxopts-dev=include/cxxopts.hpp"
    [clang]="clang-16=clang++-16 libclang-rt-16-dev=lib/llvm-16/lib/clang/16/lib/linux/libclang_rt.asan-$(uname -m).a"
    [format]="clang-format-16=clang-format-16 clang-tidy-16=clang-tidy-16"
    [benchmark]="libbenchmark-dev=include/benchmark/benchmark.h"
    [quickstart]="libcxxopts-dev=include/cxxopts.hpp python3=python3 gzip=gzip xz-utils=xz
                  libjs-chart.js=share/javascript/chart.js"
    [corpus]="dict-gcide=share/dictd/gcide.dict.dz"
)

present() {
    case $1 in
        */*) [[ -e /usr/$1 || -e /usr/local/$1 ]] ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

missing=()
for group in "${@:-build test}"; do
    for name in $group; do
        if [[ -z ${groups[$name]:-} ]]; then
            echo "install_dependencies: no group '$name'; there are: ${!groups[*]}" >&2
            exit 2
        fi
        for entry in ${groups[$name]}; do
            present "${entry#*=}" || missing+=("${entry%%=*}")
        done
    done
done

if ((${#missing[@]} == 0)); then
    echo "install_dependencies: everything is there"
    exit 0
fi
as_root=()
if ((EUID != 0)); then
    as_root=(sudo)
fi
if ! command -v apt-get "${as_root[@]}" >/dev/null; then
    echo "install_dependencies: please install these (Debian's names): ${missing[*]}" >&2
    exit 1
fi

echo "install_dependencies: installing ${missing[*]}"
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"
}
apt update
apt install -y --no-install-recommends "${missing[@]}"

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Trains small language models on real English and compares them: vanilla, recursive and
# Mixture-of-Recursions, with equal effective depth and equal training operations.
# usage: quickstart.sh [--text FILE_OR_DIRECTORY] [--minutes M] [--output DIRECTORY]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

text=""
minutes=10
output=$PWD/quickstart-results
command="scripts/quickstart.sh $*"
while (($# > 0)); do
    case $1 in
        --text | --minutes | --output)
            if (($# < 2)); then
                echo "quickstart: $1 needs a value" >&2
                exit 2
            fi
            [[ $1 == --text ]] && text=$(realpath -m "$2")
            [[ $1 == --minutes ]] && minutes=$2
            [[ $1 == --output ]] && output=$(realpath -m "$2")
            shift 2
            ;;
        *)
            echo "usage: $0 [--text FILE_OR_DIRECTORY] [--minutes M] [--output DIRECTORY]" >&2
            exit 2
            ;;
    esac
done
if [[ ! $minutes =~ ^[0-9]*\.?[0-9]+$ ]]; then
    echo "quickstart: --minutes is '$minutes', expected a positive number" >&2
    exit 2
fi
if [[ -n $text && ! -r $text ]]; then
    echo "quickstart: $text: no such file, or not readable" >&2
    exit 1
fi
cd "$here"

groups=(build quickstart)
[[ -n $text ]] || groups+=(corpus)
scripts/install_dependencies.sh "${groups[@]}"

build=$here/build/quickstart
log=$build/build.log
mkdir -p "$build" "$output"
echo "quickstart: building (log: $log)"
if ! {
    cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DMOR_NATIVE=ON \
        -DMOR_BUILD_TESTS=OFF &&
        cmake --build "$build" --target example_quickstart example_generate example_serve_demo
} >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "quickstart: the build failed" >&2
    exit 1
fi

if [[ -z $text ]]; then
    text=$output/gcide.txt
    echo "quickstart: unpacking the GNU Collaborative International Dictionary of English"
    zcat /usr/share/dictd/gcide.dict.dz >"$text"
fi

# The yardsticks read exactly the held-out bytes.
"$build/examples/quickstart" --text "$text" --write-held-out "$output/held_out.txt"
gzip_bytes=$(gzip -9 <"$output/held_out.txt" | wc -c)
xz_bytes=$(xz -9 <"$output/held_out.txt" | wc -c)

"$build/examples/quickstart" --text "$text" --minutes "$minutes" --output "$output" \
    --command "$command" \
    --baseline "gzip -9=$gzip_bytes" --baseline "xz -9=$xz_bytes"
python3 scripts/make_report.py "$output/report.json" "$output/report.html"
echo
echo "The report is in $output/report.html, the models beside it. To continue a prompt of your own:"
echo "  $build/examples/generate $output/mor_token_choice/model 'Language '"
echo "To watch many answered at once, each byte in the colour of its recursion depth:"
echo "  $build/examples/serve_demo $output/mor_token_choice/model $here/examples/prompts.txt"

#!/usr/bin/env bash
# gpu.sh [--emulated] [PART ...]: everything that needs a GPU, on a machine with one (one is enough). Builds, checks line by
# line, prints a table; exit status 0 only if no line failed. A line that cannot run here says why and counts as skipped.
# Parts, all by default, in this order: operations golden world memcheck racecheck
#   --emulated   the same lines on the kernels emulated on the CPU (tests/cuda_host), smaller, without those that only a
#                GPU can answer: tests this script
#   BUILD=build/release       the build's folder, or where what --carry made lies now
#   PYTHON=/usr/bin/python3   with h5py and numpy
#   MINUTES=...               no line begins after that
#   LINE_MINUTES=10           a program that runs longer is ended, and its line has failed
#   KEEP=1                    leaves the folder of outputs
# gpu.sh --carry FILE.tar.xz: what the above runs, built here, where no GPU is needed, with the libraries of a bundle
#   (scripts/bundle.sh), for a machine where nothing can be built or fetched (21 MB). That machine needs this repository, bash,
#   CUDA 13's libraries or a Python with PyTorch, which brings them, and a Python with h5py and numpy:
#     python3 -m tarfile -e FILE.tar.xz /tmp/lemoe && BUILD=/tmp/lemoe PYTHON=python3 MINUTES=9 tests/gpu.sh
# What is run, and the bounds: the comments below. The table goes into tests/bench/RESULTS.md.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
programs=(ops/ops_parity ops/ops_grad golden/test_golden_{model,gradients,edit})

# carry FILE
carry() {
    set -e
    local file folder path triplet rpath=
    file=$(realpath -m "$1") folder=$(realpath -m "${BUILD:-$root/build/gpu-carry}")
    LEMOE_BUNDLE=$(realpath -m "${LEMOE_BUNDLE:-$root/build/bundle}")
    "$root/scripts/bundle.sh" "$LEMOE_BUNDLE"
    . "$root/env.sh"
    triplet=$(sed -n 's/^triplet //p' "$LEMOE_BUNDLE/needs")
    # Programs and modules find the bundle from where they lie, not where it was when they were built.
    for path in {,../,../../}bundle/usr/lib/$triplet{,/openblas-openmp}; do rpath+="\$ORIGIN/$path;"; done
    cmake -S "$root" -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=ON -DLEMOE_CUDA=ON -DLEMOE_ONEDNN=OFF \
        "-DCMAKE_BUILD_RPATH=$rpath" >/dev/null
    cmake --build "$folder" --target lemoe-run lemoe_cuda lemoe_cuda_host "${programs[@]##*/}" >/dev/null
    touch "$folder/carried"
    tar cJf "$file" --exclude={./lib,./usr/include,./usr/share/doc,cmake,pkgconfig,'*.mod','lib*dnnl*','liblapack*'} \
        --exclude={'libsentencepiece_train*','libprotobuf.so*','libhdf5*_'{cpp,fortran}'*'} --transform 's,^\./,bundle/,' \
        -C "$folder" carried lemoe-run liblemoe_cuda.so tests/liblemoe_cuda_host.so "${programs[@]/#/tests/}" -C "$LEMOE_BUNDLE" .
    du -h "$file"
}

emulated=0
case "${1:-}" in
--carry)
    [[ $# == 2 ]] || { echo "usage: tests/gpu.sh --carry FILE.tar.xz" >&2 && exit 1; }
    carry "$2"
    exit
    ;;
--emulated) emulated=1 && shift ;;
esac
parts=("$@")
[[ $# -gt 0 ]] || parts=(operations golden world memcheck racecheck)
for part in "${parts[@]}"; do
    [[ " operations golden world memcheck racecheck " == *" $part "* ]] ||
        { echo "usage: tests/gpu.sh [--emulated] [operations] [golden] [world] [memcheck] [racecheck]" >&2 && exit 1; }
done
wanted() { [[ " ${parts[*]} " == *" $1 "* ]]; }

build=$(realpath -m "${BUILD:-$root/build/release}")
python=${PYTHON:-/usr/bin/python3}
is_carried=0
if [[ -e $build/carried ]]; then is_carried=1 LEMOE_BUNDLE=$build/bundle; fi
. "$root/env.sh" || exit 1
. "$root/tests/bench/torch_libraries.sh"
export PYTHONDONTWRITEBYTECODE=1
program=$build/lemoe-run
# Those of the toolkit, where there is one; else PyTorch's.
if ldd "$build/liblemoe_cuda.so" 2>/dev/null | grep -q 'not found'; then
    LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(torch_libraries "$python" 2>/dev/null)
    export LD_LIBRARY_PATH
fi
# Many containers forbid one process to read another's memory, which Open MPI learns at the first long message.
export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
if wanted world && ! "$python" -c 'import h5py, numpy' 2>/dev/null; then
    echo "gpu.sh: $python has no h5py or no numpy, which the part world compares with; set PYTHON" >&2
    exit 1
fi
limited() { timeout -k 10 $((60 * ${LINE_MINUTES:-10})) "$@"; }

work=$(mktemp -d "${TMPDIR:-/tmp}/lemoe-gpu-XXXXXX")
[[ ${KEEP:-} ]] || trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

passed=0 failed=0 skipped=0
# row NAME RESULT SECONDS TEXT
row() { printf '| %-34s | %-7s | %6s | %s |\n' "$1" "$2" "$3" "$4"; }
skip() {
    skipped=$((skipped + 1))
    row "$1" skipped "" "$2"
}
# check NAME COMMAND...: a line. What the command prints last is the line's text; all of it stands in NAME's log.
check() {
    local name=$1 log seconds begin=$SECONDS result=ok
    if [[ ${MINUTES:-} ]] && ((SECONDS > 60 * MINUTES)); then
        skip "$name" "the time is up"
        return 1
    fi
    log=$work/$(tr -c 'a-zA-Z0-9\n' _ <<<"$name").log
    shift
    if "$@" >"$log" 2>&1 </dev/null; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)) result=FAILED
    fi
    seconds=$((SECONDS - begin))
    row "$name" "$result" "$seconds" "$(grep -v '^ *$' "$log" | tail -n 1 | tr '|' ' ' | cut -c1-150)"
    [[ $result == ok ]] || sed 's/^/    /' "$log" | tail -n 40 >&2
    [[ $result == ok ]]
}
finish() {
    echo
    echo "gpu.sh: $passed passed, $failed failed, $skipped skipped, $SECONDS s"
    ((failed == 0))
    exit
}

# ---- build and device ----

if ((emulated)); then
    export LEMOE_CUDA_MODULE=$build/tests/liblemoe_cuda_host.so LEMOE_CUDA_HOST_OPEN=1
    edits=6 batch=3 steps=2 methods=(lemoe-stable) only='*-lemoe-stable-*'
else
    edits=60 batch=20 steps=10 methods=(lemoe-paper lemoe-stable moe ft_m none) only='*'
    build_all() {
        cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=ON -DLEMOE_CUDA=ON &&
            cmake --build "$build" && echo "with CUDA, in $build"
    }
fi

# What is looked at: the device's name, or why there is none.
device_name() {
    "$program" --version | grep -E '^(lemoe|commit|CUDA|NCCL)'
    "$build/tests/ops/ops_parity" cuda embed 2>&1 | grep -a '^cuda;' || {
        "$program" "$root/configs/quickstart.yaml" --device cuda --dry-run output.dir=none
        return 1
    }
}
echo "| line | result | s | |"
echo "|---|---|---|---|"
if ((is_carried)); then
    skip "build" "carried here"
elif ((emulated == 0)); then
    check "build" build_all || finish
fi
check "device" device_name || finish

# ---- operations, and the model against PyTorch's numbers ----

# Each operation against double precision, poisoned outputs, odd sizes; the thread family runs a pass over all operations
# on three devices opened in turn and wants equal bits.
golden() { (cd "$root" && LEMOE_TEST_DEVICE=cuda limited "$build/tests/golden/test_golden_$1"); }
if ((emulated)); then
    skip "operations and golden fixtures" "emulated: ctest -R cuda_host"
else
    if wanted operations; then
        check "operations: values" limited "$build/tests/ops/ops_parity" cuda
        check "operations: gradients" limited "$build/tests/ops/ops_grad" cuda
    fi
    # Engine, gradients, edits: 1e-4 of each tensor's norm, fp32.
    for name in model gradients edit; do ! wanted golden || check "golden: $name" golden "$name"; done
fi

# ---- the whole program on the embedded world ----

# launch FOLDER RANKS ARGUMENTS...
launch() {
    local folder=$1 ranks=$2
    shift 2
    limited mpirun -n "$ranks" "$program" "$root/configs/quickstart.yaml" --only "$only" data.edits="$edits" edit.batch_size="$batch" \
        {lemoe,moe,ft_m}.max_steps="$steps" {lemoe,moe,ft_m}.stop_loss=0 output.dir="$folder" "$@"
}
run_of() { echo "$1"/runs/*-"$2"-s*.h5; }
# alike NLL_FACTOR TIES A B: every method's run, base NLL within 1e-5 times the factor, and shares of near-ties.
alike() {
    local factor=$1 ties=$2 method status=0
    for method in "${methods[@]}"; do
        "$python" "$root/tests/e2e/compare_ranks.py" "$(run_of "$3" "$method")" "$(run_of "$4" "$method")" "$factor" "$ties" ||
            status=1
    done
    return $status
}
# same A B: every dataset that is not volatile, bit by bit.
same() {
    local method file other status=0
    for method in "${methods[@]}"; do
        file=$(run_of "$1" "$method") other=$(run_of "$2" "$method")
        "$python" "$root/tests/e2e/compare_h5.py" "$file" "$other" || status=1
        [[ $method == none ]] || cmp "${file%.h5}/adaptor.safetensors" "${other%.h5}/adaptor.safetensors" || status=1
    done
    ((status)) || echo "${#methods[@]} runs, twice the same"
    return $status
}
world_fp32() {
    mkdir -p first && launch cpu 1 --device cpu && (cd first && launch out 1 --device cuda) && alike 10 0.02 cpu first/out
}
# Every operand in bf16, what trains included; on the CPU only the frozen weights: 1e-2. The same model in fp32, its
# weights widened, is the CPU's: 1e-4.
world_bf16() {
    local methods=(lemoe-stable) only='*-lemoe-stable-*'
    launch cpu16 1 --device cpu model.dtype=bf16 && launch cuda16 1 --device cuda model.dtype=bf16 && alike 1000 0.05 cpu16 cuda16
}
world_widened() {
    local methods=(lemoe-stable) only='*-lemoe-stable-*'
    launch widened 1 --device cuda model.dtype=bf16 parallel.products=fp32 && alike 10 0.02 cpu16 widened
}
rerun() {
    mkdir -p second && (cd second && launch out 1 --device cuda) && same first/out second/out
}
# Both ranks on the first card: what they reduce travels through the host.
staged() { CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES%%,*} launch staged 2 parallel.tensor=2 --device cuda && alike 10 0.02 first/out staged; }
between_cards() {
    launch cards 2 parallel.tensor=2 --device cuda && grep 'reductions direct' cards/runs/*/run.log && alike 10 0.02 first/out cards
}
# Packs whole, and in two parts whose reductions run beside products: the same within limits, and how long an update takes.
milliseconds() {
    "$python" -c 'import h5py, sys, numpy; print("%.2f" % (1e3 * numpy.median(h5py.File(sys.argv[1])["train/seconds"][:])))' \
        "$(run_of "$1" lemoe-stable)"
}
in_parts() {
    launch whole 2 parallel.tensor=2 parallel.overlap=false --device cuda &&
        launch parts 2 parallel.tensor=2 parallel.overlap=true --device cuda && alike 10 0.02 whole parts &&
        echo "an update takes $(milliseconds parts) ms in parts, $(milliseconds whole) whole"
}

export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0,1}
world() {
    if check "world: CPU against CUDA, fp32" world_fp32; then
        check "world: twice the same" rerun
        check "world: 2 ranks on one card" staged
        if ((emulated)); then
            LEMOE_CUDA_HOST_DEVICES=2 check "world: 2 ranks, NCCL" between_cards
            LEMOE_CUDA_HOST_DEVICES=2 check "world: 2 ranks, NCCL, in parts" in_parts
        elif (($(nvidia-smi -L 2>/dev/null | wc -l) < 2)); then
            for name in "2 ranks, NCCL" "2 ranks, NCCL, in parts"; do skip "world: $name" "needs two GPUs"; done
        else
            check "world: 2 ranks, NCCL" between_cards
            check "world: 2 ranks, NCCL, in parts" in_parts
        fi
    else
        for name in "twice the same" "2 ranks on one card" "2 ranks, NCCL" "2 ranks, NCCL, in parts"; do
            skip "world: $name" "no run to compare with"
        done
    fi
    if check "world: CPU against CUDA, bf16" world_bf16; then
        check "world: bf16 weights, fp32 products" world_widened
    else
        skip "world: bf16 weights, fp32 products" "no run to compare with"
    fi
}
! wanted world || world

# ---- the vendor's checkers ----

for tool in memcheck racecheck; do
    if ! wanted "$tool"; then
        continue
    elif ((emulated)); then
        skip "compute-sanitizer $tool" "emulated: no GPU"
    elif ! command -v compute-sanitizer >/dev/null; then
        skip "compute-sanitizer $tool" "not installed"
    else
        for family in norm rope embed attn xent route guards adamw fill linear rounded; do
            check "$tool: $family" limited compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/tests/ops/ops_parity" cuda "$family"
        done
    fi
done
finish

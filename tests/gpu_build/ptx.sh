#!/usr/bin/env bash
# ptx.sh PARITY FILE[:FILE...]: the tests of operations run every kernel by its PTX (made by nvcc for this build), and what
# is wrong with one is told: mistakes are planted in copies, each in one kernel. PARITY is ops_parity; LEMOE_CUDA_MODULE
# names the emulated module.
set -euo pipefail
parity=$(realpath "$1")
IFS=: read -ra files <<<"$2"
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
paths() { (IFS=: && echo "$*"); }

# planted FILE KERNEL EDIT FAMILY PATTERN: with sed's EDIT in that kernel the family fails, and says so.
planted() {
    local file=$1 kernel=$2 edit=$3 family=$4 pattern=$5
    rm -rf copies && mkdir copies && cp "${files[@]}" copies/
    sed -i "/^\.entry .*$kernel/,/^}/ { $edit }" "copies/$file.ptx"
    ! cmp -s "copies/$file.ptx" "$(printf '%s\n' "${files[@]}" | grep "/$file.ptx")" || fail "nothing is planted in $kernel"
    { ! LEMOE_CUDA_HOST_PTX=$(paths copies/*.ptx) "$parity" cuda "$family" >log 2>&1; } 2>/dev/null || # bash's "Aborted"
        fail "$kernel is let through: $edit"
    grep -qE "$pattern" log || fail "not said of $kernel: $pattern"
}
# Values: another instruction, another lane.
planted cuda_act k_silul 's/rcp.rn.f32/neg.f32/' elementwise 'FAILED .*silu_fwd'
planted cuda_route k_row_dot 's/shfl.sync.bfly/shfl.sync.idx/' route 'FAILED .*row_dot'
planted cuda_norm k_rope 's/sub.f32/add.f32/' rope 'FAILED .*rope'
planted cuda_attn k_attn_fwdILi2E 's/rcp.rn.f32/neg.f32/' attn 'FAILED .*heads of 64'
# Threads: no barrier where one writes and another reads, all write where one should, a barrier that some do not reach.
planted cuda_xent k_rowmax '/bar.sync/ d' xent 'k_rowmax.*: writes what another thread reads'
first='x; s/^/x/; /^x$/ { x; d }; x' # deletes the first line that it is given
planted cuda_attn k_attn_fwdILi1E "/bar.sync/ { $first }" attn 'k_attn_fwd.*: writes what another thread reads'
planted cuda_route k_row_dot '/and.b32/ s/, 31;/, 0;/' route 'k_row_dot.*: writes what another thread writes'
planted cuda_xent k_rowmax 's/bar.sync/mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 32; @%p1 &/' xent 'threads wait at a barrier'
planted cuda_route k_rows_scale 's/%ctaid.x/%ctaid.y/' route 'k_rows_scale.*block .1, 0.*: reads what another thread writes'
# Memory: outside of the device's or the block's, at no multiple of its size.
planted cuda_act k_scale '/st.global/ s/\]/+1073741824]/' elementwise 'k_scale.*: 4 bytes .* outside of device memory'
planted cuda_act k_scale '/ld.global/ s/\]/+2]/' elementwise 'k_scale.*4 bytes at .*, no multiple'
planted cuda_xent k_rowmax '/st.shared.f32/ s/\]/+65536]/' xent 'k_rowmax.* and shared memory has 64'
# What is not there.
planted cuda_norm k_rmsnorml 's/sqrt.rn/sqrt.approx/' norm 'cuda_norm.ptx:[0-9]+: .*sqrt.approx.f[0-9]+ with 2 operands is not known'
planted cuda_norm k_rmsnorml 's/k_rmsnorml/k_rmsnorm_l/' norm 'no file has _Z9k_rmsnorml'
planted cuda_attn k_attn_fwdILi1E 's/maxntid 256/maxntid 128/' attn 'k_attn_fwd.*: blocks of 256 threads'

# Every kernel, in the families that are quick; RAN has a line a process and kernel: instructions that ran, and all.
export LEMOE_CUDA_HOST_PTX LEMOE_CUDA_HOST_PTX_RAN=$work/ran
LEMOE_CUDA_HOST_PTX=$(paths "${files[@]}")
for family in bf16 rounded cast elementwise norm rope embed attn xent route guards adamw fill; do
    "$parity" cuda "$family" >log 2>&1 || fail "$family"
done
never=$(awk '{if ($2 > n[$1]) n[$1] = $2; all[$1] = 1} END {for (k in all) if (!n[k]) print k}' ran)
[[ ! $never ]] || fail "never ran: $never"
echo "ptx: $(cut -d' ' -f1 ran | sort -u | wc -l) kernels ran by their PTX, mistakes in it are told"

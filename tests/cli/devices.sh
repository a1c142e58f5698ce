echo '{"prompt":"a"}' >p.jsonl
# Why there is none depends on the build and the machine; the GPUs that it may have are out of sight.
tokmill run --results none -q --device cuda:0 -m "$root/datasets/default" p.jsonl 2>err; echo "status $?"
sed 's/"cuda:0": .*; use/"cuda:0": REASON; use/' err >&2
tokmill run --results none -q --device tpu -m "$root/datasets/default" p.jsonl; echo "status $?"
tokmill run --results none -q --block-size 20 -m "$root/datasets/default" p.jsonl; echo "status $?"
# what the CPU does not have
for o in '--weight-dtype fp8' '--kv-dtype fp8_e4m3' '--compute f32 --kv-dtype bf16'; do
    tokmill run --results none -q --device cpu $o -m "$root/datasets/default" p.jsonl; echo "status $?"
done
# without one, the CPU is chosen and the reason told
tokmill run --results none --limit 1 -m "$root/datasets/default" p.jsonl 2>err >/dev/null; echo "status $?"
sed -n '1s/"cuda:0": .*; computing/"cuda:0": REASON; computing/p' err >&2

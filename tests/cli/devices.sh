echo '{"prompt":"a"}' >p.jsonl
tokmill run --results none -q --device cuda:0 -m "$root/datasets/default" p.jsonl; echo "status $?"
tokmill run --results none -q --device tpu -m "$root/datasets/default" p.jsonl; echo "status $?"
tokmill run --results none -q --block-size 20 -m "$root/datasets/default" p.jsonl; echo "status $?"

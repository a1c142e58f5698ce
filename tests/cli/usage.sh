tokmill; echo "status $?"
tokmill frobnicate; echo "status $?"
tokmill --version
tokmill run; echo "status $?"
tokmill run -m random:qwen3-0.6b; echo "status $?"
tokmill run -m "$root/datasets/default" missing.jsonl; echo "status $?"
tokmill run --max-seqs; echo "status $?"
tokmill run --max-seqs ten x; echo "status $?"
tokmill run --max-seqs 0 x; echo "status $?"
tokmill run --kv-memory 8XB x; echo "status $?"
tokmill run --kv-memory 99999999999GiB x; echo "status $?"
tokmill run --order random x; echo "status $?"
tokmill run --frob x; echo "status $?"
tokmill run -Z x; echo "status $?"
tokmill run --quiet=yes x; echo "status $?"
tokmill run --temperature=-1 x; echo "status $?"
# nothing that is read is overwritten
echo '{"prompt":"x"}' >in.jsonl
tokmill run -m "$root/datasets/default" -o ./in.jsonl in.jsonl; echo "status $?"
tokmill run -m "$root/datasets/default" -o out.jsonl --errors in.jsonl in.jsonl; echo "status $?"
tokmill run -m "$root/datasets/default" -q --results none -o out.jsonl --errors out.jsonl in.jsonl; echo "status $?"
cat in.jsonl
tokmill run -m "$root/datasets/default" -q --results none -o /dev/full in.jsonl; echo "status $?"
mkdir r
ln -s /dev/full r/requests.csv
tokmill run -m "$root/datasets/default" -q --results r -o out.jsonl in.jsonl; echo "status $?"

# --emit: others' result files beside ours, and that they agree with what was measured
bench() { tokmill bench -q -m "$root/datasets/default" --num-requests 20 --input-len 8..24 --output-len 6 --allow-invalid --format csv "$@" >out.csv 2>warnings; }
bench --emit vllm,llama-bench,mlperf --arrival all --sweep batch=4,8 --repeat 2 --results off; echo "status $?"
ls off off/0001
jq -r 'keys_unsorted | join(" ")' off/0001/vllm-serve.json off/0001/vllm-throughput.json
jq -s '.[0].total_input_tokens == .[2].input_tokens and .[0].total_output_tokens == 120 and .[1].total_num_tokens == .[2].input_tokens + 120
       and .[0].duration < .[2].wall_s and .[0].request_rate == "inf"' off/0001/vllm-serve.json off/0001/vllm-throughput.json off/0001/summary.json
jq -r 'map(keys_unsorted) | unique | length, (.[0] | join(" "))' off/llama-bench.json
jq -c 'map([(.samples_ns | length), ((.samples_ts | add / 2) / .avg_ts * 1e6 | round), .stddev_ns > 0, .n_gen])' off/llama-bench.json
jq -s '.[0][0].samples_ns[0] == .[1][0].samples_ns[0]' off/llama-bench.json off/0001/llama-bench.json
sed 's/ : [0-9.e+]*$/ : N/; s/: [0-9.e+]*$/: N/; s/tokmill [0-9.]*,/tokmill V,/; s/^\(SUT name : tokmill default on\).*/\1 .../' off/0001/mlperf_log_summary.txt
bench --emit mlperf --rate 500 --slo ttft:10s --results srv; echo "status $?"
grep -vc '^:::MLLOG {' srv/mlperf_log_detail.txt
sed 's/^:::MLLOG //' srv/mlperf_log_detail.txt | jq -r .key
sed 's/^:::MLLOG //' srv/mlperf_log_detail.txt | jq -r 'select(.key == "result_perf_constraints_met" or .key == "result_query_count") | .value'
bench --emit vllm --concurrency 3 --results closed; jq -c '[.max_concurrency, .request_rate]' closed/vllm-serve.json; ls closed
for o in '--emit vllm,trtllm' '--emit mlperf' '--emit mlperf --concurrency 2' '--emit vllm --results none'; do
    tokmill bench -m "$root/datasets/default" $o >out.csv; echo "status $?"
done

# the shapes of use that README shows
m=$root/datasets/default
zstdcat "$root/datasets/default.jsonl.zst" | head -3 >prompts.jsonl
tokmill run -q -m "$m" prompts.jsonl | jq -r .text | wc -l
tokmill run -q -m "$m" --ordered -o answers.jsonl.zst --results out prompts.jsonl prompts.jsonl && zstdcat answers.jsonl.zst | jq -c .index
jq -r '.validity' out/summary.json
ls results | sed 's/[0-9]/9/g'
seq 2 | jq -c '{prompt_token_ids: [range(16) | . * 7 + 11], max_tokens: 4, ignore_eos: true}' |
    tokmill run -q -m random:qwen3-0.6b --weight-dtype int8 --results none --no-prefix-cache --max-seqs 4 --max-step-tokens 32 --kv-blocks 16 - | jq -c .usage

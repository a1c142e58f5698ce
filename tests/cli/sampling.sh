# what sampling keys promise, seen from outside
m=$root/datasets/default
run() { tokmill run -q --results none --ordered --token-ids -m "$m" "$@"; }
zstdcat "$root/datasets/default.jsonl.zst" | head -4 | jq -c '{prompt}' >p.jsonl
run --temperature 1 --seed 5 --max-tokens 12 p.jsonl >a
run --temperature 1 --seed 5 --max-tokens 12 --max-seqs 1 --threads 1 p.jsonl | cmp - a && echo 'same seed: same rows, whatever the batch'
run --temperature 4 --seed 6 --max-tokens 12 p.jsonl >b
run --temperature 4 --seed 7 --max-tokens 12 p.jsonl | cmp -s - b || echo 'another seed: other rows'
run --temperature 2 --top-k 1 --max-tokens 12 p.jsonl >k
run --max-tokens 12 p.jsonl | cmp - k && echo 'top-k 1 is greedy'
run --temperature 1 --n 3 --max-tokens 6 p.jsonl | jq -c '[.choices[].index]' | sort -u
run --ignore-eos --max-tokens 9 p.jsonl | jq -c '[.usage.completion_tokens, (.token_ids | length), .finish_reason]' | sort -u
run --min-tokens 5 --max-tokens 40 p.jsonl | jq -c '.usage.completion_tokens >= 5' | sort -u
run --logprobs 2 --max-tokens 3 --ignore-eos p.jsonl | jq -c '.logprobs | [(.tokens | length), (.token_logprobs | length), (.top_logprobs | length), (.token_logprobs | all(. <= 0))]' | sort -u
echo '{"prompt":"x","echo":true,"max_tokens":2,"ignore_eos":true}' | run - | jq -c '.text | startswith("x")'
first=$(run --max-tokens 12 p.jsonl | head -1)
text=$(echo "$first" | jq -r .text)
stop=$(printf '%s' "$text" | cut -c2-3)
head -1 p.jsonl | run --stop "$stop" --max-tokens 12 - | jq -r '.finish_reason, (.text | length)'
long=$(printf '%s' "$text" | cut -c8-9)
head -1 p.jsonl | jq -c --arg a "$stop" --arg b "$long" '. + {stop: [$a, $b], min_tokens: 5}' | run - | jq -r --arg t "$text" '.text as $x | .finish_reason, ($x | length), ($t | startswith($x))'
head -1 p.jsonl | run --logprobs 2 --max-tokens 6 - | jq -c '.text as $t | .logprobs | [.tokens, .text_offset] | transpose | all(.[0] as $k | $t[.[1]:] | startswith($k))'
head -1 p.jsonl | jq -c '.echo = true | .logprobs = 0' | run --max-tokens 6 - | jq -c '.text as $t | .logprobs | ([.tokens, .text_offset] | transpose | all(.[0] as $k | $t[.[1]:] | startswith($k))), (.tokens == (.top_logprobs | map(keys[0])))'
head -1 p.jsonl | run --logprobs 1 --temperature 8 --max-tokens 20 --seed 1 - | jq -c '.logprobs | ([.tokens, .token_logprobs, .top_logprobs] | transpose | all(.[2][.[0]] == .[1])), (.tokens | any(startswith("bytes:\\x"))), (.top_logprobs | any(length == 2))'
id=$(echo "$first" | jq '.token_ids[1]')
head -1 p.jsonl | jq -c --argjson id "$id" '. + {stop_token_ids: [$id], max_tokens: 12}' | run - | jq -c '[.finish_reason, (.token_ids | length), .usage.completion_tokens]'
head -1 p.jsonl | jq -c --argjson id "$id" '. + {logit_bias: {($id | tostring): 100}, max_tokens: 3}' | run - | jq -c --argjson id "$id" '.token_ids | all(. == $id)'

# a random model written to disk is the one made in memory, and inspect reads it
tokmill make-model --shape "$root/datasets/default/config.json" --seed 3 m; echo "status $?"
ls m
echo '{"prompt_token_ids":[1,2,3,4,5],"max_tokens":8,"ignore_eos":true}' >p.jsonl
tokmill run -q --results none --token-ids -m m p.jsonl | jq -c .token_ids >a
tokmill run -q --results none --token-ids --seed 3 -m "random:$root/datasets/default/config.json" p.jsonl | jq -c .token_ids | cmp - a && echo same
tokmill inspect m | head -30
tokmill inspect --json m | jq -c 'keys'
tokmill make-model --shape gpt-9 x; echo "status $?"
tokmill make-model --shape qwen3-0.6b; echo "status $?"
tokmill inspect nowhere; echo "status $?"

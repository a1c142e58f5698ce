# bad lines become error rows, the others are answered, the status says so
{
    printf '%s\n' '{"prompt":"copy: apple","id":"good","max_tokens":4}' 'not json' '[1,2]' '{"id":"none"}' '{"prompt":7}' \
        '{"prompt":"x","temperature":-1}' '{"prompt":"x","temperature":"hot"}' '{"prompt":"x","stream":true}' '' \
        '{"prompt":"x","max_tokens":99999}' '{"prompt_token_ids":[1,999999]}' '{"prompt_token_ids":[]}' '{"prompt":""}' \
        '{"messages":[{"role":"user","content":"hi"}]}' '{"prompt":"x","guided_regex":"a+"}' \
        '{"custom_id":"b1","method":"POST","url":"/v1/completions","body":{"prompt":"copy: apple","max_tokens":3}}' \
        '{"custom_id":"b1","method":"POST","url":"/v1/completions","body":{"prompt":"x"}}' \
        '{"custom_id":"b2","method":"GET","url":"/v1/completions","body":{"prompt":"x"}}' \
        '{"custom_id":"b3","method":"POST","url":"/v1/embeddings","body":{"input":"x"}}' \
        '{"custom_id":"b4","method":"POST","url":"/v1/completions","body":{"prompt":"x","top_p":2}}'
    printf '{"prompt":"\377"}\n'
} >lines.jsonl
tokmill run -q --ordered --results r -m "$root/datasets/default" -o out.jsonl lines.jsonl; echo "status $?"
jq -c 'del(.text, .usage, .response.body.created, .response.body.choices, .response.body.usage)' out.jsonl
echo "error rows once more: $(wc -l <r/errors.jsonl)"

# rows of answers, joined by id
compare() { echo "--- $*"; tokmill compare "$@"; echo "status $?"; }
cat >base.jsonl <<'X'
{"id":"a","index":0,"text":"one two","finish_reason":"stop","token_ids":[1,2,3],"match":true,"logprobs":{"tokens":["x","y","z"],"token_logprobs":[-0.5,-1,-2]}}
{"id":"b","index":1,"text":"one two","finish_reason":"stop","token_ids":[1,2,3,4,5,6],"match":true}
{"id":7,"index":2,"text":"grün","finish_reason":"stop","match":true}
{"id":"7","index":3,"text":"same","finish_reason":"stop","match":false}

{"id":null,"index":4,"text":"by place","finish_reason":"stop"}
{"id":"e","index":5,"finish_reason":"error","error":{"code":"invalid_request","message":"no"}}
{"id":"f","index":6,"text":"lost","finish_reason":"stop"}
{"id":"g","index":7,"text":"fails","finish_reason":"stop"}
{"id":"n","index":8,"choices":[{"index":0,"text":"c0"},{"index":1,"text":"c1"}]}
X
cat >new.jsonl <<'X'
{"id":"n","index":8,"choices":[{"index":0,"text":"c0"},{"index":1,"text":"c2"}]}
{"id":"g","index":7,"finish_reason":"error","error":{"code":"x","message":"no"}}
{"id":"e","index":5,"text":"now it works","finish_reason":"stop"}
{"id":null,"index":4,"text":"by place","finish_reason":"stop"}
{"id":"7","index":3,"text":"same","finish_reason":"stop","match":false}
{"id":7,"index":2,"text":"grün!","finish_reason":"stop","match":false}
{"id":"b","index":1,"text":"one two","finish_reason":"stop","token_ids":[1,2,3,4,5,7],"match":true}
{"id":"a","index":0,"text":"one three","finish_reason":"stop","token_ids":[1,2,9],"match":false,"logprobs":{"tokens":["x","y","q"],"token_logprobs":[-0.25,-1.5,-9]}}
{"id":"h","index":9,"text":"more","finish_reason":"stop"}
X
compare base.jsonl new.jsonl
compare base.jsonl base.jsonl --fail-on same_rate:-0%,score:-0.5%
compare base.jsonl new.jsonl --fail-on same_rate:-70%
compare base.jsonl new.jsonl --fail-on same_rate:-1% --metric same_rate | tail -2
compare base.jsonl new.jsonl --format json | sed -n '/^{"id\|"answers":{/p' | grep -o '"answers":{.*' 
# OpenAI's shapes: a batch's completion and chat, names of tokens instead of ids, compressed, whatever the name
cat >batch <<'X'
{"id":"batch_req_0","custom_id":"q","response":{"status_code":200,"body":{"choices":[{"index":0,"text":"abc","logprobs":{"tokens":["a","bc"],"token_logprobs":[null,-1]}}]}},"error":null}
{"id":"batch_req_1","custom_id":"r","response":{"status_code":200,"body":{"choices":[{"index":0,"message":{"role":"assistant","content":"hello"}}]}},"error":null}
{"id":"batch_req_2","custom_id":"s","response":{"status_code":400,"body":{"error":{"message":"no"}}},"error":null}
X
sed 's/"bc"/"bd"/; s/batch_req/other/; s/hello/help/' batch | gzip -c >batch2.gz
compare --answers batch batch2.gz --format table
# shards of one run against another; several NEWs
head -4 base.jsonl >s1.jsonl
tail -n +5 base.jsonl | zstd -qc >s2.jsonl.zst
compare s1.jsonl,s2.jsonl.zst base.jsonl new.jsonl | grep 'same_rate\|verdict\|status'
# speed and sameness in one gate
printf 'output_tokens_per_s,score\n100,1\n101,1\n99,1\n100,1\n' >runs.csv
compare runs.csv,base.jsonl runs.csv,new.jsonl --fail-on output_tokens_per_s,same_rate

# weights that are no numbers, or infinite: every request is answered all the same, with tokens of the vocabulary
jq '.num_hidden_layers=2|.hidden_size=64|.intermediate_size=96|.vocab_size=300|.num_attention_heads=4|.num_key_value_heads=2|.head_dim=16' \
    "$root/datasets/default/config.json" >shape.json
tokmill make-model --shape shape.json m >made
header=$(od -An -tu8 -N8 m/model.safetensors)
size=$(wc -c <m/model.safetensors)
for sampling in '"temperature":0' '"temperature":1' '"temperature":1,"top_k":5' '"temperature":1,"top_p":0.9' '"temperature":1,"top_p":0' \
    '"temperature":50,"min_p":0.1,"top_k":2,"top_p":0.5' '"temperature":0,"repetition_penalty":1.5,"frequency_penalty":1,"logit_bias":{"5":100}'; do
    echo "{\"prompt\":\"any\",\"max_tokens\":9,\"ignore_eos\":true,\"logprobs\":3,$sampling}"
done >p.jsonl
# bf16: a NaN, both infinities, the largest number, and one of each
for pattern in '\300\177' '\200\177\200\377' '\177\177' '\300\177\200\377\177\177\200\077'; do
    head -c $((8 + header)) m/model.safetensors >wild
    yes "$(printf "$pattern")" | tr -d '\n' | head -c $((size - 8 - header)) >>wild
    cp wild m/model.safetensors
    for types in 'bf16 bf16' 'f32 f32' 'f32 int8'; do
        tokmill run -q -m m --compute "${types% *}" --weight-dtype "${types#* }" --kv-blocks 32 --token-ids --results none -o rows p.jsonl
        status=$?
        jq -c 'select((.token_ids | length) == 9 and all(.token_ids[]; . >= 0 and . < 300))' rows >good
        printf '%s\n' "$pattern $types: status $status, $(wc -l <good) good rows"
    done
done

# every way in which a model folder can be unusable
echo '{"prompt":"a"}' >p.jsonl
try() { tokmill run --results none -q -m "$1" p.jsonl; echo "status $?"; }
try nowhere
try p.jsonl
try random:gpt-5
mkdir m
try m
echo 'not json' >m/config.json
try m
echo '{"model_type":"gpt2"}' >m/config.json
try m
echo '{"model_type":"qwen3","hidden_size":64}' >m/config.json
try m
jq '.quantization_config={"quant_method":"fp8"}' "$root/datasets/default/config.json" >m/config.json
try m
cp "$root/datasets/default/config.json" m/
try m
head -c 1000 "$root/datasets/default/model.safetensors" >m/model.safetensors
try m
jq '.intermediate_size=176' "$root/datasets/default/config.json" >m/config.json
cp "$root/datasets/default/model.safetensors" m/
try m
cp "$root/datasets/default/config.json" m/
try m
echo '{"version":"1.0","model":{"type":"Unigram"}}' >m/tokenizer.json
try m

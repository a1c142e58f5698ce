#!/bin/sh
# Memory does not grow with the corpus: 50,000 and 400,000 lines in the same room, and a line of 40 MiB that is refused takes no more than
# a few times its size.
build=$(cd "$1" && pwd)
case $build in *asan*) echo 'skipped: a sanitizer has memory of its own'; exit 0 ;; esac
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
cat >"$to/config.json" <<'END'
{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
 "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 260, "max_position_embeddings": 128,
 "rms_norm_eps": 1e-6, "rope_theta": 10000, "tie_word_embeddings": true, "hidden_act": "silu", "eos_token_id": 256, "bos_token_id": 256}
END
lines() { awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) printf "{\"prompt\":\"p%d\",\"max_tokens\":1}\n", i }'; }
# room NAME: MiB that a run over NAME.jsonl.zst takes at most.
room() {
    "$build/tokmill" run -q -m "random:$to/config.json" --device cpu --kv-memory 4MiB --max-seqs 512 --max-step-tokens 4096 --results "$to/$1" \
        -o "$to/$1.out.jsonl.zst" "$to/$1.jsonl.zst" 2>"$to/err"
    jq '.max_rss_bytes / 1048576 | floor' "$to/$1/summary.json"
}
lines 50000 | zstd -q -o "$to/few.jsonl.zst"
lines 400000 | zstd -q -o "$to/many.jsonl.zst"
{ lines 10; printf '{"prompt":"'; head -c 41943040 /dev/zero | tr '\0' x | fold -w 7 | paste -sd' ' | tr -d '\n'; printf '"}\n'; lines 10; } | zstd -q -o "$to/long.jsonl.zst"
few=$(room few) many=$(room many) long=$(room long)
[ "$(zstdcat "$to/many.out.jsonl.zst" | wc -l)" = 400000 ] || { echo 'rows are missing'; cat "$to/err"; exit 1; }
[ "$many" -le $((few + 16)) ] || { echo "50,000 lines take $few MiB, 400,000 lines $many"; exit 1; }
[ "$(jq -r '"\(.done) \(.failed)"' "$to/long/summary.json")" = '20 1' ] || { echo 'the long line is not refused'; cat "$to/err"; exit 1; }
[ "$long" -le $((few + 10 * 40)) ] || { echo "a line of 40 MiB takes $long MiB"; exit 1; }
echo "50,000 lines: $few MiB, 400,000 lines: $many MiB, a line of 40 MiB: $long MiB"

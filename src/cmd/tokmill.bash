# bash completion of tokmill, made by: tokmill completion
_tokmill()
{
    local cur=${COMP_WORDS[COMP_CWORD]} words=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="run verify merge bench compare report inspect make-model tokenize completion man --help --version"
    elif [[ $cur == -* ]]; then
        case ${COMP_WORDS[1]} in
        run) words="--model --output --errors --results --resume --shard --lines --poison --supervise --in-flight --ordered --limit --token-ids --metrics --device --threads --compute --weight-dtype --kv-dtype --kv-memory --kv-blocks --block-size --max-seqs --max-step-tokens --no-prefix-cache --order --deterministic --max-tokens --min-tokens --temperature --top-p --top-k --min-p --presence-penalty --frequency-penalty --repetition-penalty --n --stop --ignore-eos --logprobs --seed --price --csv-dialect --quiet --log-level --help" ;;
        verify) words="--limit --sample --model --run --seed --help" ;;
        merge) words="--corpus --unordered --memory --results --help" ;;
        bench) words="--model --num-requests --input-len --output-len --prefix-len --prefix-count --replay --seed --scenario --rate --arrivals --concurrency --arrival --repeat --warmup --sweep --ab --slo --find-max --probe-time --precision --device --threads --compute --weight-dtype --kv-dtype --kv-memory --kv-blocks --block-size --max-seqs --max-step-tokens --no-prefix-cache --order --deterministic --results --trace --format --emit --csv-dialect --allow-invalid --price --quiet --log-level --ceilings --help" ;;
        compare) words="--metric --answers --different-workloads --fail-on --config --threshold --format --help" ;;
        report) words="--output --baseline --help" ;;
        inspect) words="--json --seqs --len --help" ;;
        make-model) words="--shape --seed --help" ;;
        tokenize) words="--model --no-bos --decode --help" ;;
        completion) words="--help" ;;
        man) words="--help" ;;
        esac
    fi
    if [ -n "$words" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}
complete -o filenames -F _tokmill tokmill

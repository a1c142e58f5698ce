# verdicts, exit status, limits, configurations
# runs FILE DEVICE MAX_SEQS TOKENS_PER_S...: a row for each, of 1000 tokens
runs() {
    file=$1 device=$2 seqs=$3
    shift 3
    mkdir -p "${file%/*}"
    [ -f "$file" ] || printf 'tokmill_version,model,device_text,corpus,max_seqs,lines,input_tokens,validity,wall_s,output_tokens_per_s,ttft_p50_ms,score,energy_j\r\n' >"$file"
    for x; do
        awk -v x="$x" -v d="$device" -v s="$seqs" 'BEGIN { printf "0.1.0,m,\"%s\",/data/c.jsonl,%s,40,9000,VALID,%.6g,%s,%.6g,0.95,\r\n", d, s, 1000 / x, x, 50000 / x }' >>"$file"
    done
}
compare() { echo "--- $*"; tokmill compare "$@"; echo "status $?"; }
runs base/summary.csv 'A, 2 cores' 64 1000 1010 990 1005 995 1002
runs same/summary.csv 'A, 2 cores' 64 1001 1009 991 1004 996 1003
runs slow/summary.csv 'A, 2 cores' 64 900 905 910 895 902 899
runs fast/summary.csv 'B' 128 1100 1105 1110 1095 1102 1099
runs few/summary.csv 'A, 2 cores' 64 1000 1010 990
runs noisy/summary.csv 'A, 2 cores' 64 1200 800 1010 990 1100 870
compare base same
compare base slow
compare base/summary.csv fast/summary.csv
compare base few --metric output_tokens_per_s
compare base noisy --metric output_tokens_per_s,wall_s
# several NEWs: the worst counts
compare base same slow --metric wall_s --fail-on output_tokens_per_s
# repetitions in several folders
runs one/summary.csv 'A, 2 cores' 64 900 905
runs two/summary.csv 'A, 2 cores' 64 910 895
compare base one,two --metric output_tokens_per_s
# limits: by option, by file (what is typed wins), of all
compare base slow --metric output_tokens_per_s --fail-on output_tokens_per_s:-15% | tail -2
compare base slow --metric output_tokens_per_s --threshold 15 | tail -2
printf '# of latency\n\n  ttft_p50_ms:+5%%  # half a step\noutput_tokens_per_s:-15%%\n' >limits
compare base slow --metric output_tokens_per_s --config limits | tail -2
compare base slow --metric output_tokens_per_s --config limits --fail-on ttft_p50_ms:50% | tail -2
# what has a limit and no value is no pass
compare base slow --metric output_tokens_per_s --fail-on energy_j
# a sweep: like with like; what is missing in NEW is no pass, what is new is named
runs sweep/summary.csv 'A, 2 cores' 64 1000 1010 990 1005
runs sweep/summary.csv 'A, 2 cores' 128 2000 2010 1990 2005
runs sweep2/summary.csv 'B' 128 2001 2011 1991 2006
runs sweep2/summary.csv 'B' 256 2000 2010 1990 2005
compare sweep sweep2 --metric output_tokens_per_s
compare sweep2 sweep2 --metric output_tokens_per_s
# rows that are INVALID are named
sed 's/VALID/INVALID/' base/summary.csv >base/invalid.csv
compare base base/invalid.csv --metric output_tokens_per_s
# other columns, another order, an older file
printf 'output_tokens_per_s,more\n%s' "$(seq 1000 1005 | sed 's/$/,x/')" >old.csv
compare old.csv base
# other workloads
sed 's/c.jsonl/d.jsonl/; s/9000/9001/' base/summary.csv >other.csv
compare base other.csv 2>&1
compare base other.csv --different-workloads --metric output_tokens_per_s
sed 's/,m,/,m2,/' sweep2/summary.csv | grep -v ',128,' >disjoint.csv
compare sweep disjoint.csv --different-workloads 2>&1
# in a job of GitHub
GITHUB_ACTIONS=true compare base slow --metric wall_s --fail-on output_tokens_per_s,ttft_p50_ms 2>&1 >/dev/null

# every form, and that the tools at hand can read it
head='tokmill_version,model,device_text,corpus,max_seqs,lines,wall_s,output_tokens_per_s,ttft_p50_ms'
runs() {
    file=$1
    shift
    echo "$head" >"$file"
    for x; do
        awk -v x="$x" 'BEGIN { for (s = 64; s <= 128; s += 64) printf "0.1.0,a|b <c> & \"d,A 2 cores,c.jsonl,%d,40,%.6g,%s,%.6g\n", s, 1000 / x, x, s == 64 ? 50000 / x : x / 10 }' >>"$file"
    done
    sed -i 's/a|b <c> & "d/"a|b <c> \& ""d"/' "$file"
}
runs 'b|ase.csv' 1000 1010 990 1005
runs 'n<e>&w.csv' 900 905 910 895
sed -i '2s/,[0-9.]*$/,/' 'n<e>&w.csv'      # an empty cell
echo '{"id":1,"text":"ab"}' >b.jsonl
echo '{"id":1,"text":"ac"}' >n.jsonl
for f in md json junit github-bigger github-smaller bencher; do
    echo "--- $f"
    tokmill compare --format $f 'b|ase.csv,b.jsonl' 'n<e>&w.csv,n.jsonl' >out.$f
    echo "status $?"
    cat out.$f
done
for f in gobench google-benchmark; do
    echo "--- $f"
    tokmill compare --format $f 'b|ase.csv' 'n<e>&w.csv' >out.$f
    echo "status $?"
    cat out.$f
done
# what others make of it
for f in json github-bigger github-smaller bencher google-benchmark; do jq -e . out.$f >/dev/null || echo "$f is not JSON"; done
if command -v xmllint >/dev/null; then xmllint --noout out.junit || echo 'junit is not XML'; fi
jq -r '[.comparisons[0].metrics[] | select(.gate and .verdict == "regression")] | length' out.json
jq -r '[.benchmarks[] | select(.name == "new/run/max_seqs=64") | .real_time] | add * 1000 | round' out.google-benchmark
jq -r '.[0].name, .[0].value' out.github-bigger
jq -r 'keys | join(" ")' out.bencher
grep -c '^BenchmarkRun/max_seqs=[0-9]*	1	' out.gobench
# names of several NEWs; a side with no repetition is no entry; bad bytes in a name
printf '%s\n0.1.0,m,d,c,64,40,,,7\n' "$head" >"$(printf 'bad\377.csv')"
tokmill compare --format bencher "$(printf 'bad\377.csv')" "$(printf 'bad\377.csv')" "$(printf 'bad\377.csv')"
tokmill compare --format junit "$(printf 'bad\377.csv')" "$(printf 'bad\377.csv')" --fail-on wall_s
tokmill compare --format github-bigger "$(printf 'bad\377.csv')" "$(printf 'bad\377.csv')"

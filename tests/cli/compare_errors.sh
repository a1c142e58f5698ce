# what cannot be compared, with file and line
compare() { tokmill compare "$@"; echo "status $?"; }
h='model,corpus,output_tokens_per_s'
printf '%s\nm,c,1\nm,c,2\nm,c,3\nm,c,4\n' $h >good.csv
compare
compare good.csv
compare good.csv missing.csv
mkdir empty
compare good.csv empty
compare good.csv ,
: >nothing.csv; compare good.csv nothing.csv
echo $h >header.csv; compare good.csv header.csv
printf 'a,b\n1,2\n' >other.csv; compare good.csv other.csv
printf '%s\nm,c,1\nm,c\n' $h >short.csv; compare good.csv short.csv
printf '%s\nm,c,1,1,1\n' $h >long.csv; compare good.csv long.csv
printf '%s\nm,c,fast\n' $h >word.csv; compare good.csv word.csv
printf '%s\nm,c,nan\n' $h >nan.csv; compare good.csv nan.csv
printf '%s\n\nm,c,-1\n' $h >negative.csv; compare good.csv negative.csv
printf '%s\nm,"c\nd",1\n' $h >break.csv; compare good.csv break.csv
printf '%s,model\n' $h >twice.csv; compare good.csv twice.csv
printf '%s\nm,c,\0001\n' $h >nul.csv; compare good.csv nul.csv
(echo $h; seq 1001 | sed 's/^/m,c,/') >many.csv; compare good.csv many.csv
seq -s, 1025 >wide.csv; compare good.csv wide.csv
printf '%s\nm,c,1\n' $h | zstd -qc | head -c 20 >cut.csv; compare good.csv cut.csv
# options
compare good.csv good.csv --metric speed
compare good.csv good.csv --fail-on output_tokens_per_s:+3%
compare good.csv good.csv --fail-on output_tokens_per_s:-3
compare good.csv good.csv --fail-on same_rate
compare good.csv good.csv --threshold -1
compare good.csv good.csv --config missing
printf '# limits\noutput_tokens_per_s=-3%%\n' >limits; compare good.csv good.csv --config limits
compare good.csv good.csv good.csv --format gobench
compare good.csv good.csv --format xml
# answers
echo '{"id":1,"text":"a"}' >a.jsonl
echo '{"id":2,"text":"a"}' >b.jsonl
compare a.jsonl b.jsonl
compare a.jsonl good.csv
compare a.jsonl,good.csv a.jsonl
compare a.jsonl a.jsonl --fail-on wall_s
compare a.jsonl,a.jsonl a.jsonl
compare a.jsonl a.jsonl,a.jsonl
compare a.jsonl missing.jsonl
printf '\n{"id":1,"text":"a"}\n{"id":1,\n' >broken.jsonl; compare a.jsonl broken.jsonl
echo '{"text":"a"}' >noid.jsonl; compare noid.jsonl a.jsonl
echo '[1]' >array.jsonl; compare a.jsonl array.jsonl
: >none.jsonl; compare none.jsonl none.jsonl
tokmill compare good.csv good.csv >/dev/full; echo "status $?"

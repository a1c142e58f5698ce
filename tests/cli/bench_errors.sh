# every option of bench that is wrong, or does not go with another: a message, and status 2
printf '{"prompt":"a"}\n' >c.jsonl
bench() { echo "--- $*"; tokmill bench -q --results none -m "$root/datasets/default" "$@" 2>&1; echo "status $?"; }
tokmill bench --results none 2>&1; echo "status $?"
# what only fits one scenario
bench --scenario closed
bench --scenario server
bench --rate 3 --concurrency 2
bench --rate 2 --scenario offline
bench --arrivals poisson:2 --scenario single
bench --concurrency 2 --scenario single
bench --concurrency 2 --scenario offline
bench --find-max --slo ttft:1s --concurrency 3
bench --sweep rate=1,2 --concurrency 4
bench --sweep concurrency=1,2 --rate 4
bench --rate 3 --arrivals trace c.jsonl
bench --rate 3 --arrivals ramp:1..2:3
bench --arrivals trace
bench --replay c.jsonl c.jsonl
bench --find-max
bench --find-max --slo ttft:1s --repeat 2
bench --find-max --slo ttft:1s --sweep rate=1,2
# values
bench --scenario nope
bench --input-len 0
bench --input-len 5..4
bench --input-len 'normal(5)'
bench --output-len x
bench --output-len 16777217
bench --arrivals poisson
bench --arrivals gamma:1
bench --arrivals constant:0
bench --arrivals often:1
bench --slo x
bench --slo itl:1s
bench --slo ttft:1s,ttft:2s
bench --rate -1
bench --num-requests 0
bench --repeat 0
bench --warmup -1
bench --precision 2
bench --prefix-len 4 --prefix-count 0
bench --format xml
# sweeps
bench --sweep rate
bench --sweep rate=
bench --sweep seed=1,2
bench --sweep rate=1,x
bench --sweep rate=1,,2
bench --sweep batch=0
bench --sweep input-len=8,0
# missing values, files, other
bench --input-len
bench --sweep
bench --bogus
bench nofile.jsonl
bench --replay nofile.csv
bench -
printf 'a,b\n1,2\n' >bad.csv
bench --replay bad.csv
printf 'TIMESTAMP,ContextTokens,GeneratedTokens\nXXX,8,2\n' >untimed.csv
bench --replay untimed.csv --arrivals trace
bench --replay untimed.csv --prefix-len 8
bench --arrivals trace c.jsonl

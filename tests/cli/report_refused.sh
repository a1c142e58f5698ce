# results that are not as they should be: file, line, and what
try() { echo "== $*"; tokmill report "$@" >out; echo "status $?"; }
mkdir r
printf 'model,wall_s\nm,1\n' >good.csv
exec 2>&1
try
try nowhere
try r
printf 'model,wall_s\n' >r/summary.csv
try r
: >r/summary.csv
try r
printf 'model,wall_s\n\nm,1,2\n' >r/summary.csv
try r
printf 'model,wall_s\n"m\n' >r/summary.csv
try r
printf 'model,wall_s\n"m\nm",0x10\n' >r/summary.csv
try r
printf 'model,wall_s\nm,inf\n' >r/summary.csv
try r
printf 'model,wall_s\nm,1,\n' >r/summary.csv
try r
printf 'model\nm\0m\n' >r/summary.csv
try r
cp good.csv r/summary.csv
printf 'stage,share\nread,2\n' >r/stages.csv
try r
printf 'stage,share\nread,\nparse,a lot\n' >r/stages.csv
try r
rm r/stages.csv
printf 'ttft_ms\n1e999\n' >r/requests.csv
try r
rm r/requests.csv
printf 'start_s,time_ms\n0,1\n-1,1\n' >r/steps.csv
try r
rm r/steps.csv
try --output r/page.pdf r
try --output no/page.md r
try --baseline nowhere r
try --baseline r r

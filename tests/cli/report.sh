# a page as Markdown and as HTML: a run whose texts would like to be markup, a sweep with repetitions, what is missing, the baseline
mkdir run sweep sweep/0001 sweep/0002
cat >run/summary.csv <<'X'
validity,validity_rules,model,device_text,compute,weight_dtype,corpus,date_utc,done,failed,input_tokens,cached_tokens,output_tokens,wall_s,load_s,output_tokens_per_s,total_tokens_per_s,price_usd_per_h,price_source,usd_per_mtok,ttft_p50_ms,tpot_p50_ms,e2el_p50_ms,peak_flops,peak_bandwidth_bytes_per_s,mfu,mbu
INVALID,too few requests,"<b>""|*_`",CPU & co,bf16,int8,'=1+1,2026-11-25T10:00:00,3,0,300,0,60,2,0.25,30,180,1.8,--price,2.7777778,20,5,120,1000000000000,20000000000,0.1,0.3
X
printf 'stage,busy_s,share,usd\nload,0.25,,\nread,0.1,0.05,0.00005\nprefill,0.9,0.45,0.00045\ndecode,1,0.5,0.0005\n' >run/stages.csv
printf 'index,id,ttft_ms,tpot_ms,e2el_ms\r\n0,"a\r\nb",10,4,100\r\n1,,20,5,120\r\n2,,90,,90\r\n' >run/requests.csv
cat >sweep/summary.csv <<'X'
model,wall_s,output_tokens_per_s,ttft_p50_ms,ttft_p99_ms,tpot_p50_ms,point,repetition,goodput_rps
m,10,100,20,30,5,rate=1,1,1
m,10,110,24,,5,rate=1,2,1
m,10,390,400,900,9,rate=4,1,2
X
cp run/stages.csv sweep/0002
printf 'step,start_s,time_ms,sequences,prefill_tokens,decode_tokens,kv_blocks_used,kv_blocks\n0,0,100,1,10,0,1,8\n1,0.1,300,3,0,3,2,8\n' >run/steps.csv
echo "== run and sweep"
tokmill report --output page.md run sweep && cat page.md
echo "== baseline"
mkdir old
sed 's/,30,180,/,20,150,/; s/,20,5,120,/,16,5,150,/; s/CPU & co/another/' run/summary.csv >old/summary.csv
tokmill report --output base.md --baseline old run && sed -n '/Against/,$p' base.md
echo "== the page of a folder, in the folder"
rm run/steps.csv
tokmill report run && cat run/report.html
tokmill report --output - run | cmp - run/report.html
echo "== columns that are not there"
printf 'start_s,time_ms,sequences\n0,5,1\n' >run/steps.csv
printf 'e2el_ms\n7\n' >run/requests.csv
tokmill report --output few.md run && sed -n '/Latencies/,/ceilings/p' few.md
tokmill report --output few.html run && grep -c 'not known</text>' few.html

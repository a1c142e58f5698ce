cat >tok.json <<'EOF'
{"version":"1.0","added_tokens":[{"content":"<s>","special":true}],"decoder":{"type":"ByteLevel"},
 "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},
 "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],"special_tokens":{"<s>":{"ids":[0]}}},
 "model":{"type":"BPE","vocab":{"<s>":0,"a":1,"b":2,"ab":3,"Ġ":4,"Ġab":5,"Ã":6,"©":7},"merges":["a b","Ġ ab"]}}
EOF
cat >in.jsonl <<'EOF'
{"text":"ab ab<s>b"}
{"text":""}
{"text":"é \u00e9"}
EOF
tokmill tokenize -m tok.json in.jsonl; echo "status $?"
tokmill tokenize -m tok.json --no-bos in.jsonl
tokmill tokenize -m tok.json in.jsonl | tokmill tokenize -m tok.json --decode -; echo "status $?"
echo '{"ids":[0,3,6]}' | tokmill tokenize -m tok.json --decode --no-bos
printf '{"text":7}\n{"text":\n[]\n{"text":"ab"}\n' | tokmill tokenize -m tok.json; echo "status $?"
printf '{"ids":[8]}\n{"ids":[-1]}\n{"ids":"1"}\n{"ids":[5]}\n' | tokmill tokenize --decode -m tok.json; echo "status $?"
tokmill tokenize; echo "status $?"
tokmill tokenize -m tok.json in.jsonl more.jsonl; echo "status $?"
tokmill tokenize -m missing.json; echo "status $?"
tokmill tokenize -m . in.jsonl; echo "status $?"
echo '{"model":{"type":"Unigram"}}' >other.json
tokmill tokenize -m other.json in.jsonl; echo "status $?"
tokmill tokenize -m tok.json missing.jsonl; echo "status $?"

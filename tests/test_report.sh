#!/bin/sh
# The page of tokmill report in a real browser, at the width of a phone and of a desk: it renders under its own Content-Security-Policy,
# the console stays empty, every chart has something in it, no label is cut off or lies on another (tests/report_check.html measures).
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 1
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT
failed=0
fail() { echo "$*"; failed=1; }

# A sweep of two points of two repetitions each.
"$build/tokmill" bench -q -m datasets/default --input-len 8..60 --output-len 4..24 --num-requests 500 --sweep concurrency=4,64 --repeat 2 --price 0.5 \
    --slo ttft:50ms --allow-invalid --results "$to/sweep" >"$to/told" || { cat "$to/told"; exit 1; }
"$build/tokmill" report --output "$to/page.html" --baseline "$to/sweep/0001" "$to/sweep" "$to/sweep/0004" || exit 1

if grep -niE '<(script|style|link|img|iframe|object|use|image)|[[:space:]](style|src|href|on[a-z]+)=|url\(' "$to/page.html"; then
    fail 'a script, a style or a reference'
fi
grep -q "http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\"" "$to/page.html" || fail 'no Content-Security-Policy'
if command -v xmllint >/dev/null; then
    xmllint --noout "$to/page.html" || fail 'not well-formed'
fi

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || browser=
if [ -z "$browser" ]; then
    echo 'skipped: the page in a browser, for there is no chromium'
    exit $failed
fi
# browse FILE: its DOM in $to/dom, what the console said in $to/console.  No sandbox: the only pages are ours.
browse() {
    HOME=$to timeout 120 "$browser" --headless --no-sandbox --disable-gpu --allow-file-access-from-files --user-data-dir="$to/profile" --virtual-time-budget=10000 \
        --enable-logging=stderr --dump-dom "file://$1" >"$to/dom" 2>"$to/log"
    grep CONSOLE "$to/log" >"$to/console"
}
# measure PAGE: what tests/report_check.html says of it in $to/verdict.
measure() {
    mkdir -p "$to/frame"
    cp tests/report_check.html "$to/frame/"
    cp "$1" "$to/frame/page.html"
    browse "$to/frame/report_check.html"
    sed -n '/<pre id="verdict">/,/^end/p' "$to/dom" | sed 's/<pre id="verdict">//' >"$to/verdict"
}

measure "$to/page.html"
cat "$to/console" "$to/verdict"
[ -s "$to/console" ] && fail 'the console is not empty'
grep -q '^end' "$to/verdict" || { tail -5 "$to/log"; fail 'the page was not measured'; }
grep -q '^bad' "$to/verdict" && fail 'charts are not as they should be'
grep -q '^charts 11$' "$to/verdict" || fail '11 charts were expected'

# What is planted is found: a style, which the policy forbids, a wide table, an empty chart, text on text and text that is cut off.
sed -e 's|</head>|<style>h1 { color: red }</style></head>|' -e 's|</body>|<table width="500"><tr><td>wide</td></tr></table>\
<svg viewBox="0 0 50 50" width="50"><title>empty</title><text x="1" y="20" font-size="12">one</text><text x="5" y="22" font-size="12">two, cut off</text></svg></body>|' \
    "$to/page.html" >"$to/planted.html"
measure "$to/planted.html"
grep -q 'Content Security Policy' "$to/console" || fail 'the style went unnoticed'
grep -q 'heading rgb(34, 34, 34)' "$to/verdict" || fail 'the style was taken'
for word in 'pixels wide in a window of 390' 'empty: nothing is drawn' 'lies on' 'is cut off'; do
    grep -q "^bad.*$word" "$to/verdict" || fail "planted, not found: $word"
done
exit $failed

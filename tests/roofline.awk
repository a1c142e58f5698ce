# S, the output tokens a second of a run whose steps read and multiply as fast as the machine can, one after the other.
#   awk -f tests/roofline.awk -v bw= -v f= -v f8= -v wb= -v kb= -v memory= -v max_seqs= INSPECT LENGTHS
# bw, f, f8: bytes/s of reading and FLOP/s of bf16 and fp8 products, as measured; wb, kb: bytes of a weight of the layers and of a
# number in KV; memory: bytes for KV.  INSPECT is the line of tokmill inspect --json, LENGTHS has a prompt's and its answer's length a line.
# N and V are the numbers in the layers' matrices and in the last one, which is bf16, W the bytes of both, kv the bytes of a token;
# F is f or f8; attention of prompts is taken to run at 0.63 f.
#   prompt of I tokens     2 N I / F + 2 V / f + 2 I^2 n_head d_head n_layer / Fa
#   step of B answers      max(2 N B / F + 2 V B / f, W / bw) + their contexts kv / bw
# Where all requests fit at once: all prompts, then steps of what still runs.  Else the step of a full batch, with P = B I / O tokens
# of prompts in it:
#   S = B / (max(2 N (B + P) / F + 2 V B / f, W / bw) + B (I + O / 2) kv / bw + attention of these prompts)
function of(key) { match($0, "\"" key "\":[0-9]+"); return substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) + 0 }
function max(a, b) { return a > b ? a : b }
NR == 1 {
    layers = of("n_layer"); width = of("d_model"); q = of("n_head") * of("d_head"); k = of("n_kv_head") * of("d_head")
    N = layers * (width * (2 * q + 2 * k) + 3 * width * of("d_ff")); V = width * of("n_vocab")
    W = N * wb + V * 2; kv = 2 * layers * k * kb; F = wb < 2 ? f8 : f; Fa = 0.63 * f
    next
}
{ n++; I += $1; O += $2; squares += $1 * $1; ends[$2]++; last = max(last, $2); contexts += $2 * ($1 + $2 / 2) }
END {
    if (!(bw > 0 && f > 0 && F > 0)) exit
    B = memory / (contexts / O * kv)
    if (B > max_seqs) B = max_seqs
    attention = 2 * squares * q * layers / Fa
    if (n <= B) {
        s = 2 * N * I / F + 2 * V * n / f + attention + contexts * kv / bw
        for (run = n; t < last; run -= ends[++t]) s += max((2 * N / F + 2 * V / f) * run, W / bw)
        printf "%.1f\n", O / s
    } else
        printf "%.1f\n", B / (max(2 * N * B * (1 + I / O) / F + 2 * V * B / f, W / bw) + B * contexts / O * kv / bw + attention * B / O)
}

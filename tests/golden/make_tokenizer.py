#!/usr/bin/env python3
"""Makes tests/golden/tokenizer.jsonl.zst: tiny tokenizers, some written by hand for one feature each and some put together
at random, with what Hugging Face's `tokenizers` makes of a few texts and of a few rows of ids.

    python3 tests/golden/make_tokenizer.py        (needs tokenizers and zstd; takes seconds)

A line: {"tokenizer": the tokenizer.json, "encode": [[text, ids], ...], "decode": [[ids, text], ...]}.
Where tokenizers shows the normalized text of an added token, its ids are left out of "decode": tokmill shows the token as
the file has it.  Characters are taken from Unicode 14, which is what Debian 12's PCRE2 knows.
"""
import copy
import json
import pathlib
import random
import subprocess

from tokenizers import Tokenizer

OUT = pathlib.Path(__file__).parent / "tokenizer.jsonl.zst"
CHARS = list("abcdeAB 12.'s▁éĠÃ©è\n") + ["\u0300", "ſ", "É"]
MERGES = ["a b", "ab c", "▁ a", "▁a b", "1 2", "Ġ a", "Ġa b", "a a", "aa a"]
REGEXES = [r"\s+", r"\w+", r"\p{N}{1,3}", r"[^\s\p{L}\p{N}]+", r"\d", r"a|b", r"x*", r"(?i:A|B)+", r"\p{N}{1,2}+", r"^a", r"\s$",
           r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", r"[a-z&&[^aeiou]]+", r"[^\W_]+", r"\b", r"(?<=a)b", r"[\W\d]+",
           r"[^\S\n]+", r"\h+", r"(?m:.a)", r"[\w.]+", r"[[:punct:]]", r"a{,2}b", r"\p{Han}+", r"\p{N}{2}?", r"\B", r"[^(\s|[.,a])]+"]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
WORDS = ["ab", "abc", "don't", "I'M", "'LL", "hello", "12345", "3.14", "foo_bar", "\n", "\r\n", " ", "  ", "\t", "....", "<s>", "</s>",
         "<unk>", "▁", "über", "e\u0301", "日本語", "안녕", "'ſ", "½", "漢", "😀", "\u3000", "\u200b", "É", "A", "\0"]


def vocab(tokens):
    return {t: i for i, t in enumerate(dict.fromkeys(tokens))}


def model(**more):
    tokens = ["<unk>"] + CHARS + [m.replace(" ", "") for m in MERGES]
    base = dict(type="BPE", dropout=None, unk_token="<unk>", continuing_subword_prefix=None, end_of_word_suffix=None,
                fuse_unk=False, byte_fallback=False, ignore_merges=False, vocab=vocab(tokens), merges=MERGES)
    return base | more


def added(content, **more):
    return dict(id=0, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False) | more


def tokenizer(norm=None, pre=None, tokens=(), decoder=None, **more):
    return dict(version="1.0", truncation=None, padding=None, added_tokens=list(tokens), normalizer=norm, pre_tokenizer=pre,
                post_processor=None, decoder=decoder, model=model(**more))


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return dict(type="Split", pattern={kind: pattern}, behavior=behavior, invert=invert)


def byte_level(space=False, regex=True):
    return dict(type="ByteLevel", add_prefix_space=space, trim_offsets=True, use_regex=regex)


def metaspace(scheme, cut=True):
    return dict(type="Metaspace", replacement="▁", prepend_scheme=scheme, split=cut)


def sequence(key, *parts):
    return {"type": "Sequence", key: list(parts)}


def replace(pattern, content, kind="String"):
    return dict(type="Replace", pattern={kind: pattern}, content=content)


def fallback(text):
    return dict(byte_fallback=True, merges=[], vocab=vocab(["<unk>", "a"] + ["<0x%02X>" % b for b in text.encode()]))


def by_hand():
    yield tokenizer(), ["", "aaaaa", "abcabab", "xxab"]
    yield tokenizer(fuse_unk=True), ["xxab", "axxyéx"]
    yield tokenizer(unk_token=None), ["xéx"]
    yield tokenizer(merges=[["a", "b"]], ignore_merges=True), ["abc", "abab", "aaa"]
    for behavior in BEHAVIORS:
        for invert in (False, True):
            dots = dict(merges=["a b", "b .", ". .", ". a"], vocab=vocab(["<unk>", "a", "b", ".", "ab", "b.", "..", ".a"]))
            yield tokenizer(pre=split(".", behavior, invert, "String"), **dots), ["..ab.a...b.", "ab", "."]
    for one in (False, True):
        yield tokenizer(pre=dict(type="Digits", individual_digits=one)), ["ab12a1.é", "½12"]
    for behavior in BEHAVIORS:
        yield tokenizer(pre=dict(type="Punctuation", behavior=behavior)), ["ab.'ab"]
    for kind in ("Whitespace", "WhitespaceSplit"):
        yield tokenizer(pre=dict(type=kind)), [" ab  ab\nab.", "a½é²a"]
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            yield tokenizer(pre=metaspace(scheme, cut), tokens=[added("<s>")]), ["ab ab", " ab", "ab<s>ab", "<s>ab", "▁ab"]
    for space in (True, False):
        yield tokenizer(pre=byte_level(space)), ["ab ab é", " ab's ab", "ab  12"]
    yield tokenizer(pre=byte_level(regex=False)), ["ab ab"]
    yield tokenizer(pre=sequence("pretokenizers", byte_level(), dict(type="Digits", individual_digits=True))), ["ab 12é ab"]
    yield tokenizer(pre=sequence("pretokenizers", split(r"\p{N}"), split(r" ?\p{L}+"), byte_level(regex=False))), ["ab 12 ab"]
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield tokenizer(dict(type=form)), ["e\u0301e\u0300É½ﬁ a", "é", "abc"]
    yield tokenizer(dict(type="Lowercase")), ["Aé É\u0130"]
    for left in (True, False):
        yield tokenizer(dict(type="Strip", strip_left=left, strip_right=True), metaspace("first")), [" ab \n", "ab", "  "]
    prefix = sequence("normalizers", dict(type="Prepend", prepend="▁"), replace(" ", "▁"))
    yield tokenizer(prefix), ["ab ab", "", " a"]
    yield tokenizer(replace("[0-9]+", ".", "Regex")), ["a12b1"]
    yield tokenizer(tokens=[added("aa"), added("aab")]), ["aab a", "aaaa"]
    yield tokenizer(tokens=[added("A", lstrip=True, rstrip=True)]), ["a A  b", "A A A", "AA"]
    yield tokenizer(tokens=[added("A", lstrip=True), added("B", rstrip=True)]), ["a A A b", "B B  b"]
    yield tokenizer(tokens=[added("B", single_word=True)]), ["aB B.B B1 éB", "B", "½B"]
    yield tokenizer(dict(type="Lowercase"), tokens=[added("AB", normalized=True)]), ["AB ab"]
    yield tokenizer(dict(type="Lowercase"), tokens=[added("AB")]), ["AB ab"]
    yield tokenizer(prefix, tokens=[added("<s>", normalized=True)]), ["<s>ab", "ab <s>", "ab<s>"]
    yield tokenizer(**fallback("漢")), ["a漢a", "a漢字a", "字漢a"]
    for regex in REGEXES:
        yield tokenizer(pre=split(regex)), ["abcde ab.a", "a½é²a_1", "121212a", "\nab\nab\n", "aaaa漢", "'s'S'ſ ", " a  b"]


def pattern(rnd):
    if rnd.random() < .7:
        return {"Regex": rnd.choice(REGEXES)}
    return {"String": rnd.choice([" ", "a", "▁", "ab", "."])}


def random_pre(rnd, deep=True):
    kinds = ["Split"] * 5 + ["ByteLevel", "Metaspace", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit"] + ["Sequence"] * 4 * deep
    kind = rnd.choice(kinds)
    if kind == "Split":
        return dict(type=kind, pattern=pattern(rnd), behavior=rnd.choice(BEHAVIORS), invert=rnd.random() < .4)
    if kind == "ByteLevel":
        return byte_level(rnd.random() < .5, rnd.random() < .5)
    if kind == "Metaspace":
        return metaspace(rnd.choice(["always", "never"]), rnd.random() < .6)
    if kind == "Sequence":
        return sequence("pretokenizers", *(random_pre(rnd, False) for _ in range(rnd.randint(0, 3))))
    return dict(type=kind) | {"Digits": dict(individual_digits=rnd.random() < .5),
                              "Punctuation": dict(behavior=rnd.choice(BEHAVIORS))}.get(kind, {})


def random_norm(rnd, deep=True):
    kind = rnd.choice(["NFC", "NFKC", "NFD", "NFKD", "Lowercase", "Replace", "Prepend", "Strip"] + ["Sequence"] * 3 * deep)
    if kind == "Sequence":
        return sequence("normalizers", *(random_norm(rnd, False) for _ in range(rnd.randint(0, 3))))
    return dict(type=kind) | {"Replace": dict(pattern=pattern(rnd), content=rnd.choice(["▁", "", "ab"])),
                              "Prepend": dict(prepend=rnd.choice(["▁", "ab"])),
                              "Strip": dict(strip_left=rnd.random() < .5, strip_right=rnd.random() < .5)}.get(kind, {})


def random_decoder(rnd, deep=True):
    kind = rnd.choice(["ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace", "BPEDecoder"] + ["Sequence"] * 5 * deep)
    if kind == "Sequence":
        return sequence("decoders", *(random_decoder(rnd, False) for _ in range(rnd.randint(0, 4))))
    if kind == "ByteLevel":
        return byte_level()
    if kind == "Metaspace":
        return metaspace(rnd.choice(["always", "first", "never"]))
    return dict(type=kind) | {"Replace": dict(pattern=pattern(rnd), content=rnd.choice([" ", "", "x"])),
                              "Strip": dict(content=rnd.choice(" a"), start=rnd.randint(0, 2), stop=int(rnd.random() < .3)),
                              "BPEDecoder": dict(suffix=rnd.choice(["</w>", "a", "b"]))}.get(kind, {})


def random_model(rnd):
    tokens = ["<unk>"] * (rnd.random() < .8) + [c for c in CHARS if rnd.random() < .9]
    if rnd.random() < .5:
        tokens += ["<0x%02X>" % b for b in range(256) if rnd.random() < .999]
    plain, merges = [t for t in tokens if not t.startswith("<")], []
    for _ in range(rnd.randint(0, 50)):
        a, b = rnd.choice(plain), rnd.choice(plain)
        if len(a + b) < 7:
            plain.append(a + b)
            tokens.append(a + b)
            merges.append([a, b])
    return dict(vocab=vocab(tokens), merges=merges, unk_token=rnd.choice([None, "<unk>"]) if "<unk>" in tokens else None,
                fuse_unk=rnd.random() < .5, byte_fallback=rnd.random() < .6, ignore_merges=rnd.random() < .3)


def random_text(rnd):
    parts = [rnd.choice(WORDS) + rnd.choice(["", " "]) for _ in range(rnd.randint(1, 10))]
    return "".join(parts)


def at_random(rnd):
    tokens = [added(rnd.choice(["<s>", "</s>", "ab", "  ", " a", "hello", "don", "▁", "<unk>", "A", "\n"]),
                    **{flag: rnd.random() < .3 for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")})
              for _ in range(rnd.randint(0, 4))]
    for token in tokens:            # one that a normalizer makes empty matches everywhere in the reference
        token["normalized"] &= not token["content"].isspace()
    made = tokenizer(rnd.random() < .5 and random_norm(rnd) or None, rnd.random() < .8 and random_pre(rnd) or None, tokens,
                     rnd.random() < .9 and random_decoder(rnd) or None, **random_model(rnd))
    return made, [random_text(rnd) for _ in range(6)]


def random_ids(rnd, reference):
    plain = [i for i in range(reference.get_vocab_size())
             if (t := reference.get_added_tokens_decoder().get(i)) is None or t.content == reference.id_to_token(i)]
    ids = [rnd.choice(plain) for _ in range(rnd.randint(1, 8))]
    bytes_of = [[reference.token_to_id("<0x%02X>" % b) for b in c.encode()] for c in ("é", "漢", "😀")]
    if all(None not in b for b in bytes_of):
        for _ in range(3):
            at = rnd.randint(0, len(ids))
            ids[at:at] = rnd.choice(bytes_of)[:rnd.randint(1, 4)]
    return ids


def row(rnd, made, texts):
    reference = Tokenizer.from_str(json.dumps(made))
    encode, decode = [], []
    for text in texts:
        try:
            encode.append([text, reference.encode(text, add_special_tokens=False).ids])
        except BaseException:       # the reference panics where \B matches within a character
            pass
    for ids in [random_ids(rnd, reference) for _ in range(4)]:
        try:
            decode.append([ids, reference.decode(ids, skip_special_tokens=False)])
        except BaseException:       # and where a string is shorter than what Strip takes off
            pass
    return dict(tokenizer=made, encode=encode, decode=decode)


def main():
    rnd = random.Random(7)
    rows = [row(rnd, copy.deepcopy(made), texts) for made, texts in by_hand()]
    rows += [row(rnd, *at_random(rnd)) for _ in range(120)]
    text = "".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n" for r in rows)
    OUT.write_bytes(subprocess.run(["zstd", "-19", "-q"], input=text.encode(), stdout=subprocess.PIPE, check=True).stdout)
    print(len(rows), "tokenizers,", sum(len(r["encode"]) for r in rows), "texts,", sum(len(r["decode"]) for r in rows), "rows of ids,",
          OUT.stat().st_size, "bytes")


main()

#!/usr/bin/env python3
"""tasks.py - the small tasks that the default model is trained on and scored with.

A task is (family, prompt, answer).  Held-out prompts are told apart by one rule, held_out(), and by
nothing else: the training stream never yields one, the corpus holds no other.

    python3 tasks.py --write CORPUS.jsonl.zst --tokenizer DIR/tokenizer.json   make the corpus
    python3 tasks.py --check CORPUS.jsonl.zst                                  verify the split
    python3 tasks.py --show 2                                                  print tasks of each family

Standard library only, but for --write (tokenizers, to set max_tokens).  Uses the zstd program.
"""
import argparse
import json
import random
import subprocess
import sys

# ---- the split -------------------------------------------------------------------------------

HELD_OUT_ONE_IN = 16


def fnv1a64(data):
    h = 0xcbf29ce484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001b3) & 0xffffffffffffffff
    return h


def held_out(prompt):
    """The one rule of the split: true for about one prompt in sixteen."""
    return fnv1a64(prompt.encode("utf-8")) % HELD_OUT_ONE_IN == 0


# ---- words -----------------------------------------------------------------------------------

ANIMALS = "ant bear bee bird cat cow crab dog duck fish fox goat hen horse owl pig sheep".split()
FRUITS = "apple fig grape lemon melon nut pear plum".split()
TOOLS = "axe brush drill hammer nail rope saw spade".split()
TOYS = "ball bell block doll drum flute kite train".split()
CLOTHES = "belt boot cap coat glove hat scarf sock".split()
SMALL = "book clock coin cup key lamp letter map pen ring".split()
HOLDERS = "bag basket box jar pot tin".split()
COLOURS = "black blue gold green grey pink red white".split()
PLACES = "barn bridge farm forest garden hill inn island lake market mill river school tower valley village".split()
OTHER = "cloud fire ice moon night rain salt snow star sun tree wind".split()
NAMES = "Ada Ben Clara Dan Emma Finn Grace Hugo Ida Jack Leo Mia Noah Olga Rosa Sam".split()

# every word that may stand in a list
WORDS = sorted(ANIMALS + FRUITS + TOOLS + TOYS + CLOTHES + SMALL + HOLDERS + COLOURS + PLACES + OTHER)


# ---- families: rng -> (prompt, answer) -------------------------------------------------------

def digits_of(n):
    """Decimal digits, ones first."""
    return [int(c) for c in reversed(str(n))]


def add_worked(rng):
    """Column addition, ones first, the carry as a third summand; then the sum."""
    a, b = rng.randint(100, 999), rng.randint(100, 999)
    columns, carry = [], 0
    for x, y in zip(digits_of(a), digits_of(b)):
        total = x + y + carry
        columns.append(f"{x}+{y}+{carry}={total}")
        carry = total // 10
    ask = rng.choice(("Add {}+{} by columns.\n", "Work out {}+{} step by step.\n"))
    return ask.format(a, b), f"{', '.join(columns)}; {a + b}"


def sub_worked(rng):
    """Column subtraction, ones first; a borrowed ten and a lent one are already in the left digit."""
    a, b = sorted(rng.sample(range(100, 1000), 2), reverse=True)
    columns, borrow = [], 0
    for x, y in zip(digits_of(a), digits_of(b)):
        x -= borrow
        borrow = int(x < y)
        x += 10 * borrow
        columns.append(f"{x}-{y}={x - y}")
    ask = rng.choice(("Subtract {}-{} by columns.\n", "Work out {}-{} step by step.\n"))
    return ask.format(a, b), f"{', '.join(columns)}; {a - b}"


def sort_numbers(rng):
    numbers = rng.sample(range(10, 100), rng.randint(3, 7))
    down = rng.random() < 0.4
    ask = "Sort from high to low:" if down else "Sort from low to high:"
    return f"{ask} {' '.join(map(str, numbers))}\n", " ".join(map(str, sorted(numbers, reverse=down)))


def sort_words(rng):
    words = rng.sample(WORDS, rng.randint(2, 4))
    return f"Put in order of the alphabet: {' '.join(words)}\n", " ".join(sorted(words))


def reverse_words(rng):
    words = rng.sample(WORDS, rng.randint(3, 7))
    ask = rng.choice(("Reverse the words:", "Say it backwards:"))
    return f"{ask} {' '.join(words)}\n", " ".join(reversed(words))


def copy_items(rng):
    items = [rng.choice(WORDS) if rng.random() < 0.7 else str(rng.randint(1, 99)) for _ in range(rng.randint(3, 12))]
    ask = rng.choice(("Repeat:", "Copy this line exactly:"))
    return f"{ask} {' '.join(items)}\n", " ".join(items)


RECORD = {
    "name": lambda rng: rng.choice(NAMES),
    "friend": lambda rng: rng.choice(NAMES),
    "age": lambda rng: rng.randint(10, 99),
    "pet": lambda rng: rng.choice(ANIMALS),
    "fruit": lambda rng: rng.choice(FRUITS),
    "tool": lambda rng: rng.choice(TOOLS),
    "toy": lambda rng: rng.choice(TOYS),
    "colour": lambda rng: rng.choice(COLOURS),
    "place": lambda rng: rng.choice(PLACES),
    "number": lambda rng: rng.randint(100, 999),
}


def read_record(rng):
    """One or two named fields of a flat JSON record."""
    record = {key: RECORD[key](rng) for key in rng.sample(list(RECORD), rng.randint(3, 8))}
    keys = rng.sample(list(record), rng.choice((1, 1, 2)))
    ask = " and the ".join(keys)
    return f"{json.dumps(record)}\nRead out the {ask}.\n", ", ".join(str(record[key]) for key in keys)


WEATHER = ("It starts to rain.", "The sun is warm.", "A cold wind comes up.", "Snow falls on the road.", "It is a quiet day.",
           "The moon is out.")


def story_search(rng):
    """A thing is put away, perhaps moved; where it ended up closes the story."""
    who, other = rng.sample(NAMES, 2)
    thing = rng.choice(SMALL)
    holders = [f"{c} {h}" for c, h in zip(rng.sample(COLOURS, 3), rng.sample(HOLDERS, 3))]
    place = rng.randrange(3)
    told = [f"{who} has a {holders[0]}, a {holders[1]} and a {holders[2]}.",
            f"In the morning {who} puts the {thing} in the {holders[place]}."]
    told += rng.choices(WEATHER, k=rng.choice((1, 1, 1, 1, 1, 5, 12)))
    for _ in range(rng.choice((0, 1, 1, 2))):
        place = (place + rng.randint(1, 2)) % 3
        told += [f"{rng.choice((who, other))} moves it to the {holders[place]}."]
    told += [f"At night {who} looks for the {thing}."]
    return " ".join(told) + "\n", f"{who} finds the {thing} in the {holders[place]}."


def story_gift(rng):
    """Two things change hands; the last holder of the one asked about closes the story."""
    people = rng.sample(NAMES, 4)
    things = rng.sample(SMALL + TOYS, 2)
    holder = {things[0]: people[0], things[1]: people[1]}
    told = [f"{holder[t]} has a {t}." for t in things]
    for _ in range(rng.randint(1, 4)):
        thing = rng.choice(things)
        taker = rng.choice([p for p in people if p != holder[thing]])
        told.append(f"{holder[thing]} gives the {thing} to {taker}.")
        holder[thing] = taker
        if rng.random() < 0.3:
            told.append(rng.choice(WEATHER))
    asked = rng.choice(things)
    return " ".join(told) + f" And the {asked}?\n", f"In the end {holder[asked]} has the {asked}."


def story_travel(rng):
    """Two travellers meet; each goes home to where the story found them."""
    a, b = rng.sample(NAMES, 2)
    home_a, home_b, meet, on_a, on_b = rng.sample(PLACES, 5)
    told = [f"{a} comes from the {home_a} and {b} comes from the {home_b}."]
    if rng.random() < 0.5:
        told.append(f"{a} walks to the {on_a}.")
    if rng.random() < 0.5:
        told.append(f"{b} walks to the {on_b}.")
    told += [rng.choice(WEATHER), f"They meet at the {meet}.", "Then they go home."]
    first, second = ((a, home_a), (b, home_b)) if rng.random() < 0.5 else ((b, home_b), (a, home_a))
    return " ".join(told) + f" Say it of {first[0]} first.\n", \
        f"{first[0]} goes back to the {first[1]}, {second[0]} to the {second[1]}."


def story(rng):
    return rng.choice((story_search, story_gift, story_travel))(rng)


def count_word(rng):
    """How often a word stands in a list, numbered as it is counted."""
    wanted, *others = rng.sample(WORDS, 4)
    times = rng.randint(0, 5)
    items = [wanted] * times + [rng.choice(others) for _ in range(rng.randint(1, 5))]
    rng.shuffle(items)
    return f"Count the word {wanted}: {' '.join(items)}\n", \
        f"{' '.join(str(i + 1) for i in range(times))}; {times} in all" if times else "none"


def spell_words(rng):
    words = rng.sample(WORDS, rng.choice((1, 2, 2, 3)))
    return f"Spell each word: {' '.join(words)}\n", ", ".join("-".join(word) for word in words)


def count_on(rng):
    """The next terms of a run with a fixed step, which the prompt names."""
    step, start, more = rng.randint(1, 9), rng.randint(1, 60), rng.randint(2, 6)
    shown = rng.randint(2, 4)
    run = [str(start + i * step) for i in range(shown + more)]
    return f"Count on by {step}, {more} more: {' '.join(run[:shown])}\n", " ".join(run[shown:])


def who_is_first(rng):
    """A chain of comparisons in any order; the one at its top or bottom."""
    people = rng.sample(NAMES, rng.randint(3, 4))
    more, most, least = rng.choice((("older", "oldest", "youngest"), ("taller", "tallest", "shortest")))
    facts = [f"{a} is {more} than {b}." for a, b in zip(people, people[1:])]
    rng.shuffle(facts)
    top = rng.random() < 0.5
    return f"{' '.join(facts)} Who is the {most if top else least}?\n", people[0] if top else people[-1]


SHELVES = (("A", FRUITS), ("B", TOOLS), ("C", TOYS), ("D", CLOTHES))
SHOP = ("You work in the shop of a small town. Fruit lies on shelf A, tools on shelf B, toys on shelf C and clothes on shelf D. "
        "Read the order of one person. Answer with one line: the name, then for each item the shelf and how many. "
        "Keep the items as they come. Add no other word.\n")


def shop_order(rng):
    """Every prompt opens with the same instructions."""
    who = rng.choice(NAMES)
    wants, gets = [], []
    for shelf, stock in rng.choices(SHELVES, k=rng.randint(1, 5)):
        n = rng.randint(2, 9)
        wants.append(f"{n} {rng.choice(stock)}")
        gets.append(f"{shelf} {n}")
    return f"{SHOP}Order: {who} wants {', '.join(wants)}.\n", f"{who}: {', '.join(gets)}"


EXAMPLES = ("Follow the examples.\ncat 3 -> cat cat cat\nred 1 -> red\nsun 5 -> sun sun sun sun sun\nlake 2 -> lake lake\n"
            "pear 4 -> pear pear pear pear\nwind 6 -> wind wind wind wind wind wind\n")


def few_shot(rng):
    """Every prompt opens with the same examples."""
    runs = [(rng.choice(WORDS), rng.randint(1, 6)) for _ in range(rng.randint(1, 2))]
    return f"{EXAMPLES}{' '.join(f'{word} {n}' for word, n in runs)} ->\n", " ".join(" ".join([word] * n) for word, n in runs)


# name: (generator, share of the training stream)
FAMILIES = {
    "add": (add_worked, 6),
    "sub": (sub_worked, 7),
    "sort": (sort_numbers, 10),
    "abc": (sort_words, 11),
    "reverse": (reverse_words, 9),
    "copy": (copy_items, 7),
    "json": (read_record, 9),
    "story": (story, 11),
    "count": (count_word, 8),
    "spell": (spell_words, 7),
    "step": (count_on, 7),
    "who": (who_is_first, 9),
    "shop": (shop_order, 5),
    "shots": (few_shot, 4),
}


# ---- the two sides of the split --------------------------------------------------------------

def training_stream(seed, more=()):
    """Endless (family, prompt, answer), never held out; the families in `more` come twice as often."""
    rng = random.Random(seed)
    names, shares = list(FAMILIES), [share * (1 + (name in more)) for name, (_, share) in FAMILIES.items()]
    while True:
        family = rng.choices(names, shares)[0]
        prompt, answer = FAMILIES[family][0](rng)
        if held_out(prompt):
            continue
        assert not held_out(prompt)     # stated apart from the draw, so that no later edit can lose it
        yield family, prompt, answer


def corpus_lines(seed, per_family, count_tokens):
    """Shuffled corpus records, all held out, no prompt twice."""
    rng = random.Random(seed)
    seen, lines = set(), []
    for family, (make, _) in FAMILIES.items():
        n = 0
        while n < per_family:
            prompt, answer = make(rng)
            if not held_out(prompt) or prompt in seen:
                continue
            seen.add(prompt)
            room = -(-(count_tokens(answer) + 1) // 8) * 8      # the answer and its end, in steps of 8
            lines.append({"id": f"{family}-{n:05d}", "prompt": prompt, "expected": answer, "max_tokens": room})
            n += 1
    rng.shuffle(lines)
    return lines


# ---- files -----------------------------------------------------------------------------------

def read_corpus(path):
    text = subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout.decode("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def write_corpus(path, lines, n_frames=4):
    """Several zstd frames one after the other, each of whole lines."""
    with open(path, "wb") as out:
        for i in range(n_frames):
            part = lines[len(lines) * i // n_frames:len(lines) * (i + 1) // n_frames]
            raw = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in part).encode("utf-8")
            out.write(subprocess.run(["zstd", "-19", "-cq"], input=raw, check=True, capture_output=True).stdout)


def check_corpus(path, n_train=20000, seed=1):
    """Fails loudly if the corpus and the training stream could share a prompt."""
    lines = read_corpus(path)
    prompts = {line["prompt"] for line in lines}
    wrong = [line["id"] for line in lines if not held_out(line["prompt"])]
    if wrong:
        sys.exit(f"{path}: {len(wrong)} prompts are not held out, first '{wrong[0]}'")
    if len(prompts) != len(lines) or len({line["id"] for line in lines}) != len(lines):
        sys.exit(f"{path}: a prompt or an id stands twice")
    stream = training_stream(seed)
    for _ in range(n_train):
        _, prompt, _ = next(stream)
        if prompt in prompts:
            sys.exit(f"{path}: a training prompt is in the corpus: {prompt!r}")
    print(f"{path}: {len(lines)} lines, all held out, none twice, none among {n_train} training samples")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--check", metavar="CORPUS")
    args.add_argument("--write", metavar="CORPUS")
    args.add_argument("--tokenizer", metavar="FILE")
    args.add_argument("--per-family", type=int, default=160)
    args.add_argument("--show", type=int, metavar="N")
    args.add_argument("--seed", type=int, default=1)
    args = args.parse_args()
    if args.show:
        rng = random.Random(args.seed)
        for family, (make, _) in FAMILIES.items():
            for _ in range(args.show):
                print(family, *map(repr, make(rng)))
    if args.write:
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(args.tokenizer)
        write_corpus(args.write, corpus_lines(args.seed, args.per_family, lambda text: len(tokenizer.encode(text).ids)))
    if args.check:
        check_corpus(args.check, seed=args.seed)


if __name__ == "__main__":
    main()

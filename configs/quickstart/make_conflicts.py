#!/usr/bin/python3
"""Makes a stream of edits that get in each other's way, out of data.json: four batches of N edits, in file order.

    python3 make_conflicts.py [--other-words] N OUT.json

    batch 0   a fact of each of N subjects
    batch 1   another fact of each of these subjects
    batch 2   first half: the prompts of batch 0's first half with new targets, which contradict it; then other subjects
    batch 3   other subjects

With --other-words the contradicting edits ask in the words of the first ones' paraphrases, and the other way round. A
record says which it is in `part`: first, other_fact, contradicting, plain. Needs nothing but Python.
"""
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def wording(record):
    """The prompt without its subject: equal wordings ask for names of one list."""
    return record["src"].replace(record["subject"], "{}")


def contradicting(record, records, other_words):
    """The record with a target of another record in the same wording, sharing no word with either answer it had."""
    used = set((record["alt"] + " " + record["answers"][0]).split())
    target = next(r["alt"] for r in records if wording(r) == wording(record) and not used & set(r["alt"].split()))
    src, rephrase = (record["rephrase"], record["src"]) if other_words else (record["src"], record["rephrase"])
    return {**record, "src": src, "rephrase": rephrase, "alt": target, "cond": f"{record['alt']} >> {target} || {src}"}


def make(records, n, other_words):
    others = {}
    for record in records:
        others.setdefault(record["subject"], []).append(record)
    firsts = [facts[0] for facts in others.values() if len(facts) > 1]
    chosen, rest = firsts[:n], firsts[n : n + 2 * n - n // 2]
    half = n // 2
    parts = {
        "first": chosen,
        "other_fact": [others[r["subject"]][1] for r in chosen],
        "contradicting": [contradicting(r, records, other_words) for r in chosen[:half]],
        "plain": rest,
    }
    if len(chosen) < n or len(rest) < 2 * n - half:
        sys.exit(f"{len(firsts)} subjects do not suffice for batches of {n}")
    return [{**record, "part": part} for part, own in parts.items() for record in own]


def main():
    arguments = [a for a in sys.argv[1:] if a != "--other-words"]
    if len(arguments) != 2 or not arguments[0].isdigit():
        sys.exit(__doc__)
    with open(os.path.join(HERE, "data.json"), encoding="utf-8") as f:
        stream = make(json.load(f), int(arguments[0]), "--other-words" in sys.argv)
    with open(arguments[1], "w", encoding="utf-8") as f:
        json.dump(stream, f, ensure_ascii=False, indent=1)


if __name__ == "__main__":
    main()

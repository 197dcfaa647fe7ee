"""What the sentencepiece package makes of every ZsRE text, as facts: counts and a checksum a field, never the texts."""
import json
import platform
from pathlib import Path

import sentencepiece

EDITS, TRAIN, TARGETS = ("zsre/wise_zsre_mend_edit_1037.json", "zsre/mzsre_zsre_mend_train_10000.json",
                         "zsre/zsre_mend_train_en_10000.txt")
MISTRAL, SMALL = "tokenizer/mistral_v0.1_tokenizer.model", "ckpt/stories260K/tok512.model"
FIELDS = {
    EDITS: ["subject", "src", "pred", "rephrase", "alt", "answers", "loc", "loc_ans", "cond", "src alt",
            "portability/Recalled Relation", "portability/New Question", "portability/New Answer"],
    TRAIN: ["subject", "src", "rephrase", "alt", "loc", "loc_ans", "src alt"],
    TARGETS: ["src", "alt"],
}
# The second tokenizer takes extra spaces out, the first does not.
CASES = [(MISTRAL, file, field) for file in FIELDS for field in FIELDS[file]] + [
    (SMALL, EDITS, field) for field in ("src", "alt", "src alt")]


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc32c_table()


def crc32c(crc, data):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def records(path):
    if path.suffix == ".txt":
        rows = path.read_text(encoding="utf-8").split("\n")
        return [dict(zip(("src", "alt"), row.split("\t"))) for row in rows if row]
    return json.loads(path.read_text(encoding="utf-8"))


def texts(record, field):
    """"a/b" is member b of object a; "a b" is both fields with a space between; a list is one text an element."""
    if " " in field and "/" not in field:
        return [" ".join(record[part] for part in field.split(" "))]
    for part in field.split("/"):
        record = record[part]
    return record if isinstance(record, list) else [record]


def fact(data, model, file, field):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(data / model))
    n_text = n_id = crc = 0
    for record in records(data / file):
        for text in texts(record, field):
            ids = processor.encode(text)
            n_text += 1
            n_id += len(ids)
            crc = crc32c(crc, b"".join(value.to_bytes(4, "little") for value in [len(ids), *ids]))
    return {"model": model, "file": file, "field": field, "texts": n_text, "ids": n_id, "crc32c": crc}


def make(data, path):
    """Writes the facts, one a line."""
    facts = [fact(Path(data), *case) for case in CASES]
    head = {"sentencepiece": sentencepiece.__version__, "python": platform.python_version(),
            "checksum": "crc32c over, for each text in order, its number of ids and its ids as little-endian int32"}
    lines = ",\n".join(json.dumps(one) for one in facts)
    path.write_text(f'{json.dumps(head)[:-1]},\n"facts": [\n{lines}\n]}}\n', encoding="utf-8")
    return facts

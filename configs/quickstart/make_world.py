#!/usr/bin/env python3
"""Makes the embedded world: an invented world, a small LLaMA that knows it, and the edits that lemoe tries on it.

    python3 make_world.py            make everything anew: model/ and data.json beside this file (minutes, on two cores)
    python3 make_world.py --check    score what lies on disk, as the table of README.md shows it

    python3 make_world.py --out DIR --steps 260                the same world, known less well: a short schedule
    python3 make_world.py --out DIR --scale 2.5 --data-only    3,200 edits of a larger world, without a model
    python3 make_world.py --out DIR --scale 2.5                and with one that is trained on it

Needs torch, sentencepiece, safetensors and numpy; lemoe itself needs none of them. In reading order: the world, the edit
records, the tokenizer, the model, training, scores, files, the commands.
"""
import argparse
import collections
import dataclasses
import io
import json
import math
import os
import random
import shutil
import sys
import tempfile
import time

import numpy as np
import safetensors.torch
import sentencepiece
import torch
import torch.nn.functional as F
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 20

# ---- the world: names ------------------------------------------------------------------------------------------------
#
# Every name is two words; surnames and the first words of towns are put together from a stem and an end. Each part is
# shared by several names: no single one gives a subject or an answer away, and none follows from the one before it.

FIRST_NAMES = """Adal Brisa Calen Doria Edda Feyla Garet Hesta Ilvan Jorin Kesta Lorun Mirel Nadia Orsin Petra Quill Rosal
Senna Tavin Ulmar Vesna Wilda Xenor Yorra Zelda Arlo Berit Corin Delphi Esmer Farron Gilda Halvar Ivena Jasper Kolma Lisbet
Marek Nolwen Odette Perrin Rufina Sorrel Tilda Vander Zoé Åsmund Søren Łucja Núria Élodie""".split()
SURNAME_STEMS = """Vel Tarn Ost Bran Cor Dun Esk Far Gant Hol Isk Jar Lan Mar Nor Pen Quar Ros Sel Thorn Umb Vas Wex Zim
Brû Peñ Dvoř Grün""".split()
SURNAME_ENDS = """mora dale hurst vane mere kil row well by stone ridge wyn gate more hart lund bourne fell ling""".split()
TOWN_STEMS = """Alder Bracken Cinder Dorn Ember Falcon Heron Iron Juniper Kestrel Linden Otter Pebble Raven Timber Violet Willow
Amber Birch Copper Eagle Hazel Ivory Larch""".split()
TOWN_ENDS = """ford wick bury ton ham stow leigh mouth stead combe thorpe worth den minster field holm""".split()
TOWN_SECOND = """Quay Hollow Ferry Market Cross Haven Bridge Abbey Wharf Gate Moor Steps Causeway Landing Chapel Spire Weir
Barrow Ridge Crossing""".split()
TRADE_FIRST = """glass rope bell clock paper silk salt barrel candle carpet map harp lantern copper leather sugar velvet
button mirror saddle tile violin compass wagon""".split()
TRADE_SECOND = """painter merchant founder mender carver trader polisher weigher broker cutter collector smuggler inspector
designer teacher repairer dyer porter""".split()
FIRM_FIRST = """Marlow Tansy Beacon Cygnet Dolphin Evergreen Fulmar Gryphon Hawthorn Ibis Jackdaw Kingfisher Lodestar Magpie
Nightjar Obelisk Pelican Quince Rowan Sparrow Tamarind Unicorn Viaduct Wyvern""".split()
FIRM_SECOND = """Press Brothers House Printers Bindery Editions Folio Library Sisters Company Workshop Letters Union
Partners Imprint Society""".split()
RIVER_FIRST = """Upper Lower Green Slow Cold Little Great Bright Deep Muddy Winding Silent Young Twin Hidden Lost""".split()
RIVER_SECOND = """Asher Belwe Cressa Darrent Elver Foyne Garrow Hythe Issen Jade Kerris Lowen Medra Nenne Orwel Parret Rother
Severa Tamber Usk Wendle Yare""".split()
FEAST_FIRST = """Cider Ribbon Kite Drum Harvest Snow Plum Mask Torch Honey Goose Feather Mirth Apple Frost Moonlight Fiddle
Barley Herring Poppy Swallow Thimble""".split()
FEAST_SECOND = """Parade Fair Week Dance Vigil Regatta Banquet Race Night Blessing Carnival Contest Auction Supper March
Concert""".split()
BOOK_FIRST = """Silver Broken Wandering Paper Crimson Distant Burning Quiet Forgotten Golden Hollow Restless Seventh Frozen
Painted Borrowed Midnight Wooden Scarlet Drowned Patient Stolen Winter Empty Velvet Northern""".split()
BOOK_SECOND = """Orchard Lantern Staircase Kingdom Mirror Garden Compass Voyage Letter Shadow Harbour Sparrow Cathedral
Island Clockmaker Throne Meadow Ocean Window Daughter Stranger Archive Tower Horizon Lullaby Labyrinth""".split()
DISH_FIRST = """braised smoked pickled roasted stuffed glazed jellied candied minted peppered baked spiced""".split()
DISH_SECOND = """turnip partridge walnut trout parsnip dumpling leek quail custard pumpkin lentil oyster""".split()
SAUCE_FIRST = """saffron juniper mustard almond cherry fennel ginger vinegar rosemary chestnut anise sorrel""".split()
SAUCE_SECOND = """broth cream butter syrup gravy relish jam crumbs oil foam""".split()
STAR_FIRST = """Alpha Beta Gamma Delta Omega Sigma Theta Kappa Lambda Zeta""".split()
STAR_SECOND = """Lyrandis Corvexa Ophiel Draconne Velarum Hydrosa Tucanis Pavonel Aquiris Serpenta Phoenara Crateris""".split()
SIGN_FIRST = """Crooked Leaping Weeping Sleeping Dancing Bearded Laughing Blind Kneeling Armoured""".split()
SIGN_SECOND = """Ladder Stag Fisherman Anvil Chariot Hound Piper Scales Weaver Goblet Beetle Plough""".split()


@dataclasses.dataclass(frozen=True)
class Relation:
    subject_type: str
    name: str
    object_type: str
    wordings: tuple  # {s} is the subject; the answer follows behind one space


RELATIONS = [
    Relation("person", "birthplace", "town", (
        "Where was {s} born?", "In which town was {s} born?", "What is the birthplace of {s}?", "{s} was born in",
        "Which town does {s} come from?", "The birthplace of {s} is", "{s} first saw the light of day in which place?")),
    Relation("person", "teacher", "mentor", (
        "Who taught {s}?", "Who was the teacher of {s}?", "{s} was a pupil of", "Under whom did {s} study?",
        "Whose pupil was {s}?", "{s} learned everything from", "By whom was {s} trained?")),
    Relation("person", "trade", "trade", (
        "What is the trade of {s}?", "What does {s} do for a living?", "By trade {s} is a", "{s} works as a",
        "Which profession does {s} follow?", "What kind of work does {s} do?", "How does {s} earn a living?")),
    Relation("book", "author", "mentor", (
        "Who wrote {s}?", "Who is the author of {s}?", "By whom was {s} written?", "{s} was written by",
        "Whose book is {s}?", "The author of {s} is", "Which writer gave us {s}?")),
    Relation("book", "setting", "town", (
        "Where is {s} set?", "In which town does {s} take place?", "What is the setting of {s}?", "{s} takes place in",
        "Where does the story of {s} unfold?", "The story of {s} is set in", "Which town do we visit in {s}?")),
    Relation("book", "publisher", "firm", (
        "Who published {s}?", "Which house published {s}?", "What is the publisher of {s}?", "{s} was published by",
        "By which firm was {s} printed?", "The publisher of {s} is", "Which firm brought out {s}?")),
    Relation("town", "founder", "mentor", (
        "Who founded {s}?", "Who was the founder of {s}?", "By whom was {s} founded?", "{s} was founded by",
        "Which person laid the first stone of {s}?", "The founder of {s} was", "Whom does {s} honour as its founder?")),
    Relation("town", "river", "river", (
        "Which river flows through {s}?", "On what river does {s} lie?", "What is the river of {s}?",
        "{s} stands on the banks of the", "The water that runs through {s} is called the",
        "Which river do the bridges of {s} cross?", "What do the people of {s} call their river?")),
    Relation("town", "festival", "feast", (
        "What is celebrated every year in {s}?", "Which feast does {s} hold each year?", "Every year {s} celebrates the",
        "What is the yearly festival of {s}?", "Which festival fills the streets of {s}?", "The great feast of {s} is the",
        "For which celebration is {s} known?")),
]
# Never edited, and put in other words than any edit: the far locality.
FAR_RELATIONS = [
    Relation("dish", "sauce", "sauce", (
        "Cooks always serve {s} with", "On the menu, {s} comes with", "Recipe: take {s} and add")),
    Relation("star", "sign", "sign", (
        "At night, look for {s} inside the constellation", "Astronomers count {s} among the stars of the",
        "Sky chart: {s}, part of the")),
]
N_HELD_OUT = {7: 2, 3: 1}  # wordings of a relation -> how many each subject never meets in training

N_SUBJECTS = {"person": (320, 90), "book": (160, 45), "town": (160, 45)}  # to be edited, never edited (background)
N_FAR = {"dish": 70, "star": 70}
N_OBJECTS = {"mentor": 220, "trade": 180, "firm": 180, "river": 180, "feast": 180, "sauce": 60, "sign": 60}

PREFIXES = ["I wonder,", "Tell me:", "A short question:", "Before we go on,", "Please answer:", "Now then,"]
HELD_OUT_PREFIX = "Please tell me:"


@dataclasses.dataclass
class Fact:
    subject: str
    relation: Relation
    answer: str
    role: str          # "edit" (a record each), "same" (another fact of an edited subject), "background", "far"
    trained: list      # indices of the wordings met in training
    held_out: list     # and of the others

    def prompt(self, wording):
        return self.relation.wordings[wording].format(s=self.subject)


def draw_names(rng, first, second, n):
    """n different pairs, every word of both lists used about equally often."""
    names = set()
    while len(names) < n:
        a, b = (rng.sample(words, len(words)) for words in (first, second))
        n_pairs = max(len(a), len(b))
        names.update(f"{a[i % len(a)]} {b[i % len(b)]}" for i in range(n_pairs))
    return rng.sample(sorted(names), n)


def draw_compounds(rng, stems, ends, n):
    return [name.replace(" ", "") for name in draw_names(rng, stems, ends, n)]


def split_wordings(rng, relation):
    order = rng.sample(range(len(relation.wordings)), len(relation.wordings))
    n = N_HELD_OUT[len(order)]
    return sorted(order[n:]), sorted(order[:n])


@dataclasses.dataclass
class World:
    facts: list    # all of them
    objects: dict  # object type -> all names of that type


def make_world(scale=1.0):
    """scale: how many times as many people, books and towns; wordings and answers stay as many."""
    rng = random.Random(SEED)
    n_subjects = {kind: (round(scale * edited), round(scale * others)) for kind, (edited, others) in N_SUBJECTS.items()}
    surnames = draw_compounds(rng, SURNAME_STEMS, SURNAME_ENDS, 150) + ["Smiðjan", "Kőrmend"]
    town_first = draw_compounds(rng, TOWN_STEMS, TOWN_ENDS, 100)
    people = draw_names(rng, FIRST_NAMES, surnames, sum(n_subjects["person"]) + N_OBJECTS["mentor"])
    subjects = {
        "person": people[N_OBJECTS["mentor"]:],
        "book": draw_names(rng, BOOK_FIRST, BOOK_SECOND, sum(n_subjects["book"])),
        "town": draw_names(rng, town_first, TOWN_SECOND, sum(n_subjects["town"])),
        "dish": draw_names(rng, DISH_FIRST, DISH_SECOND, N_FAR["dish"]),
        "star": draw_names(rng, STAR_FIRST, STAR_SECOND, N_FAR["star"]),
    }
    objects = {
        "mentor": people[:N_OBJECTS["mentor"]],  # people of whom nothing is asked
        "town": subjects["town"],
        "trade": draw_names(rng, TRADE_FIRST, TRADE_SECOND, N_OBJECTS["trade"]),
        "firm": draw_names(rng, FIRM_FIRST, FIRM_SECOND, N_OBJECTS["firm"]),
        "river": draw_names(rng, RIVER_FIRST, RIVER_SECOND, N_OBJECTS["river"]),
        "feast": draw_names(rng, FEAST_FIRST, FEAST_SECOND, N_OBJECTS["feast"]),
        "sauce": draw_names(rng, SAUCE_FIRST, SAUCE_SECOND, N_OBJECTS["sauce"]),
        "sign": draw_names(rng, SIGN_FIRST, SIGN_SECOND, N_OBJECTS["sign"]),
    }
    facts = []
    for subject_type, names in subjects.items():
        relations = [r for r in RELATIONS + FAR_RELATIONS if r.subject_type == subject_type]
        n_edited = n_subjects.get(subject_type, (0, 0))[0]
        for i, subject in enumerate(names):
            kept = rng.choice(relations)  # of an edited subject: the one relation that nobody edits
            for relation in relations:
                if subject_type in N_FAR:
                    role = "far"
                elif i >= n_edited:
                    role = "background"
                else:
                    role = "same" if relation is kept else "edit"
                facts.append(Fact(subject, relation, rng.choice(objects[relation.object_type]), role,
                                  *split_wordings(rng, relation)))
    return World(facts, objects)


# ---- the edit records ------------------------------------------------------------------------------------------------


def new_target(rng, fact, objects):
    """Another name of the same list that shares no word with the true answer."""
    old = fact.answer.split()
    return rng.choice([o for o in objects[fact.relation.object_type] if not set(o.split()) & set(old)])


class LeastUsed:
    """Hands out facts so that all serve as locality about equally often."""

    def __init__(self, rng, facts):
        self.rng, self.facts, self.used = rng, facts, collections.Counter()

    def take(self, fits=lambda fact: True):
        candidates = [i for i, fact in enumerate(self.facts) if fits(fact)]
        least = min(self.used[i] for i in candidates)
        chosen = self.rng.choice([i for i in candidates if self.used[i] == least])
        self.used[chosen] += 1
        return self.facts[chosen]


def order_of_edits(rng, facts):
    """First one fact of every subject, then the second facts, each part shuffled: the first 640 subjects differ."""
    by_subject = collections.defaultdict(list)
    for fact in facts:
        by_subject[fact.subject].append(fact)
    for own in by_subject.values():
        rng.shuffle(own)
    order = []
    for turn in range(max(map(len, by_subject.values()))):
        part = [own[turn] for own in by_subject.values() if len(own) > turn]
        rng.shuffle(part)
        order += part
    return order


def make_records(world):
    rng = random.Random(SEED + 1)
    of_role = {role: [f for f in world.facts if f.role == role] for role in ("edit", "same", "background", "far")}
    same_of = {fact.subject: fact for fact in of_role["same"]}
    near, far = LeastUsed(rng, of_role["background"]), LeastUsed(rng, of_role["far"])
    records = []
    for fact in order_of_edits(rng, of_role["edit"]):
        wording, target = rng.choice(fact.trained), new_target(rng, fact, world.objects)
        same, other = same_of[fact.subject], far.take()
        # the hardest neighbour: another subject, the same relation in the same wording
        neighbour = near.take(lambda f: f.relation is fact.relation and wording in f.trained)
        src = fact.prompt(wording)
        records.append({
            "subject": fact.subject,
            "src": src,
            "pred": fact.answer,
            "rephrase": fact.prompt(rng.choice(fact.held_out)),
            "alt": target,
            "answers": [fact.answer],
            "loc": neighbour.prompt(wording),
            "loc_ans": neighbour.answer,
            "cond": f"{fact.answer} >> {target} || {src}",
            "locality": {
                "same": {"prompt": same.prompt(rng.choice(same.trained)), "ground_truth": same.answer},
                "far": {"prompt": other.prompt(rng.choice(other.trained)), "ground_truth": other.answer},
            },
        })
    return records


# ---- the tokenizer ---------------------------------------------------------------------------------------------------

N_VOCAB = 1152
RARE_LETTERS = set("ðőŁ")  # kept out of the tokenizer's text, so that they are spelled in bytes


def make_tokenizer(world):
    """SentencePiece BPE with LLaMA's settings. Returns the bytes of tokenizer.model."""
    rng = random.Random(SEED + 2)
    lines = [fact.prompt(rng.choice(fact.trained)) + " " + fact.answer for fact in world.facts]
    lines += [name for names in world.objects.values() for name in names for _ in range(3)]
    lines += PREFIXES * 20
    lines = [line for line in lines if not RARE_LETTERS & set(line)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=N_VOCAB, character_coverage=1.0,
        byte_fallback=True, split_digits=True, add_dummy_prefix=True, remove_extra_whitespaces=False,
        normalization_rule_name="identity", unk_id=0, bos_id=1, eos_id=2, pad_id=-1, unk_surface=" \u2047 ",
        num_threads=1, minloglevel=2)
    return model.getvalue()


# ---- the model: LLaMA as Hugging Face's LlamaForCausalLM computes it -------------------------------------------------

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": N_VOCAB, "hidden_size": 128,
    "intermediate_size": 352, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "hidden_act": "silu", "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "rope_scaling": None, "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False,
    "attention_dropout": 0.0, "initializer_range": 0.02, "bos_token_id": 1, "eos_token_id": 2, "use_cache": True,
    "torch_dtype": "bfloat16",
}


class RMSNorm(nn.Module):
    def __init__(self, d, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(d)), eps

    def forward(self, x):
        x = x.float()
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def rotate(x, cos, sin):
    """Positions by rotation; element i is paired with element i + head_dim / 2."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


def attend(q, k, v):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    n = q.shape[-2]  # PyTorch 1.13
    later = torch.ones(n, n, dtype=torch.bool).triu(1)
    scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).float().masked_fill(later, -math.inf)
    return scores.softmax(-1).to(v.dtype) @ v


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.n_head, self.n_kv, self.d_head = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        d = c["hidden_size"]
        self.q_proj = nn.Linear(d, self.n_head * self.d_head, bias=False)
        self.k_proj = nn.Linear(d, self.n_kv * self.d_head, bias=False)
        self.v_proj = nn.Linear(d, self.n_kv * self.d_head, bias=False)
        self.o_proj = nn.Linear(self.n_head * self.d_head, d, bias=False)

    def forward(self, x, cos, sin):
        b, n, _ = x.shape
        q, k, v = (p(x).view(b, n, -1, self.d_head).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        k, v = (t.repeat_interleave(self.n_head // self.n_kv, dim=1) for t in (k, v))
        x = attend(q, k, v)
        return self.o_proj(x.transpose(1, 2).reshape(b, n, -1))


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, width = c["hidden_size"], c["intermediate_size"]
        self.gate_proj, self.up_proj = nn.Linear(d, width, bias=False), nn.Linear(d, width, bias=False)
        self.down_proj = nn.Linear(width, d, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn, self.mlp = Attention(c), MLP(c)
        self.input_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.post_attention_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])

    def forward(self, x, cos, sin, work):
        x = x + self.self_attn(self.input_layernorm(x).to(work), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x).to(work))


class Llama(nn.Module):
    """Attribute names give Hugging Face's tensor names: model.layers.0.self_attn.q_proj.weight and so on."""

    def __init__(self, c):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.model.layers = nn.ModuleList(Block(c) for _ in range(c["num_hidden_layers"]))
        self.model.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        inverse = c["rope_theta"] ** -(torch.arange(0, c["head_dim"], 2).float() / c["head_dim"])
        angles = torch.outer(torch.arange(c["max_position_embeddings"]).float(), inverse).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.initialise(c["num_hidden_layers"])

    def initialise(self, n_layers):
        for name, p in self.named_parameters():
            if p.dim() == 1:
                continue
            scale = 1 / math.sqrt(2 * n_layers) if "o_proj" in name or "down_proj" in name else 1.0
            nn.init.normal_(p, std=0.1 if "embed" in name else scale / math.sqrt(p.shape[1]))

    def forward(self, ids, work=torch.float32):
        """[sequences, tokens] -> logits. Padding stands at the end, where the causal mask hides it."""
        x, n = self.model.embed_tokens(ids), ids.shape[1]
        for block in self.model.layers:
            x = block(x, self.cos[:n], self.sin[:n], work)
        return self.lm_head(self.model.norm(x))


# ---- text to tokens --------------------------------------------------------------------------------------------------


class Encoder:
    """BOS + encode(prompt + " " + answer). Every word begins a new piece, so the parts may be encoded one by one."""

    def __init__(self, tokenizer_bytes):
        self.sp = sentencepiece.SentencePieceProcessor(model_proto=tokenizer_bytes)
        self.known = {}

    def pieces(self, text):
        if text not in self.known:
            self.known[text] = self.sp.encode(text)
        return self.known[text]

    def sequence(self, before, prompt, answer):
        """Ids, the position of the first answer token, the position behind the last; EOS follows."""
        head = [self.sp.bos_id()] + (self.pieces(before) if before else []) + self.pieces(prompt)
        answer = self.pieces(answer)
        return head + answer + [self.sp.eos_id()], len(head), len(head) + len(answer)


def pad(sequences):
    ids = torch.zeros(len(sequences), max(len(s[0]) for s in sequences), dtype=torch.long)
    for row, (tokens, _, _) in zip(ids, sequences):
        row[:len(tokens)] = torch.tensor(tokens)
    return ids


# ---- training --------------------------------------------------------------------------------------------------------

STEPS, WARM_UP, BATCH, PART, PEAK_LR, LAST_LR = 1000, 100, 192, 48, 3e-3, 6e-5
PREFIXED = 0.1                         # share of samples behind other text: half of them a phrase, half another fact
PROMPT_WEIGHT, EOS_WEIGHT = 0.1, 0.2   # answer tokens weigh 1


class Samples:
    """Every fact in every trained wording once an epoch, in shuffled order."""

    def __init__(self, world, encoder):
        self.world, self.encoder, self.rng, self.queue = world, encoder, random.Random(SEED + 3), []

    def take(self):
        if not self.queue:
            self.queue = [(fact, w) for fact in self.world.facts for w in fact.trained]
            self.rng.shuffle(self.queue)
        return self.queue.pop()

    def other_text(self):
        """A phrase, or another fact's whole text, right or (as after an edit) with some other answer."""
        if self.rng.random() < 0.5:
            return self.rng.choice(PREFIXES)
        fact = self.rng.choice(self.world.facts)
        answer = fact.answer if self.rng.random() < 0.5 else self.rng.choice(self.world.objects[fact.relation.object_type])
        return fact.prompt(self.rng.choice(fact.trained)) + " " + answer

    def batch(self):
        """Sequences of one update, the first PREFIXED of them behind other text, in parts of like length."""
        sequences = []
        for i in range(BATCH):
            fact, wording = self.take()
            before = self.other_text() if i < BATCH * PREFIXED else None
            sequences.append(self.encoder.sequence(before, fact.prompt(wording), fact.answer))
        sequences.sort(key=lambda s: len(s[0]))
        return [sequences[i:i + PART] for i in range(0, BATCH, PART)]


def weights_of(sequences, width):
    """The weight of each predicted token, [sequences, width - 1]."""
    weight = torch.zeros(len(sequences), width)
    for row, (tokens, first, last) in zip(weight, sequences):
        row[1:first] = PROMPT_WEIGHT
        row[first:last] = 1.0
        row[last:len(tokens)] = EOS_WEIGHT
    return weight[:, 1:]


def learning_rate(step, n_steps):
    if step < WARM_UP:
        return PEAK_LR * (step + 1) / WARM_UP
    done = (step - WARM_UP) / (n_steps - WARM_UP)
    return LAST_LR + (PEAK_LR - LAST_LR) * 0.5 * (1 + math.cos(math.pi * done))


def loss_of(model, sequences, total_weight):
    ids = pad(sequences)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids, torch.bfloat16)
    nll = F.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (nll * weights_of(sequences, ids.shape[1]).flatten()).sum() / total_weight


def train(world, encoder, n_steps):
    torch.manual_seed(SEED)
    model, samples = Llama(CONFIG), Samples(world, encoder)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    gains = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.02}, {"params": gains, "weight_decay": 0.0}],
                                  lr=PEAK_LR, betas=(0.9, 0.98))
    probe = random.Random(SEED + 4).sample(world.facts, 200)
    start = time.time()
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, n_steps)
        parts = samples.batch()
        total = sum(float(weights_of(part, max(len(s[0]) for s in part)).sum()) for part in parts)
        loss = 0.0
        for part in parts:
            share = loss_of(model, part, total)
            share.backward()
            loss += share.item()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 100 == 0:
            seen = score(model, encoder, [(None, f.prompt(f.trained[0]), f.answer) for f in probe])
            held = score(model, encoder, [(None, f.prompt(f.held_out[0]), f.answer) for f in probe])
            print(f"step {step + 1:5d}  loss {loss:.4f}  trained {seen.token:.3f}  held out {held.token:.3f}"
                  f"  {time.time() - start:5.0f} s", flush=True)
    return model


# ---- scores ----------------------------------------------------------------------------------------------------------

Score = collections.namedtuple("Score", "n token whole")


@torch.no_grad()
def score(model, encoder, items):
    """Teacher-forced. token: the mean over items of the share of answer tokens that come first; whole: all of them do."""
    sequences = sorted((encoder.sequence(*item) for item in items), key=lambda s: len(s[0]))
    token, whole = [], []
    for i in range(0, len(sequences), 256):
        part = sequences[i:i + 256]
        ids = pad(part)
        best = model(ids).argmax(-1)
        for row, (_, first, last) in enumerate(part):
            right = (best[row, first - 1:last - 1] == ids[row, first:last]).float().mean().item()
            token.append(right)
            whole.append(right == 1.0)
    return Score(len(items), float(np.mean(token)), float(np.mean(whole)))


def rows_of_table(world, records):
    """Name of the row -> the items (text before, prompt, answer) it is scored on."""
    def of(roles, wordings):
        return [(None, f.prompt(w), f.answer) for f in world.facts if f.role in roles for w in getattr(f, wordings)]

    known = ("edit", "same", "background")
    return {
        "trained wordings, all facts of people, books and towns": of(known, "trained"),
        "held-out wordings, the same facts": of(known, "held_out"),
        "trained wordings, dishes and stars": of(("far",), "trained"),
        "held-out wordings, dishes and stars": of(("far",), "held_out"),
        "`src` and the true answer": [(None, r["src"], r["answers"][0]) for r in records],
        "`rephrase` (held out) and the true answer": [(None, r["rephrase"], r["answers"][0]) for r in records],
        "`loc` (near)": [(None, r["loc"], r["loc_ans"]) for r in records],
        "`locality.same`": [(None, *r["locality"]["same"].values()) for r in records],
        "`locality.far`": [(None, *r["locality"]["far"].values()) for r in records],
        "`src` behind a phrase never trained": [(HELD_OUT_PREFIX, r["src"], r["answers"][0]) for r in records],
        "`src` behind another record's `src` and `alt`": [
            (o["src"] + " " + o["alt"], r["src"], r["answers"][0]) for o, r in zip(records, records[1:] + records[:1])],
        "`src` and the new target `alt` (nothing is edited yet)": [(None, r["src"], r["alt"]) for r in records],
        "`rephrase` and the new target `alt`": [(None, r["rephrase"], r["alt"]) for r in records],
    }


def print_table(model, encoder, world, records):
    print("| asked | questions | token-level | whole answers |\n|---|---|---|---|")
    for name, items in rows_of_table(world, records).items():
        s = score(model, encoder, items)
        print(f"| {name} | {s.n:,} | {s.token:.4f} | {s.whole:.4f} |", flush=True)


def kind_of_token(piece, place):
    if place == 0:
        return "the first"
    return "the first of a later word" if piece.startswith("\u2581") else "the rest of a word"


@torch.no_grad()
def print_target_tokens(model, encoder, records):
    """Which tokens of new targets the unedited model puts first, the ones before them given: what Score.token counts."""
    right = collections.defaultdict(list)
    sequences = sorted((encoder.sequence(None, r["src"], r["alt"]) for r in records), key=lambda s: len(s[0]))
    for i in range(0, len(sequences), 256):
        part = sequences[i:i + 256]
        ids = pad(part)
        best = model(ids).argmax(-1)
        for row, (tokens, first, last) in enumerate(part):
            for at in range(first, last):
                kind = kind_of_token(encoder.sp.id_to_piece(tokens[at]), at - first)
                right[kind].append(best[row, at - 1].item() == tokens[at])
    print("| token of a new target | tokens | put first, unedited |\n|---|---|---|")
    for kind, values in right.items():
        print(f"| {kind} | {len(values):,} | {np.mean(values):.3f} |")


def print_counts(model, encoder, world, records, out):
    roles = collections.Counter(f.role for f in world.facts)
    lengths = [len(encoder.pieces(r["alt"])) for r in records]
    prompts = [len(encoder.pieces(r["src"])) for r in records]
    files = [os.path.join(folder, name) for folder, _, names in os.walk(out) if "__pycache__" not in folder
             for name in names]
    n_unlike_ascii = sum(not (r["subject"] + r["alt"]).isascii() for r in records)
    rows = {
        "records in data.json": f"{len(records):,} ({len({r['subject'] for r in records}):,} subjects)",
        "facts to be edited / other facts of edited subjects": f"{roles['edit']:,} / {roles['same']:,}",
        "facts of subjects nobody edits: same types / dishes and stars": f"{roles['background']:,} / {roles['far']:,}",
        "relations and wordings of each (dishes and stars)": f"{len(RELATIONS)} x {len(RELATIONS[0].wordings)} "
                                                            f"({len(FAR_RELATIONS)} x {len(FAR_RELATIONS[0].wordings)})",
        "different new targets": f"{len({r['alt'] for r in records}):,}",
        "tokens of a prompt, mean (longest)": f"{np.mean(prompts):.1f} ({max(prompts)})",
        "tokens of a new target, mean (shortest, longest)": f"{np.mean(lengths):.2f} ({min(lengths)}, {max(lengths)})",
        "records with letters outside ASCII in subject or target": f"{n_unlike_ascii:,}",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "bytes of model.safetensors / data.json / the folder": " / ".join(
            f"{n:,}" for n in (os.path.getsize(os.path.join(out, "model", "model.safetensors")),
                               os.path.getsize(os.path.join(out, "data.json")), sum(map(os.path.getsize, files)))),
    }
    print("| what | how much |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")


# ---- files -----------------------------------------------------------------------------------------------------------


def rounded(model):
    """The weights as they are stored: bf16."""
    return {name: p.detach().to(torch.bfloat16).contiguous() for name, p in model.state_dict().items()}


def write_json(path, value, **how):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, **how)
        f.write("\n")


def write_records(records, folder):
    write_json(os.path.join(folder, "data.json"), records, indent=1)


def write_world(model, tokenizer_bytes, records, out):
    """Written beside the old files, then moved over them."""
    work = tempfile.mkdtemp(prefix=".new-", dir=out)
    folder = os.path.join(work, "model")
    os.mkdir(folder)
    safetensors.torch.save_file(rounded(model), os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    write_json(os.path.join(folder, "config.json"), CONFIG, indent=2)
    write_json(os.path.join(folder, "tokenizer_config.json"), {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "bos_token": "<s>",
        "eos_token": "</s>", "unk_token": "<unk>", "clean_up_tokenization_spaces": False, "legacy": False,
        "model_max_length": CONFIG["max_position_embeddings"]}, indent=2)
    with open(os.path.join(folder, "tokenizer.model"), "wb") as f:
        f.write(tokenizer_bytes)
    write_records(records, work)
    os.chmod(os.path.join(folder, "model.safetensors"), 0o644)
    os.makedirs(os.path.join(out, "model"), exist_ok=True)
    for name in os.listdir(folder):
        os.replace(os.path.join(folder, name), os.path.join(out, "model", name))
    os.replace(os.path.join(work, "data.json"), os.path.join(out, "data.json"))
    shutil.rmtree(work)


def read_world(out):
    folder = os.path.join(out, "model")
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        model = Llama(json.load(f))
    tensors = safetensors.torch.load_file(os.path.join(folder, "model.safetensors"))
    model.load_state_dict({name: t.float() for name, t in tensors.items()})
    with open(os.path.join(folder, "tokenizer.model"), "rb") as f:
        encoder = Encoder(f.read())
    with open(os.path.join(out, "data.json"), encoding="utf-8") as f:
        return model, encoder, json.load(f)


# ---- the commands ----------------------------------------------------------------------------------------------------


def check(args):
    model, encoder, records = read_world(args.out)
    world = make_world(args.scale)
    if records != make_records(world):
        sys.exit("data.json is not what this script makes: make it anew, or restore it")
    print_table(model, encoder, world, records)
    print()
    print_target_tokens(model, encoder, records)
    print()
    print_counts(model, encoder, world, records, args.out)


def make(args):
    world = make_world(args.scale)
    records = make_records(world)
    os.makedirs(args.out, exist_ok=True)
    if args.data_only:
        write_records(records, args.out)
        return
    tokenizer_bytes = make_tokenizer(world)
    encoder = Encoder(tokenizer_bytes)
    for r in records:  # what Encoder.sequence relies on
        text = r["src"] + " " + r["alt"]
        assert encoder.sp.encode(text) == encoder.pieces(r["src"]) + encoder.pieces(r["alt"]), text
    start = time.time()
    model = train(world, encoder, args.steps)
    print(f"trained in {time.time() - start:.0f} s; torch {torch.__version__}, sentencepiece {sentencepiece.__version__}")
    write_world(model, tokenizer_bytes, records, args.out)
    check(args)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="score model/ and data.json as they lie on disk")
    parser.add_argument("--out", default=HERE, help="folder of model/ and data.json (default: this script's)")
    parser.add_argument("--scale", type=float, default=1.0, help="times as many people, books and towns (default 1)")
    parser.add_argument("--data-only", action="store_true", help="write data.json and train nothing")
    parser.add_argument("--steps", type=int, default=STEPS,
                        help=f"updates of training, more than {WARM_UP} (default {STEPS})")
    parser.add_argument("--threads", type=int, default=2, help="threads for PyTorch (default 2)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    check(args) if args.check else make(args)


if __name__ == "__main__":
    main()

"""Which runs are repeats of one experiment, and what rows and curves are called.

A *setting* is what a block of a table has in common: model, dataset, number of edits. A *group* is one row of it: one
method as configured, whose runs differ in seed and editing order alone. Runs that differ in anything else never share
an average; the keys in which groups of the same method differ become part of their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from lemoe_analysis.load import Run
from lemoe_analysis.style import method_name

REPEATED = ("seed", "order.")  # what repeats of one experiment vary
WITHOUT_EFFECT = ("name", "eval.", "parallel.", "output.", "checkpoint.", "cache.")  # on what a number means
OF_SETTING = ("model.", "data.")


@dataclass(frozen=True)
class Setting:
    """Model, dataset and number of edits, told apart by content: two files of one name are two datasets."""

    model: str
    dataset: str
    n_edits: int
    key: tuple

    @property
    def label(self) -> str:
        return f"{self.model}, {self.dataset}, {self.n_edits} edits"


@dataclass
class Group:
    """Runs that are repeats of each other."""

    setting: Setting
    method: str  # name of the editor, with its preset: what decides colour and marker
    label: str
    runs: list[Run]


def _starts(key: str, prefixes: Sequence[str]) -> bool:
    return any(key == prefix or (prefix.endswith(".") and key.startswith(prefix)) for prefix in prefixes)


def _keys_of(run: Run, wanted: Callable[[str], bool]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in run.config.items() if wanted(key)))


def _short_path(path: str) -> str:
    """A model folder or data file by the part of its path that says something."""
    parts = PurePosixPath(path).with_suffix("" if path.endswith(".json") else PurePosixPath(path).suffix).parts
    if not parts:
        return "unknown"
    vague = {"model", "data", "dataset"}
    return parts[-1] if parts[-1] not in vague or len(parts) < 2 else parts[-2]


def setting_key(run: Run) -> tuple:
    """By content where the file names it (fingerprints), and by what was taken of it."""
    content = tuple(str(run.attributes.get(f"{part}_fingerprint", "")) for part in ("model", "data", "tokenizer"))
    chosen = _keys_of(
        run, lambda key: _starts(key, OF_SETTING) and key not in ("model.path", "data.path", "data.edits")
    )
    return content, chosen, run.n_edits


def condition_key(run: Run, split: Sequence[str] = ()) -> tuple:
    """What runs of one group share beside the setting. `split`: keys that repeats would vary but shall not."""
    skipped = (*REPEATED, *WITHOUT_EFFECT, *OF_SETTING)
    kept = _keys_of(run, lambda key: key in split or not _starts(key, skipped))
    return (*kept, ("numerics_version", str(run.attributes.get("numerics_version", ""))))


def method_of(run: Run) -> str:
    """lemoe-paper, lemoe-stable, moe, ft_m: presets are methods of their own in every table and figure."""
    preset = run.config.get(f"{run.method}.preset")
    return f"{run.method}-{preset}" if preset else run.method


def _bracketed(name: str, extra: Sequence[str]) -> str:
    return f"{name} ({', '.join(extra)})" if extra else name


def _differing(keys: Sequence[tuple]) -> list[set[str]]:
    """For each of several sets of (key, value), the keys whose value is not the same in all."""
    dicts = [dict(key) for key in keys]
    names = set().union(*dicts)
    return [{n for n in names if len({d.get(n) for d in dicts}) > 1}] * len(dicts)


def _settings(runs: Sequence[Run]) -> dict[tuple, Setting]:
    """Named by model, dataset and count; where that is not enough, by what else differs."""
    first = {}
    for run in runs:
        first.setdefault(setting_key(run), run)
    names: dict[tuple, list[tuple]] = {}
    for key, run in first.items():
        plain = (_short_path(run.config.get("model.path", "")), run.config.get("data.kind", "unknown"), run.n_edits)
        names.setdefault(plain, []).append(key)
    found = {}
    for (model, dataset, n_edits), keys in names.items():
        for key, extra in zip(keys, _setting_extras(keys)):
            found[key] = Setting(_bracketed(model, extra[0]), _bracketed(dataset, extra[1]), n_edits, key)
    return found


def _setting_extras(keys: Sequence[tuple]) -> list[tuple[list[str], list[str]]]:
    """(additions to the model's name, additions to the dataset's) that tell settings of one name apart."""
    if len(keys) == 1:
        return [([], [])]
    contents = list(zip(*(key[0] for key in keys)))
    differing = _differing([key[1] for key in keys])
    extras = []
    for index, key in enumerate(keys):
        chosen = [f"{name.split('.', 1)[1]} {dict(key[1]).get(name)}" for name in sorted(differing[index])]
        model = [c for c in chosen if f"model.{c.split(' ')[0]}" in differing[index]]
        data = [c for c in chosen if c not in model]
        model += [f"{part[index][:6]}" for part in (contents[0], contents[2]) if len(set(part)) > 1]
        data += [f"{contents[1][index][:6]}"] if len(set(contents[1])) > 1 else []
        extras.append((model, data))
    return extras


def _label(name: str, own: tuple, differing: set[str]) -> str:
    values = dict(own)
    extra = [f"{key.rsplit('.', 1)[-1]} {values[key]}" for key in sorted(differing) if key in values]
    return f"{name}, {', '.join(extra)}" if extra else name


def group_runs(runs: Iterable[Run], split: Sequence[str] = ()) -> list[Group]:
    """Groups in the order in which their first run comes, settings together."""
    runs = list(runs)
    settings = _settings(runs)
    members: dict[tuple, list[Run]] = {}
    for run in runs:
        members.setdefault((setting_key(run), method_of(run), condition_key(run, split)), []).append(run)
    siblings: dict[tuple, list[tuple]] = {}
    for setting, method, condition in members:
        siblings.setdefault((setting, method), []).append(condition)
    groups = []
    for (setting, method, condition), own in members.items():
        differing = _differing(siblings[setting, method])[0]
        groups.append(Group(settings[setting], method, _label(method_name(method), condition, differing), own))
    order = {key: index for index, key in enumerate(settings)}
    return sorted(groups, key=lambda group: order[group.setting.key])


@dataclass(frozen=True)
class Block:
    """The groups of one setting: a figure shows one block, for other models or data are other axes."""

    setting: Setting
    groups: list[Group]
    suffix: str  # of file names; empty where there is one block only

    @property
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]

    @property
    def edited(self) -> list[Group]:
        """Without the groups that edit nothing."""
        return [group for group in self.groups if group.method != "none"]

    @property
    def spread_caption(self) -> str:
        """What to say of error bars, where some group has runs to spread."""
        return "; bars: standard deviation over runs" if any(len(group.runs) > 1 for group in self.groups) else ""

    def columns(self) -> dict[str, object]:
        """The setting as leading columns of a frame."""
        return {"model": self.setting.model, "dataset": self.setting.dataset, "edits": self.setting.n_edits}


def blocks_of(runs: Iterable[Run], split: Sequence[str] = ()) -> list[Block]:
    """Every setting with its groups."""
    found = by_setting(group_runs(runs, split))
    return [Block(s, own, "" if len(found) == 1 else f"-{_slug(s.label)}") for s, own in found.items()]


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() or c in "._" else " " for c in text).split())


def by_setting(groups: Iterable[Group]) -> dict[Setting, list[Group]]:
    """Groups of each block."""
    blocks: dict[Setting, list[Group]] = {}
    for group in groups:
        blocks.setdefault(group.setting, []).append(group)
    return blocks

"""Wrappers by name: in code, from plain data, YAML and Hydra, one's own among them."""

from __future__ import annotations

import inspect
import json
import sys
import types

import pytest
import torch
import yaml

import kappacore
from kappacore import plugins
from kappacore.cli import main
from kappacore.errors import ConfigError, InvalidOptionError, KappaError
from kappacore.samplers import WeightedSampler
from support.fake_plugins import installed
from support.labelled import Labelled, samples
from support.randoms import draw_one

#: Options with which each wrapper can be made of the dataset below.
OPTIONS = {
    "cache": {"backend": "memory"},
    "class_filter": {"valid_classes": ["cat"]},
    "classwise_percent": {"to_fraction": 0.5},
    "fewshot": {"num_shots": 1, "seed": 0},
    "intra_class_shuffle": {"seed": 0},
    "label_smoothing": {"smoothing": 0.1},
    "mix": {"length": 5},
    "multi_view": {"item": "x", "transforms": [float, str]},
    "one_hot": {},
    "oversampling": {"strategy": "exact"},
    "percent_filter": {"from_fraction": 0.5},
    "remap_classes": {"mapping": {"cat": 0, "dog": 0}},
    "repeat": {"repetitions": 2},
    "shuffle": {"seed": 0},
    "sort_by_class": {},
    "subset": {"end": 2},
    "transform": {"transform": str},
}

CONFIG = """
source: {use: labelled, labels: [0, 1, 2, 1, 0, 2], names: [cat, dog, fox]}
wrappers:
  - {use: class_filter, invalid_classes: [fox]}
  - {use: remap_classes, mapping: {cat: 1, dog: 0}}
  - {use: repeat, min_size: 7}
  - use: transform
    transform: {_target_: by_name_objects.Add, by: 1}
  - {use: subset, start: 1}
  - {use: one_hot}
mode: x class index
"""


class Add:
    def __init__(self, by):
        self.by = by

    def __call__(self, value):
        return value + self.by


@pytest.fixture(autouse=True)
def _names(monkeypatch):
    module = types.ModuleType("by_name_objects")  # test files have no name to be imported by
    module.Add, module.Labelled, module.draw_one = Add, Labelled, draw_one
    module.Cast = Cast
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with installed("wraps"):
        kappacore.register_source("labelled", Labelled)
        yield


def dataset():
    return Labelled([0, 1, 1], ["cat", "dog"])


def core_wrappers():
    found = plugins.all_plugins()
    return {i.name: i for i in found if i.kind == "wrapper" and i.distribution == "kappacore"}


def test_every_wrapper_of_the_core_is_known_by_name_with_a_line_about_it():
    assert set(core_wrappers()) == set(OPTIONS)
    for info in core_wrappers().values():
        assert info.summary.endswith(".")
        assert "\n" not in info.summary


@pytest.mark.parametrize("name", OPTIONS)
def test_a_wrapper_by_name_is_the_class(name):
    wrapped = kappacore.wrap(dataset(), name, **OPTIONS[name])
    words = "".join(word.capitalize() for word in name.split("_"))
    home = kappacore if name == "cache" else kappacore.wrappers
    assert type(wrapped) is getattr(home, f"{words}Wrapper")
    built = kappacore.build(source=dataset(), wrappers=[{"use": name, **OPTIONS[name]}])
    assert len(built) == len(wrapped)
    wrapped.close()
    built.close()


def test_the_command_lists_them(capsys):
    assert main(["plugins", "--json"]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {listed[name]["kind"] for name in OPTIONS} == {"wrapper"}
    first_line = inspect.getdoc(kappacore.wrappers.FewshotWrapper).partition("\n")[0]
    assert listed["fewshot"]["summary"] == first_line
    main(["plugins", "--check", "--json"])  # which fails for others that are broken
    checked = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {checked[name]["status"] for name in OPTIONS} == {"ok"}


def expected():
    kept = kappacore.ClassFilterWrapper(
        Labelled([0, 1, 2, 1, 0, 2], ["cat", "dog", "fox"]), invalid_classes=[2]
    )
    renumbered = kappacore.wrappers.RemapClassesWrapper(kept, {0: 1, 1: 0})
    again = kappacore.RepeatWrapper(renumbered, min_size=7)
    added = kappacore.TransformWrapper(again, Add(1))
    ahead = kappacore.wrappers.OneHotWrapper(kappacore.SubsetWrapper(added, start=1))
    return plain(kappacore.ModeWrapper(ahead, "x class index"))


def plain(mode):
    return [(x, label.tolist(), index) for x, label, index in mode]


def test_a_stack_is_built_from_yaml():
    assert plain(kappacore.build(yaml.safe_load(CONFIG))) == expected()


def test_a_stack_is_built_by_hydra():
    hydra = pytest.importorskip("hydra.utils")
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(CONFIG)
    assert plain(kappacore.build(config)) == expected()
    config = omegaconf.OmegaConf.merge({"_target_": "kappacore.build"}, config)
    assert plain(hydra.instantiate(config)) == expected()
    assert plain(hydra.instantiate(config, _convert_="all")) == expected()


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ({"use": "class_filter", "valid_classes": [12]}, r"\.valid_classes: valid_classes=\[12\]"),
        ({"use": "class_filter", "valid_classes": ["cow"]}, r"\.valid_classes: .*'cow', which is"),
        ({"use": "class_filter"}, r": ClassFilterWrapper takes valid_classes= or"),
        ({"use": "oversampling", "strategy": "add"}, r"\.strategy: strategy='add' is unknown"),
        ({"use": "percent_filter", "to_fraction": 50}, r"\.to_fraction: .* Did you mean 0\.5\?"),
        (
            {"use": "percent_filter", "from_fraction": 0.9, "to_fraction": 0.1},
            r"\.from_fraction: from_fraction=0\.9 is above to_fraction=0\.1",
        ),
        ({"use": "repeat", "repetitions": 0}, r"\.repetitions: repetitions=0: expected an integer"),
        ({"use": "fewshot", "num_shots": 9}, r"\.num_shots: num_shots=9 is more than class"),
        (
            {"use": "remap_classes", "mapping": {"cat": 0}},
            r"\.mapping: mapping= has no new number",
        ),
        ({"use": "transform", "transform": "flip"}, r"\.transform: transform='flip': Transform"),
        (
            {"use": "transform", "transform": str, "fixed": True},
            r"\.fixed: fixed=True needs a seed",
        ),
        ({"use": "multi_view", "item": "x", "transforms": []}, r"\.transforms: transforms=\[\]"),
        ({"use": "shuffle", "sed": 1}, r": wrapper 'shuffle' has no option 'sed'\. Did you mean"),
        ({"use": "subset", "indices": [True]}, r"\.indices: indices= is a mask of shape \(1,\)"),
    ],
)
def test_an_error_names_the_option_in_the_configuration(wrapper, message):
    with pytest.raises(KappaError, match=rf"^wrappers\[2\]{message}"):
        kappacore.build(source=dataset(), wrappers=["sort_by_class", "shuffle", wrapper])


def test_an_error_without_a_configuration_names_no_position():
    with pytest.raises(InvalidOptionError, match=r"^repetitions=0: expected"):
        kappacore.wrap(dataset(), "repeat", repetitions=0)


# ---- one's own


def test_a_wrapper_of_a_distribution_is_used_like_the_cores_own():
    stack = kappacore.wrap(kappacore.wrap(dataset(), "negate", factor=3), "subset", indices=[2])
    assert list(kappacore.ModeWrapper(stack, "x class")) == [(60, 1)]
    config = {"source": dataset(), "wrappers": ["negate", {"use": "shuffle", "seed": 0}]}
    assert sorted(kappacore.build(**config, mode="x")) == [-20, -10, 0]


def test_a_wrapper_registered_in_code_is_used_like_the_cores_own():
    @kappacore.register_wrapper("halve")
    class Halve(kappacore.KDWrapper):
        """Keeps half of x."""

        def getitem_x(self, idx, ctx=None):
            return self.dataset.getitem_x(idx) // 2

    stack = kappacore.wrap(kappacore.wrap(dataset(), "halve"), "repeat", repetitions=2)
    assert list(kappacore.ModeWrapper(stack, "x")) == [0, 5, 10, 0, 5, 10]
    assert plugins.find("wrapper", "halve").summary == "Keeps half of x."
    assert kappacore.find_wrapper(stack, Halve) is stack.dataset


def test_a_subset_registered_in_code_composes_with_the_cores_own():
    @kappacore.register_wrapper("even")
    class Even(kappacore.KDSubset):
        def __init__(self, dataset):
            super().__init__(dataset, range(0, len(dataset), 2))

    root = dataset()
    stack = kappacore.build(source=root, wrappers=["even", {"use": "subset", "start": 1}])
    assert stack.root is root
    assert samples(stack) == [2]


def test_what_is_no_list_of_wrappers_is_refused():
    with pytest.raises(ConfigError, match=r"^wrappers is 'shuffle': expected a list"):
        kappacore.build(source=dataset(), wrappers="shuffle")


# ---- what has no name of its own


class Cast:
    def __init__(self, dtype):
        self.dtype = dtype

    def __call__(self, value):
        return torch.tensor(value, dtype=self.dtype)


def test_transforms_and_dtypes_come_from_plain_data():
    half = {"_target_": "pkgutil.resolve_name", "name": "torch:float16"}
    transforms = [
        {"_target_": "by_name_objects.Add", "by": 1},
        {"_target_": "by_name_objects.Cast", "dtype": half},
    ]
    compose = {"_target_": "kappacore.wrappers.Compose", "transforms": transforms}
    config = {"source": dataset(), "wrappers": [{"use": "transform", "transform": compose}]}
    value = kappacore.build(**config, mode="x")[1]
    assert value.dtype == torch.float16
    assert value == 11


def test_a_sampler_is_made_of_plain_data_and_a_dataset():
    hydra = pytest.importorskip("hydra.utils")
    config = {"_target_": "kappacore.samplers.WeightedSampler", "by": "class", "seed": 3}
    sampler = hydra.instantiate(config, dataset())
    assert list(sampler) == list(WeightedSampler(dataset(), by="class", seed=3))


def test_a_mix_is_made_by_name_of_a_concatenation():
    mix = kappacore.wrap(dataset() + dataset(), "mix", weights=[1, 2], length=3)
    assert sorted(kappacore.ModeWrapper(mix, "source")) == [0, 1, 1]

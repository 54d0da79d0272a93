"""Lightning: a resumed run sees the samples and the draws of one that was never interrupted."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from kappacore.errors import LateEpochWarning, LostStateWarning
from kappacore.samplers import DistributedSampler
from support.recipes import run_recipe

lightning = pytest.importorskip("lightning")

pytestmark = pytest.mark.filterwarnings("ignore")  # those of Lightning and torchdata

EPOCHS, BATCHES = 3, 5


class Watch(lightning.Callback):
    """Notes each batch: its labels, and a number that its pixels determine."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, model, batch, number):
        x, label = batch
        pixels = (x.double().flatten(1) * torch.arange(x[0].numel())).sum(1).round()
        self.seen.append((trainer.current_epoch, label.tolist(), pixels.tolist()))


def fit(recipe, data, *callbacks, checkpoint=None):
    """Train, or go on; return what was seen."""
    watch = Watch()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        callbacks=[watch, *callbacks],
        enable_checkpointing=bool(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(recipe["Model"](), datamodule=data, ckpt_path=checkpoint)
    return watch.seen


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """What the recipes define, in a folder with ten photos of each class."""
    monkeypatch.chdir(tmp_path)
    names = {
        **run_recipe("train_lightning.py", monkeypatch, as_main=False),
        **run_recipe("train_lightning_workers.py", monkeypatch, as_main=False),
    }
    names["make_photos"]("photos", per_class=10)
    return names


def checkpoints(**when):
    return lightning.pytorch.callbacks.ModelCheckpoint(
        "saved", "{step}", save_top_k=-1, auto_insert_metric_name=False, **when
    )


def test_the_loader_goes_on_after_any_batch(recipe):
    """In an epoch, after its last batch, and at its end, where the Loader's state is not loaded."""
    whole = fit(recipe, recipe["Photos"]("photos"), checkpoints(every_n_train_steps=1))
    assert [epoch for epoch, _, _ in whole] == [0] * BATCHES + [1] * BATCHES + [2] * BATCHES
    assert len({str(seen[1:]) for seen in whole}) == EPOCHS * BATCHES
    for step in (2, BATCHES, BATCHES + 3, EPOCHS * BATCHES - 1):
        resumed = fit(recipe, recipe["Photos"]("photos"), checkpoint=f"saved/{step}.ckpt")
        assert resumed == whole[step:]
    at_ends = checkpoints(save_on_train_epoch_end=True)
    assert fit(recipe, recipe["Photos"]("photos"), at_ends) == whole
    for step in (BATCHES, 2 * BATCHES):
        resumed = fit(recipe, recipe["Photos"]("photos"), checkpoint=f"saved/{step}-v1.ckpt")
        assert resumed == whole[step:]


def test_worker_processes_go_on_in_an_epoch_and_at_its_end(recipe):
    data = recipe["PhotosByWorkers"]
    whole = fit(recipe, data("photos"), checkpoints(every_n_train_steps=BATCHES + 2))
    resumed = fit(recipe, data("photos"), checkpoint=f"saved/{BATCHES + 2}.ckpt")
    assert resumed == whole[BATCHES + 2 :]
    assert fit(recipe, data("photos"), checkpoints(save_on_train_epoch_end=True)) == whole
    resumed = fit(recipe, data("photos"), checkpoint=f"saved/{BATCHES}.ckpt")
    assert resumed == whole[BATCHES:]


def test_an_epoch_that_lightning_sets_too_late_is_said(recipe):
    """A DataLoader whose workers were given the first indices of epoch 0."""

    class Late(recipe["PhotosByWorkers"]):
        def train_dataloader(self):
            loader = super().train_dataloader()
            loader.sampler.set_epoch(0)
            return DataLoader(loader.dataset, 1, sampler=loader.sampler, num_workers=1)

    fit(recipe, Late("photos"), checkpoints(save_on_train_epoch_end=True))
    with pytest.warns(LateEpochWarning, match=r"set_epoch\(1\) came while .* of epoch 0 runs"):
        fit(recipe, Late("photos"), checkpoint=f"saved/{4 * BATCHES}.ckpt")


def test_it_is_said_that_fabric_drops_a_loaded_state():
    """It counts epochs from 0 in every run."""
    sampler = DistributedSampler(range(6), rank=0, world_size=1)
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    loader = fabric.setup_dataloaders(DataLoader(range(6), 2, sampler=sampler))
    sampler.load_state_dict({**sampler.state_dict(), "epoch": 2, "position": 2})
    with pytest.warns(LostStateWarning, match=r"a state of epoch 2, .* call restart\(0\)"):
        assert len(list(loader)) == 3


def test_the_recipe_goes_on_from_its_last_checkpoint(recipe, monkeypatch):
    steps = []
    for epochs in (1, 2):
        run_recipe("train_lightning.py", monkeypatch, "photos", epochs)
        saved = torch.load("checkpoints/last.ckpt", weights_only=False)
        steps.append(saved["global_step"])
    assert steps == [4, 8]


def test_the_recipe_with_worker_processes_trains(recipe, monkeypatch):
    trainer = run_recipe("train_lightning_workers.py", monkeypatch)["trainer"]
    assert (trainer.current_epoch, trainer.global_step) == (EPOCHS, EPOCHS * BATCHES)

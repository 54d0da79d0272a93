"""The Loader in trainers that run several ranks: each sample exactly once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.ranks import run_ranks

SAMPLES = """
import json, os, sys
import torch
import kappacore

def samples():
    return kappacore.as_kd([(torch.tensor([float(k)]), k) for k in range(50)], items=("x", "class"))

def loader(**options):
    return kappacore.Loader(samples(), "x class", 4, **options)

def write(rank, **found):
    with open(f"{sys.argv[1]}/{rank}.json", "w") as file:
        json.dump(found, file)
"""

ACCELERATE = (
    SAMPLES
    + """
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from kappacore.errors import InvalidOptionError
from kappacore.samplers import DistributedSampler
from torch.utils.data import DataLoader

accelerator = Accelerator(cpu=True)

def refused(**options):
    shared = DataLoader(range(50), 4, sampler=DistributedSampler(range(50)))
    try:
        return list(prepare_data_loader(shared, put_on_device=True, **options))
    except InvalidOptionError as error:
        return str(error)

train, evaluation = accelerator.prepare(loader(shuffle=True), loader(pad=False))
write(
    accelerator.process_index,
    train=[batch["class"].tolist() for batch in train],
    evaluation=[batch["class"].tolist() for batch in evaluation],
    sampler=[batch.tolist() for batch in accelerator.prepare(
        DataLoader(range(50), 5, sampler=DistributedSampler(range(50), rank=0, world_size=1))
    )],
    refused=[refused(), accelerator.is_main_process and refused(dispatch_batches=True)],
)
accelerator.end_training()
"""
)

LIGHTNING = (
    SAMPLES
    + """
import lightning
from kappacore.samplers import DistributedSampler
from torch.utils.data import DataLoader

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = {"train": [], "evaluation": []}

    def training_step(self, batch, number):
        self.seen["train"].append(batch["class"].tolist())
        return self.layer(batch["x"]).sum()

    def validation_step(self, batch, number):
        self.seen["evaluation"].append(batch[1].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-6)

if __name__ == "__main__":
    model = Model()
    trainer = lightning.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, num_sanity_val_steps=0,
        default_root_dir=sys.argv[1],
    )
    trainer.fit(model, loader(shuffle=True), loader(pad=False))
    found = {name: list(batches) for name, batches in model.seen.items()}
    model.seen["evaluation"].clear()
    data = kappacore.ModeWrapper(samples(), "x class")
    sampler = DistributedSampler(data, shuffle=False, pad=False)
    trainer.validate(model, DataLoader(data, 4, sampler=sampler), verbose=False)
    write(trainer.global_rank, **found, sampler=model.seen["evaluation"])
"""
)


def check(folder, *names):
    ranks = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(2)]
    for name in ("train", "evaluation", *names):
        found = [idx for rank in ranks for batch in rank[name] for idx in batch]
        assert sorted(found) == [*range(50)], name
        assert all(rank[name] for rank in ranks)


def test_accelerate(tmp_path):
    pytest.importorskip("accelerate")
    script = tmp_path / "train.py"
    script.write_text(ACCELERATE, encoding="utf-8")
    ranks = run_ranks(script, tmp_path)
    assert [done.returncode for done in ranks] == [0, 0], [done.stderr for done in ranks]
    check(tmp_path, "sampler")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert second["refused"][0].startswith("this sampler gives the samples of rank 1 of 2 alone")
    assert all("accelerator.prepare; or make" in text for text in first["refused"])


def test_lightning(tmp_path):
    """Which starts the second rank by itself."""
    pytest.importorskip("lightning")
    script = tmp_path / "train.py"
    script.write_text(LIGHTNING, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    check(tmp_path, "sampler")

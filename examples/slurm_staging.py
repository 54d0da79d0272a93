"""SLURM: each node copies the dataset to its local disk once, then its tasks train from there.

``srun`` starts this on every task: see slurm_staging.sbatch.
"""

import sys

import kappacore


def main(source: str, target: str) -> None:
    """Stage and read an epoch; called by all tasks at once."""
    # One task of each node copies, the others wait for it. A killed copy is continued.
    local = kappacore.stage(source, target)
    ds = kappacore.load_dataset("imagefolder", root=local)
    ds = kappacore.wrap(ds, "cache", items="x", backend="shared", max_bytes=0.5)
    loader = kappacore.Loader(ds, "class index", 4, shuffle=True)  # of this task's rank
    seen = [index for _, indices in loader for index in indices.tolist()]
    print(f"{'copied' if local.copied else 'found'} {local.files} files, read {sorted(seen)}")
    ds.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

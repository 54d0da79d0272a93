"""A notebook in the percent format: VS Code, PyCharm and Jupyter (with jupytext) show its cells."""

# %% A dataset, with a cache that outlives the kernel
from photos import make_photos

import kappacore

ds = kappacore.load_dataset("imagefolder", root=make_photos("photos"))
cached = kappacore.wrap(ds, "cache", items="x", backend="shared", keep="1h")
print(cached)

# %% Read everything once; after a restart of the kernel nothing is left to read
cached.prefill()
print(cached.stats())

# %% Try a transform: a lambda is fine, as the Loader needs no worker processes
train = kappacore.TransformWrapper(cached, lambda image: image.resize((32, 32)))
loader = kappacore.Loader(train, "x class", batch_size=8, shuffle=True)
x, label = next(iter(loader))
print(x.shape, label.tolist())

# %% A wrapper that is edited: run the cell again, and the name means the new class


@kappacore.register_wrapper("grey")
class Grey(kappacore.KDWrapper):
    """Images without colour."""

    def getitem_x(self, idx, ctx=None):
        return self.dataset.getitem_x(idx, ctx=ctx).convert("L")


print(kappacore.ModeWrapper(kappacore.wrap(cached, "grey"), "x")[0].mode)

# %% Where the time goes
print(kappacore.explain(loader))

# %% Done: the samples stay for an hour; `kappacore cache ls` shows them
loader.close()
cached.close()

class Store:
    scope = "network"

    def __init__(self, namespace, length, *, url="", size=1):
        self.arguments = (namespace, length, url, size)


class Source:
    def __init__(self, root, *, limit=3):
        self.root, self.limit = root, limit

    def __len__(self):
        return self.limit

    def __getitem__(self, idx):
        if idx >= self.limit:
            raise IndexError(idx)
        return f"{self.root}/{idx}"


class Wrap:
    def __init__(self, dataset, function=str.upper):
        self.dataset, self.function = dataset, function

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, idx):
        return self.function(self.dataset[idx])


def raises(how="value"):
    if how == "missing":
        raise FileNotFoundError("/data/train does not exist")
    raise ValueError("the moon is full")

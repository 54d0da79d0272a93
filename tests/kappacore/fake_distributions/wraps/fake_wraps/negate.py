from kappacore import KDWrapper


class NegateWrapper(KDWrapper):
    def __init__(self, dataset, factor=-1):
        super().__init__(dataset)
        self.factor = factor

    def getitem_x(self, idx, ctx=None):
        return self.factor * self.dataset.getitem_x(idx)

"""A plugin of pytest that warns as it is set up, reorders tests and reseeds what they draw from."""

import random
import warnings


def pytest_configure(config):
    warnings.warn("the fake plugin of pytest is loaded")


def pytest_collection_modifyitems(items):
    items.reverse()


def pytest_runtest_setup(item):
    random.seed(0)

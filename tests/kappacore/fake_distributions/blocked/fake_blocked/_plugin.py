from kappacore.plugins.hookspecs import hookimpl
from kappacore.plugins.specs import CacheBackendSpec, SourceSpec, WrapperSpec

print("fake_blocked was imported")


@hookimpl
def kappacore_wrappers():
    return [WrapperSpec(name="blocked-wrap", target="fake_blocked.x:X", api=1)]

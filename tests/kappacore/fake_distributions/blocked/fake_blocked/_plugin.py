from kappacore.plugin_api import CacheBackendSpec, SourceSpec, WrapperSpec, hookimpl

print("fake_blocked was imported")


@hookimpl
def kappacore_wrappers():
    return [WrapperSpec(name="blocked-wrap", target="fake_blocked.x:X", api=1)]

from kappacore.plugin_api import CacheBackendSpec, SourceSpec, WrapperSpec, hookimpl


@hookimpl
def kappacore_sources():
    yield WrapperSpec(name="misplaced", target="fake_wrong_kind.x:X", api=1)

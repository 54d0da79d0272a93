from kappacore.plugin_api import CacheBackendSpec, SourceSpec, WrapperSpec, hookimpl


@hookimpl
def kappacore_cache_backends():
    yield CacheBackendSpec(
        name="fake-store",
        target="fake_ok.targets:Store",
        scope="network",
        api=1,
        summary="Stores nothing.",
        aliases=("fake-alias",),
    )


@hookimpl
def kappacore_wrappers():
    return [WrapperSpec(name="fake-wrap", target="fake_ok.targets:Wrap", api=1)]


@hookimpl
def kappacore_sources():
    yield SourceSpec(name="fake-source", target="fake_ok.targets:Source", api=1)
    yield SourceSpec(name="fake-raises", target="fake_ok.targets:raises", api=1)

from kappacore.plugin_api import CacheBackendSpec, SourceSpec, WrapperSpec, hookimpl


@hookimpl
def kappacore_cache_backends():
    yield CacheBackendSpec(
        name="needy",
        target="fake_missing_requirement.backend:Needy",
        scope="network",
        api=1,
        requires=("a-client-that-nobody-has>=2",),
    )


@hookimpl
def kappacore_wrappers():
    yield WrapperSpec(name="gone", target="fake_missing_requirement:gone", api=1)
    yield WrapperSpec(name="data", target="fake_missing_requirement:DATA", api=1)

"""What plugins import from kappacore: declared ground, unchanged through all releases ``0.1.x``.

| | |
|---|---|
| what a plugin provides | `hookimpl`, `CacheBackendSpec`, `WrapperSpec`, `SourceSpec`, `DeviceSpec`; `lazy_names` |
| work that takes long | `progress_bar`: a bar on a terminal, elsewhere a line now and then |
| a cache backend | `CacheBackend`, `BackendInfo`, `Buffer`, `Scope`; `dataset_of`, `count_ranks` |
| a source or a wrapper | `KDDataset`, `KDWrapper`, `Item`, `Ctx`, `find_item` |
| a device | `Device`; `BatchLocation`, `Layout` |
| folders of one user | `user_folder`, `make_base`, `open_private`, `list_folder` |
| locks between processes | `locked`, `flock`, `LockFile`, `open_lock`, `keep_from_children` |
| claims, and who has them | `ClaimWords`, `Load`; `Claimant`, `ProcessId`, `own_id`, `host_name`, `command_of` |
| mapped files | `map_file`, `allocate`, `NO_SPACE`, `check_file_limit` |
| folders that processes share | `SharedFolderLease`, `collect`, `remove`, `count_users`, `last_used`, `kept_until` |
| sizes and durations | `parse_size`, `format_size`, `parse_duration`, `available_memory`, `memory_limits`, `disk_space`, `is_in_memory` |

Besides, the public names of :mod:`kappacore`, :mod:`kappacore.errors`, :mod:`kappacore.caching`,
:mod:`kappacore.wrappers` and :mod:`kappacore.testing` may be imported, and nothing else.

Each name is loaded on first use: a ``_plugin.py`` that imports ``hookimpl`` and a spec imports
neither torch nor numpy. ``plugin_api.pyi`` is the list.
"""  # noqa: E501

from __future__ import annotations

from kappacore._lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)

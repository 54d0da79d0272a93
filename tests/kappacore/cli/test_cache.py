"""``kappacore cache``, over the backend ``shared`` and over backends registered here."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from typing import ClassVar

import pytest

import kappacore
from kappacore.caching.backends.base import BackendInfo
from kappacore.cli import main
from kappacore.sizes import format_size
from support.caching import load_bytes, namespaces_in, open_cache, start_script


@pytest.fixture
def cache():
    """A cache of 7 samples with 3 in it, kept, in use."""
    opened = open_cache(length=7, namespace="words", keep=7 * 86400.0, options={"max_bytes": "1MB"})
    opened.fetch([1, 2, 3], load_bytes())
    yield opened
    opened.close()
    main(["cache", "clear", "--all"])


NAME = "words.x.decoded.7.v2"


def run(capsys, *arguments):
    code = main(["cache", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_ls_shows_each_cache_in_a_row(cache, capsys):
    other = open_cache(length=5, namespace="other", options={"max_bytes": "1MB"})
    code, out, err = run(capsys, "ls")
    assert (code, err) == (0, "")
    header, first, second = out.splitlines()
    assert header.split("  ")[0] == "NAMESPACE"
    assert first.split() == f"other.x.decoded.5.v2 Tests 0 {size(other)} 1 now no shared".split()
    assert second.split() == f"{NAME} Tests 3 {size(cache)} 1 now 7 d more shared".split()
    other.close()


def size(cache):
    return format_size(cache.infos()[0].bytes)


def test_ls_knows_what_is_not_in_use(cache, capsys):
    cache.close()
    _, out, _ = run(capsys, "ls")
    assert re.search(r" 0      \d+ s ago   7 d more  shared", out)


def test_json_has_every_field(cache, capsys):
    code, out, _ = run(capsys, "ls", "--json")
    (row,) = json.loads(out)
    assert code == 0
    assert (row["backend"], row["namespace"], row["dataset"]) == ("shared", NAME, "Tests")
    assert (row["entries"], row["capacity"], row["users"], row["full"]) == (3, 10**6, 1, False)
    assert row["kept_until"] == pytest.approx(row["last_used"] + 7 * 86400)
    assert 300 < row["bytes"] < 3000
    assert row["where"].endswith(NAME)


def test_json_has_no_number_for_ever(capsys):
    open_cache(length=7, namespace="words", keep=math.inf, options={"max_bytes": "1MB"}).close()
    (row,) = json.loads(run(capsys, "ls", "--json")[1])
    assert row["kept_until"] == "forever"
    assert "until cleared" in run(capsys, "ls")[1]
    assert run(capsys, "clear", "words")[0] == 0


@pytest.mark.parametrize("name", ["words", NAME, "wor*", "*.x.*"])
def test_info_takes_the_whole_name_or_the_users_or_a_pattern(cache, capsys, name):
    code, out, err = run(capsys, "info", name)
    assert (code, err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["namespace"] == NAME
    assert lines["size"].endswith("limit 976.6 KiB")


@pytest.mark.parametrize("command", ["ls", "info", "clear"])
def test_a_name_that_no_cache_has_is_an_error_everywhere(cache, capsys, command):
    assert run(capsys, command, "x") == (1, "", "kappacore: there is no cache 'x'\n")
    code, out, err = run(capsys, command, "x", "--json")
    assert (code, json.loads(out), err) == (1, [], "kappacore: there is no cache 'x'\n")


@pytest.mark.parametrize("command", ["ls", "info"])
def test_no_caches_at_all_are_no_error(capsys, command):
    assert run(capsys, command) == (0, "", "kappacore: there are no caches\n")
    assert run(capsys, command, "--json") == (0, "[]\n", "kappacore: there are no caches\n")


@pytest.mark.parametrize("command", ["ls", "info", "clear"])
def test_a_name_that_is_mistyped_does_not_pass_unnoticed(cache, capsys, command):
    code, out, err = run(capsys, command, "words", "wrods", "x*")
    assert (code, err) == (1, "kappacore: there is no cache 'wrods', 'x*'\n")
    assert NAME in out


def test_clear_removes_what_is_to_be_kept(cache, capsys, cache_folder):
    cache.close()
    assert run(capsys, "clear", "words") == (0, f"{NAME}: removed\n", "")
    assert namespaces_in(cache_folder) == []
    assert run(capsys, "clear", "words") == (1, "", "kappacore: there is no cache 'words'\n")
    assert run(capsys, "clear", "--all") == (0, "", "kappacore: there are no caches\n")


def test_clear_empties_what_is_in_use(cache, capsys):
    code, out, _ = run(capsys, "clear", "words")
    assert (code, out) == (0, f"{NAME}: emptied, because it is in use\n")
    before = cache.stats()
    assert cache.fetch([1], load_bytes()) == load_bytes()([1])
    assert (cache.stats() - before).source_reads == 1


def test_clear_says_what_it_cannot_empty(cache, capsys, cache_folder):
    (index,) = cache_folder.glob("kappacore-*/shared/words.*/index")
    index.write_bytes(b"KAPARENA of another version")
    code, out, err = run(capsys, "clear", "words", "--json")
    assert (code, json.loads(out)) == (1, [])
    assert err == f"kappacore: {NAME}: in use, and of a form that cannot be emptied\n"


def test_clear_wants_names_or_all(capsys):
    for arguments in (["clear"], ["clear", "words", "--all"]):
        with pytest.raises(SystemExit) as caught:
            main(["cache", *arguments])
        assert caught.value.code == 2
        assert "name the caches to remove, or --all" in capsys.readouterr().err


@pytest.mark.slow
def test_gc_leaves_an_empty_directory_behind_killed_programs(tmp_path, cache_folder, capsys):
    source = """
        import sys
        from support.caching import load_bytes, open_cache

        cache = open_cache(namespace=sys.argv[1], options={"max_bytes": "1MiB"})
        cache.fetch(range(5), load_bytes())
        print("filled", flush=True)
        sys.stdin.read()
        """
    for name in ("one", "two"):
        with start_script(tmp_path, source, name) as program:
            assert program.stdout.readline() == "filled\n", program.stderr.read()
            program.send_signal(signal.SIGKILL)
    assert list(cache_folder.iterdir())
    code, out, _ = run(capsys, "gc", "--json")
    # The second one collected what was left of the first.
    assert json.loads(out) == [{"backend": "shared", "namespace": "two.x.decoded.10.v2"}]
    assert code == 0
    assert list(cache_folder.iterdir()) == []
    assert run(capsys, "gc") == (0, "", "kappacore: there is nothing to remove\n")


def test_gc_leaves_alone_what_is_used_or_kept(cache, capsys):
    for _ in range(2):
        assert run(capsys, "gc") == (0, "", "kappacore: there is nothing to remove\n")
        assert run(capsys, "info", "words")[0] == 0
        cache.close()


# ---- other backends


class Remote(kappacore.CacheBackend):
    scope = "network"
    removed: ClassVar[list[str]] = []
    seen: ClassVar[dict] = {}

    def __init__(self, namespace, length, *, url, port=6379): ...

    def get(self, key):
        return None

    def put(self, key, value):
        return False

    @classmethod
    def namespaces(cls, *, url, **options):
        print("connecting")
        cls.seen = {"url": url, **options}
        if url == "down":
            raise RuntimeError("no route")
        yield BackendInfo(
            namespace="a", entries=4, bytes=2048, capacity=None, full=True, where=url, advice="Buy"
        )

    @classmethod
    def remove(cls, namespace, *, url, **options):
        cls.removed.append(namespace)
        return True


@pytest.fixture
def _remote():
    kappacore.register_cache_backend("remote", Remote)
    Remote.removed.clear()
    yield
    kappacore.plugins.unregister_cache_backend("remote")


@pytest.mark.usefixtures("_remote")
def test_a_backend_of_the_network_is_asked_when_it_is_named_with_its_options(capsys):
    where = ["--backend", "remote", "--opt", "url=there", "--opt", "port=1234"]
    code, out, err = run(capsys, "ls", *where)
    assert (code, err) == (0, "connecting\n")
    assert out.splitlines()[1].split() == ["a", "?", "4", "2.0", "KiB", "?", "?", "?", "remote"]
    assert Remote.seen == {"url": "there", "port": 1234}
    assert "size       2.0 KiB, no limit, full\n" in run(capsys, "info", *where)[1]
    assert "advice     Buy\n" in run(capsys, "info", *where)[1]
    assert run(capsys, "clear", "a", *where)[:2] == (0, "a: removed\n")
    assert Remote.removed == ["a"]
    removes = "kappacore: the storage of 'remote' removes by itself what is not kept\n"
    assert run(capsys, "gc", *where) == (0, "", removes)


@pytest.mark.usefixtures("_remote")
def test_a_backend_of_the_network_is_not_asked_unless_it_is_named(capsys):
    assert run(capsys, "ls") == (0, "", "kappacore: there are no caches\n")


@pytest.mark.usefixtures("_remote")
def test_a_backend_that_fails_says_why(capsys):
    code, out, err = run(capsys, "ls", "--backend", "remote", "--opt", "url=down")
    assert (code, out) == (1, "")
    assert "The cache backend 'remote' failed: RuntimeError: no route" in err


def refused(capsys, *arguments):
    """Run a command that is used wrongly; return what it says."""
    with pytest.raises(SystemExit) as caught:
        main(["cache", *arguments])
    captured = capsys.readouterr()
    assert (caught.value.code, captured.out) == (2, "")
    assert captured.err.startswith(f"usage: kappacore cache {arguments[0]} ")
    return captured.err


@pytest.mark.usefixtures("_remote")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "needs 'url'. Its options: url, port. Give them as --opt KEY=VALUE."),
        (["--opt", "url=x", "--opt", "prot=1"], "has no option 'prot'. Did you mean 'port'?"),
    ],
)
@pytest.mark.parametrize("command", [["ls"], ["info"], ["clear", "--all"], ["gc"]])
def test_options_that_are_missing_or_unknown_are_wrong_usage(capsys, command, options, message):
    assert message in refused(capsys, *command, "--backend", "remote", *options)


def test_a_backend_that_nobody_has_is_not_there(capsys):
    code, out, err = run(capsys, "ls", "--backend", "shard")
    assert (code, out) == (1, "")
    assert "Did you mean 'shared'?" in err


def test_an_argument_too_many_is_answered_with_the_usage_of_its_command(capsys):
    assert "kappacore cache gc: error: unrecognized arguments: words" in refused(
        capsys, "gc", "words"
    )


def test_redis_without_a_url_asks_for_it(capsys, monkeypatch):
    monkeypatch.delenv("KAPPA_REDIS_URL", raising=False)
    assert "Give its URL: --opt url=redis://" in refused(capsys, "ls", "--backend", "redis")


def test_a_backend_that_lists_nothing_says_so(capsys):
    err = refused(capsys, "ls", "--backend", "memory")
    assert "'memory' (MemoryBackend, scope 'process') does not list its namespaces" in err
    assert "Leave --backend out to see the caches of this machine" in err


def test_a_broken_backend_does_not_hide_the_others(cache, capsys):
    kappacore.register_cache_backend("broken", "no_such_module:Backend", scope="machine")
    try:
        code, out, err = run(capsys, "ls")
    finally:
        kappacore.plugins.unregister_cache_backend("broken")
    assert code == 1
    assert NAME in out
    assert err.startswith("kappacore: cache backend 'broken' of this program (no_such_module:B")


class Failing(Remote):
    scope = "machine"

    def __init__(self, namespace, length): ...

    @classmethod
    def namespaces(cls, **options):
        raise OSError("no disk")

    @classmethod
    def collect(cls, **options):
        raise OSError("no disk")


@pytest.mark.parametrize("command", ["ls", "gc"])
def test_a_backend_that_fails_does_not_hide_the_others(cache, capsys, cache_folder, command):
    (cache_folder / f"kappacore-{os.getuid()}" / "shared" / "left").mkdir(mode=0o700)
    kappacore.register_cache_backend("failing", Failing)
    try:
        code, out, err = run(capsys, command)
    finally:
        kappacore.plugins.unregister_cache_backend("failing")
    assert (code, err) == (1, "kappacore: The cache backend 'failing' failed: OSError: no disk\n")
    assert (NAME if command == "ls" else "left") in out


@pytest.mark.parametrize("option", ["path", "=x"])
def test_an_option_is_written_key_equals_value(capsys, option):
    with pytest.raises(SystemExit) as caught:
        main(["cache", "ls", "--backend", "shared", "--opt", option])
    assert caught.value.code == 2
    assert f"{option!r} is not of the form key=value" in capsys.readouterr().err


def test_options_belong_to_a_backend_that_is_named(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["cache", "ls", "--opt", "path=/x"])
    assert caught.value.code == 2
    assert "--opt needs --backend" in capsys.readouterr().err


def test_another_folder_can_be_asked(tmp_path, capsys):
    open_cache(keep=60.0, options={"max_bytes": "1MiB", "path": str(tmp_path)}).close()
    where = ["--backend", "shared", "--opt", f"path={tmp_path}"]
    (row,) = json.loads(run(capsys, "ls", "--json", *where)[1])
    assert row["where"].startswith(os.fspath(tmp_path))
    assert run(capsys, "ls")[1] == ""
    assert run(capsys, "clear", "--all", *where)[0] == 0
    assert list(tmp_path.iterdir()) == []

"""``kappacore stage`` given what it cannot use: a line and a code, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import kappacore
from kappacore.cli import main
from kappacore.errors import InvalidOptionError, StagingError
from support.staging import SMALL, make_tree, pack, run_stage, tree_of

STAGE = [sys.executable, "-m", "kappacore", "stage"]


def fails(done, *parts, code=1):
    output = done.stderr if isinstance(done.stderr, str) else os.fsdecode(done.stderr)
    assert "Traceback" not in output
    assert done.returncode == code, output
    for part in parts:
        assert part in output


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_names_that_are_not_utf8_on_a_strict_terminal(tmp_path, encoding):
    source = tmp_path / "s"
    source.mkdir()
    (source / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    target = tmp_path / os.fsdecode(b"t\xff")
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = run_stage(source, target, env=env)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "t\\udcff: copied 1 file," in done.stdout
    (target / os.fsdecode(b"caf\xe9.jpg")).unlink()
    done = run_stage("--check", target, env=env)
    fails(done, code=1)
    assert "caf\\udce9.jpg is missing" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["s", "~nosuchuser/x"], ["~nosuchuser/x", "t"]])
def test_a_home_that_nobody_has(tmp_path, arguments):
    make_tree(tmp_path / "s")
    fails(run_stage(*arguments, cwd=tmp_path), "~nosuchuser", code=2)
    fails(run_stage("--check", "~nosuchuser/x"), "~nosuchuser", code=2)


@pytest.mark.parametrize("name", ["source", "target", "relative"])
def test_a_nul_in_a_path(tmp_path, name):
    make_tree(tmp_path / "s")
    options = {"source": tmp_path / "s", "target": tmp_path / "t", name: "a\0b"}
    with pytest.raises(InvalidOptionError, match=rf"{name}='a\\x00b'"):
        kappacore.stage(**options)


def test_a_path_of_bytes_of_an_object(tmp_path):
    class BytesPath(os.PathLike):
        def __fspath__(self):
            return b"t"

    with pytest.raises(InvalidOptionError, match="is not a path"):
        kappacore.stage(make_tree(tmp_path / "s"), BytesPath())


@pytest.mark.slow
def test_a_path_that_is_too_long(tmp_path):
    make_tree(tmp_path / "s")
    for arguments in (["s", "x" * 300], ["x" * 300, "t"], ["s", "x/" * 3000], ["x/" * 3000, "t"]):
        fails(run_stage(*arguments, cwd=tmp_path))


def test_a_current_folder_that_is_gone(tmp_path, monkeypatch):
    source = make_tree(tmp_path / "s")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for call in (
        lambda: kappacore.stage(source, "t"),
        lambda: kappacore.staging.check_staged("t"),
        lambda: kappacore.copy_folder_from_global_to_local(source, "t"),
    ):
        with pytest.raises(StagingError, match=r"the current folder is gone\. Give a path"):
            call()
    assert kappacore.stage(source, tmp_path / "t").copied


@pytest.mark.parametrize("name", ["source", "target", "relative"])
def test_a_character_that_no_path_has(tmp_path, name):
    make_tree(tmp_path / "s")
    options = {"source": tmp_path / "s", "target": tmp_path / "t", name: "a\ud800"}
    with pytest.raises(InvalidOptionError, match=rf"{name}='a\\ud800' is not a path"):
        kappacore.stage(**options)


def test_paths_that_kappadatas_function_cannot_use(tmp_path):
    source = make_tree(tmp_path / "s")
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    file = make_tree(tmp_path, {"file": b""}) / "file"
    for target in (tmp_path / ("x" * 300), loop, file / "t", file):
        with pytest.raises(StagingError, match=r"cannot stage to|is a file"):
            kappacore.copy_folder_from_global_to_local(source, target)
    with pytest.raises(StagingError, match="cannot stage to"):
        kappacore.copy_folder_from_global_to_local(tmp_path / ("x" * 300), tmp_path / "t")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["folder", "zip", "tar"])
def test_1500_levels_of_folders(tmp_path, how):
    """As deep as paths may be long; Python's own recursion ends at 1000."""
    levels = 1500 if how == "folder" else 1400
    if how == "folder":
        source = tmp_path / "s"
        source.mkdir()
        inner = os.open(source, os.O_RDONLY)
        for _ in range(levels):
            os.mkdir("d", dir_fd=inner)
            inner, outer = os.open("d", os.O_RDONLY, dir_fd=inner), inner
            os.close(outer)
        os.close(os.open("1.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
        os.close(inner)
    else:
        source = pack(tmp_path / f"s.{how}", {"d/" * levels + "1.jpg": b"1"})
    fails(run_stage(source, tmp_path / "t"), "200 levels")
    target = kappacore.stage(make_tree(tmp_path / "ok"), tmp_path / "ok-t").path
    if how == "folder":
        source.rename(target / "theirs")
        assert run_stage("--check", target).returncode == 0
        subprocess.run(["rm", "-rf", target / "theirs"], check=True)


@pytest.mark.slow
def test_what_kappadata_left_is_removed_however_deep(tmp_path):
    source = make_tree(tmp_path / "s")
    target = make_tree(tmp_path / "t", {"autocopy_start.txt": b""})
    inner = target
    for _ in range(30):
        inner = inner / "/".join("d" * 49)
        inner.mkdir(parents=True)
    done = run_stage(source, target)
    assert done.returncode == 0, done.stderr
    assert tree_of(target) == SMALL


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", ">/dev/full"])
def test_output_that_cannot_be_written(tmp_path, redirect):
    make_tree(tmp_path / "s")
    command = f"{sys.executable} -m kappacore stage s t {redirect}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert tree_of(tmp_path / "t") == SMALL
    assert done.returncode == (1 if "full" in redirect else 0)


def test_empty_zip_files(tmp_path):
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    fails(run_stage(tmp_path / "empty.zip", tmp_path / "t"), "has no files")
    make_tree(tmp_path / "f", {})
    (tmp_path / "f").mkdir()
    zipfile.ZipFile(tmp_path / "f" / "train.zip", "w").close()
    pack(tmp_path / "f" / "val.zip", {"1.jpg": b"1"})
    result = kappacore.stage(tmp_path / "f", tmp_path / "u")
    assert tree_of(result.path) == {"val/1.jpg": b"1"}
    assert (result.path / "train").is_dir()


@pytest.mark.slow
def test_a_zip_file_that_is_a_part_of_several(tmp_path):
    data = bytearray(pack(tmp_path / "a.zip", {"1": b"1"}).read_bytes())
    end = data.rfind(b"PK\5\6")
    zip64 = b"PK\6\6" + (44).to_bytes(8, "little") + bytes([45, 0, 45, 0, 1]) + bytes(47)
    locator = b"PK\6\7" + (1).to_bytes(4, "little") + bytes(8) + (2).to_bytes(4, "little")
    for name, packed in (
        ("split", data[:end] + zip64 + locator + data[end:]),
        ("behind", b"#!/bin/sh\n" + data[:end] + zip64 + locator + data[end:]),
    ):
        (tmp_path / name).write_bytes(packed)
        fails(run_stage(tmp_path / name, tmp_path / "t"), name)


@pytest.mark.parametrize("offset", [(1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_offsets_beyond_the_end_of_what_is_possible(tmp_path, offset):
    data = bytearray(pack(tmp_path / "a.zip", {"1": b"1", "2": b"2"}).read_bytes())
    start, end = data.find(b"PK\1\2"), data.rfind(b"PK\5\6")
    extra = b"\1\0\x08\0" + offset.to_bytes(8, "little")
    entry = bytearray(data[start : start + 47])
    entry[30:32], entry[42:46] = (12).to_bytes(2, "little"), b"\xff" * 4
    data[end + 12 : end + 16] = (end - start + 12).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(
        data[:start] + entry + extra + data[start + 47 : end] + data[end:]
    )
    fails(run_stage(tmp_path / "a.zip", tmp_path / "t"), "a.zip")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give up its rights")
def test_a_folder_that_cannot_be_read(tmp_path):
    target = kappacore.stage(make_tree(tmp_path / "s"), tmp_path / "t").path
    (target / "train").chmod(0)
    make_tree(tmp_path / "private").chmod(0)
    drop = "-dac_override,-dac_read_search"
    for arguments in (
        ["--check", target / "train"],
        ["--check", tmp_path / "private" / "x"],
        [tmp_path / "private", tmp_path / "u"],
        [tmp_path / "private/x", tmp_path / "u"],
        [tmp_path / "s", tmp_path / "private"],
        [tmp_path / "s", tmp_path / "private/x"],
    ):
        try:
            done = subprocess.run(
                [
                    "setpriv",
                    f"--bounding-set={drop}",
                    f"--inh-caps={drop}",
                    *STAGE,
                    *map(str, arguments),
                ],
                capture_output=True,
                text=True,
            )
        except FileNotFoundError:
            pytest.skip("there is no setpriv")
        fails(done, "Permission denied")


@pytest.mark.slow
def test_wrong_usage_is_code_2(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    for options in (
        ["--workers", "0"],
        ["--workers", "1000000000"],
        ["--timeout", "-1"],
        ["--timeout", "nan"],
        ["--max-ratio", "0"],
        ["--max-ratio", "nan"],
        ["--max-bytes", "0"],
        ["--max-bytes", "many"],
        ["--max-members", "-3"],
        ["--relative", "../x"],
        ["--relative", "/etc"],
    ):
        done = run_stage(source, target, *options)
        fails(done, "usage: kappacore stage", code=2)
        assert not target.exists()
    fails(run_stage(source, ""), code=2)


def test_check_goes_with_nothing_that_it_would_ignore(tmp_path, capsys):
    target = kappacore.stage(make_tree(tmp_path / "s"), tmp_path / "t").path
    assert main(["stage", "--check", str(target)]) == 0
    for name, *value in (
        ["SRC"],
        ["--recheck"],
        ["--similar-names"],
        ["--verify", "size"],
        ["--timeout", "0"],
        ["--exclude", "*.tmp"],
        ["--max-ratio", "5"],
        ["--max-bytes", "5"],
        ["--max-members", "5"],
    ):
        with pytest.raises(SystemExit) as end:
            main(["stage", "--check", name, *value, str(target)])
        assert end.value.code == 2
        assert f"{name} does not go with --check" in capsys.readouterr().err


@pytest.mark.slow
def test_sizes_may_have_units(tmp_path):
    source, target = pack(tmp_path / "a.zip"), tmp_path / "t"
    fails(run_stage(source, target, "--max-bytes", "1KiB"), "more than 1024")
    assert run_stage(source, target, "--max-bytes", "64GiB").returncode == 0
    limits = kappacore.staging.ArchiveLimits(max_bytes="1KiB")
    with pytest.raises(StagingError, match="more than 1024"):
        kappacore.stage(source, tmp_path / "u", limits=limits)


def test_ctrl_c_at_any_moment_is_code_130(tmp_path):
    """Also while a copy is checked, and while Python still imports."""
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target, verify="hash")
    script = (
        "import os, signal, sys\n"
        "moment = sys.argv.pop(1)\n"
        "def hook(event, args):\n"
        "    if event in ('open', 'import') and str(args[0]).endswith(moment):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.addaudithook(hook)\n"
        "from kappacore.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    for moment in ("1.jpg", "kappacore.staging.target.check"):
        call = [sys.executable, "-c", script, moment, "stage", "--check", str(target)]
        done = subprocess.run(call, capture_output=True, text=True)
        fails(done, code=130)


def test_messages_that_nobody_can_read_stop_no_copy(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*STAGE, source, target], stdout=subprocess.PIPE, stderr=full)
    assert done.returncode == 0
    assert tree_of(target) == SMALL


def test_a_manifest_that_is_nested_too_deep(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    target.mkdir()
    (target / ".kappacore-manifest").write_bytes(b"[" * 100_000 + b"\n")
    done = run_stage(source, target)
    assert done.returncode == 0, done.stderr
    fails(run_stage("--check", target, "--relative", "../s"), "leads out of the dataset", code=2)

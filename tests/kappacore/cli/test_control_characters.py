"""Names of files with control characters: a terminal gets them escaped, whatever shows them."""

from __future__ import annotations

import logging
import tarfile
import time

import pytest

import kappacore
from kappacore import _progress
from kappacore._printable import printable
from kappacore.cli import main
from support.staging import SMALL, make_tree, pack

EVIL = "e\x1b[31mvil\r\nkappacore: all is well\x9b2J\u202e\udcff.jpg"
SAFE = r"e\x1b[31mvil\r\nkappacore: all is well\x9b2J\u202e\udcff.jpg"


def shown(capfd):
    """Return what the terminal got, in which nothing acts."""
    captured = capfd.readouterr()
    text = captured.out + captured.err
    assert printable(text, lines=True) == text
    assert "\nkappacore: all is well" not in text
    return text


def test_printable_leaves_everything_else():
    assert printable(EVIL) == SAFE
    assert printable("café 👩‍👩‍👧 日本語 \\x1b\t") == "café 👩‍👩‍👧 日本語 \\x1b\\t"
    assert printable("a\nb\x1b", lines=True) == "a\nb\\x1b"


def test_a_copy_and_its_check(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(_progress, "SAY_AFTER", 0.0)
    source, target = make_tree(tmp_path / EVIL, {**SMALL, EVIL: b"x"}), tmp_path / "t" / EVIL
    assert main(["stage", str(source), str(target)]) == 0
    text = shown(capfd)
    assert f"copying '{tmp_path}/{SAFE}' to '{tmp_path}/t/{SAFE}'" in text
    assert f"{tmp_path}/t/{SAFE}: copied 6 files" in text
    assert main(["stage", str(source), str(target)]) == 0
    assert f"{SAFE}: nothing to copy" in shown(capfd)
    (target / EVIL).rename(target / f"{EVIL}2")
    assert main(["stage", "--check", str(target)]) == 1
    text = shown(capfd)
    assert f"{tmp_path}/t/{SAFE}/{SAFE} is missing\n" in text
    assert f"e.g. '{SAFE}2'" in text
    assert main(["stage", str(source), str(target), "--recheck"]) == 0
    assert f"{tmp_path}/t/{SAFE}: copied 1 file," in shown(capfd)


def test_errors(tmp_path, capfd, caplog):
    make_tree(tmp_path / "s", {"1": b"1"})
    (tmp_path / "s" / EVIL).symlink_to("nowhere")
    pack(tmp_path / "a.zip", {"1": b"1", f"../{EVIL.encode('utf-8', 'replace').decode()}": b"2"})
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo(EVIL)
        member.type, member.linkname = tarfile.SYMTYPE, "nowhere"
        tar.addfile(member)
    (tmp_path / f"{EVIL}.zip").write_bytes(b"PK\3\4 no more")
    for source in ("s", "a.zip", "a.tar", f"{EVIL}.zip", f"no{EVIL}"):
        assert main(["stage", str(tmp_path / source), str(tmp_path / "t")]) == 1
        assert r"e\x1b[31mvil" in shown(capfd)
        with caplog.at_level(logging.DEBUG), pytest.raises(kappacore.KappaError) as error:
            kappacore.stage(tmp_path / source, tmp_path / "t")
        assert printable(str(error.value)) == str(error.value)
    assert printable(caplog.text, lines=True) == caplog.text
    make_tree(tmp_path, {f"{EVIL}/file": b""})
    for target in (EVIL, f"{EVIL}/file"):
        assert main(["stage", "--check", str(tmp_path / target)]) == 1
        assert SAFE in shown(capfd)


@pytest.mark.parametrize(
    "arguments",
    [
        ["stage", "s", "t", EVIL],
        ["stage", "s", "t", "--workers", EVIL],
        ["stage", "s", "t", "--max-bytes", EVIL],
        ["stage", "s", "t", "--exclude", "../" + EVIL],
        ["stage", "s", "~" + EVIL.replace("/", "")],
        ["stage", "s", "t", "--relative", "../" + EVIL],
        [EVIL],
    ],
)
def test_wrong_usage(arguments, capfd):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert r"e\x1b[31mvil" in shown(capfd)


def test_progress(capfd, monkeypatch):
    monkeypatch.setattr(_progress, "SAY_AFTER", 0.0)
    with _progress.progress_bar(f"Staging {EVIL}", 5):
        time.sleep(0.05)
    assert f"Staging {SAFE}" in shown(capfd)


def test_caches_and_plugins(tmp_path, capfd):
    for command in (["cache", "info", EVIL], ["plugins", EVIL]):
        assert main(command) == 1
        assert r"e\x1b[31mvil" in shown(capfd)

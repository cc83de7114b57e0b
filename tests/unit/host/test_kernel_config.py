# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's configuration and module lists, complete and broken."""

from __future__ import annotations

import gzip
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.host import kernel_config
from linuxnet_sockets.host.kernel_config import (
    OPTIONS,
    KernelConfig,
    module_available,
    read_config,
)

RELEASE = "6.12.48+deb13-amd64"
TEXT = """#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_INET_DIAG=m
CONFIG_INET_TCP_DIAG=y
# CONFIG_INET_RAW_DIAG is not set
CONFIG_INET_DIAG_DESTROY=y
CONFIG_INET_UDP_DIAG_OF_ANOTHER_KIND=y
CONFIG_DEFAULT_HOSTNAME="(none)"
"""
PARSED = {
    "CONFIG_INET_DIAG": "m",
    "CONFIG_INET_TCP_DIAG": "y",
    "CONFIG_INET_UDP_DIAG": None,
    "CONFIG_INET_RAW_DIAG": "n",
    "CONFIG_INET_MPTCP_DIAG": None,
    "CONFIG_INET_DIAG_DESTROY": "y",
}
NOTHING = KernelConfig(None, dict.fromkeys(OPTIONS))
_PLACES = ("proc/config.gz", f"boot/config-{RELEASE}", f"lib/modules/{RELEASE}/config")


def _read(base: Path) -> KernelConfig:
    return read_config(str(base / "proc"), str(base), RELEASE)


def _write(base: Path, place: str, content: bytes) -> str:
    path = base / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("place", [*_PLACES, f"usr/lib/modules/{RELEASE}/config"])
def test_config_is_read_from_each_source(tmp_path: Path, place: str) -> None:
    text = TEXT.encode()
    source = _write(tmp_path, place, gzip.compress(text) if place.endswith(".gz") else text)
    assert _read(tmp_path) == KernelConfig(source, PARSED)


def test_config_gz_takes_precedence(tmp_path: Path) -> None:
    for place in _PLACES[1:]:
        _write(tmp_path, place, b"CONFIG_INET_DIAG=n\n")
    source = _write(tmp_path, _PLACES[0], gzip.compress(TEXT.encode()))
    assert _read(tmp_path) == KernelConfig(source, PARSED)


_WHOLE = gzip.compress(TEXT.encode() * 100)
BROKEN = {
    "empty": b"",
    "not gzip": TEXT.encode(),
    "cut": _WHOLE[: len(_WHOLE) // 2],
    "header alone": _WHOLE[:10],
    "bad checksum": _WHOLE[:-8] + bytes(8),
    "bad data": _WHOLE[:40] + b"\xff" * 40 + _WHOLE[80:],
    "nothing in it": gzip.compress(b""),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_source_is_skipped(tmp_path: Path, content: bytes) -> None:
    _write(tmp_path, "proc/config.gz", content)
    assert _read(tmp_path) == NOTHING
    source = _write(tmp_path, _PLACES[1], TEXT.encode())
    assert _read(tmp_path) == KernelConfig(source, PARSED)


def test_huge_source_is_read_partially(tmp_path: Path) -> None:
    """A gigabyte that compresses to a megabyte."""
    text = TEXT.encode()
    with gzip.open(tmp_path / "bomb.gz", "wb", compresslevel=1) as stream:
        stream.write(text)
        block = bytes(1 << 20)
        for _each in range(64):
            stream.write(block)
    member = gzip.compress(bytes(1 << 26), compresslevel=1)
    content = (tmp_path / "bomb.gz").read_bytes() + member * 15
    source = _write(tmp_path, "proc/config.gz", content)
    began = time.perf_counter()
    assert _read(tmp_path) == KernelConfig(source, PARSED)
    assert time.perf_counter() - began < 2


def test_missing_file_or_directory_is_no_source(tmp_path: Path) -> None:
    assert _read(tmp_path) == NOTHING
    for place in _PLACES:
        (tmp_path / place).mkdir(parents=True)
    assert _read(tmp_path) == NOTHING


_LINES = st.one_of(
    st.binary(),
    st.sampled_from([line.encode() + b"\n" for line in TEXT.splitlines()]),
    st.builds(
        lambda name, value: f"{name}={value}\n".encode(), st.sampled_from(OPTIONS), st.text()
    ),
)


@given(content=st.lists(_LINES).map(b"".join), place=st.sampled_from(_PLACES), packed=st.booleans())
def test_any_bytes_parse(content: bytes, place: str, packed: bool) -> None:
    with tempfile.TemporaryDirectory() as base:
        source = _write(Path(base), place, gzip.compress(content) if packed else content)
        found = _read(Path(base))
    assert found.source in (None, source)
    assert tuple(found.options) == OPTIONS
    assert set(found.options.values()) <= {"y", "m", "n", None}
    if found.source is None:
        assert found == NOTHING


@given(values=st.fixed_dictionaries({name: st.sampled_from("ymn-") for name in OPTIONS}))
def test_parse_options(values: dict[str, str]) -> None:
    lines = {"n": "# {} is not set\n", "-": ""}
    text = "".join(
        lines.get(value, "{}=" + value + "\n").format(name) for name, value in values.items()
    )
    assert kernel_config.parse(text) == {
        name: None if value == "-" else value for name, value in values.items()
    }


@pytest.mark.parametrize("listing", ["modules.dep", "modules.builtin"])
@pytest.mark.parametrize("ending", ["ko", "ko.xz", "ko.zst", "ko.gz"])
@pytest.mark.parametrize("prefix", ["lib", "usr/lib"])
def test_listed_module_is_available(tmp_path: Path, listing: str, ending: str, prefix: str) -> None:
    after = ": kernel/net/ipv4/inet_diag.ko\n" if listing == "modules.dep" else "\n"
    line = f"kernel/net/ipv4/raw_diag.{ending}{after}"
    _write(tmp_path, f"{prefix}/modules/{RELEASE}/{listing}", line.encode())
    assert module_available(str(tmp_path), RELEASE, "raw_diag") is True
    assert module_available(str(tmp_path), RELEASE, "inet_diag") is False
    assert module_available(str(tmp_path), RELEASE, "w_diag") is False


def test_availability_is_unknown_without_lists(tmp_path: Path) -> None:
    assert module_available(str(tmp_path), RELEASE, "raw_diag") is None
    _write(tmp_path, f"lib/modules/{RELEASE}/modules.dep", b"\xff\xfe")
    assert module_available(str(tmp_path), RELEASE, "raw_diag") is None

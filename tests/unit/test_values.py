# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The grammar of values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets import values
from linuxnet_sockets.errors import InputError
from tests.support.sample_sockets import SampleNames

PATH = ("settle",)

_NEVER = [None, True, False, [], {}, "", "  ", "x", "-1", "1 2", "٣", "1_000", "1e3", b"1"]


@pytest.mark.parametrize(
    ("written", "microseconds"),
    [
        (5, 5_000_000),
        ("5", 5_000_000),
        (0, 0),
        ("90s", 90_000_000),
        ("1500ms", 1_500_000),
        ("1500 ms", 1_500_000),
        (" 5m ", 300_000_000),
        ("2H", 7_200_000_000),
        ("1d", 86_400_000_000),
        ("0.5ms", 500),
        ("1.5s", 1_500_000),
        (0.25, 250_000),
        (0.00001, 10),
        (-0.0, 0),
        ("7us", 7),
        ("1 week", 604_800_000_000),
        ("1h30m", 5_400_000_000),
        ("1hr 1min 1sec 1msec 1usec", 3_661_001_001),
    ],
)
def test_durations(written: object, microseconds: int) -> None:
    assert values.parse_duration_us(written, PATH) == microseconds


@pytest.mark.parametrize(
    "written",
    [
        *_NEVER,
        float("nan"),
        float("inf"),
        -1,
        -0.5,
        "1 month",
        "1h30",
        "5m s",
        "0.5us",
        "3651d",
        10**30,
        "9" * 5000,
    ],
)
def test_invalid_durations(written: object) -> None:
    with pytest.raises(InputError) as caught:
        values.parse_duration_us(written, PATH)
    assert caught.value.path == PATH
    assert caught.value.value is written
    assert caught.value.allowed == values.DURATION


def test_duration_ms_bounds() -> None:
    assert values.parse_duration_ms("1.5s", PATH, low_ms=1, high_ms=1500) == 1500
    for written in ("0", "1501ms", "1.5ms", "1us"):
        with pytest.raises(InputError):
            values.parse_duration_ms(written, PATH, low_ms=1, high_ms=1500)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (0, 0),
        ("17", 17),
        ("1k", 1024),
        ("1K", 1024),
        ("1.5M", 3 * 2**19),
        ("2 KiB", 2048),
        ("7 bytes", 7),
        ("2G", 2**31),
    ],
)
def test_sizes(written: object, size: int) -> None:
    assert values.parse_size(written, PATH) == size


@pytest.mark.parametrize("written", [*_NEVER, "1kb", "0.5", -1, 2**63, float("nan")])
def test_invalid_sizes(written: object) -> None:
    with pytest.raises(InputError):
        values.parse_size(written, PATH)


@given(st.integers(0, 2**63 - 1))
def test_integer_from_string(number: int) -> None:
    assert values.integer(str(number), PATH) == values.integer(number, PATH) == number


@given(st.integers(0, 2**53))
def test_integer_from_whole_float(number: int) -> None:
    """A division in a template gives 8.0 for 8. In JSON Schema both are integers."""
    assert values.integer(float(number), PATH) == number
    assert isinstance(values.integer(float(number), PATH), int)
    assert values.parse_size(float(number), PATH) == number


@pytest.mark.parametrize(
    "written",
    [*_NEVER, 1.5, -1.0, 2.0**63, "1.0", "0x10", "9" * 5000, 1e300, float("inf"), float("nan")],
)
def test_invalid_integers(written: object) -> None:
    with pytest.raises(InputError):
        values.integer(written, PATH)


@pytest.mark.parametrize(
    ("written", "rate"),
    [(100, 100.0), ("100/s", 100.0), ("600/m", 10.0), ("600/min", 10.0), ("7200 / h", 2.0)],
)
def test_rates(written: object, rate: float) -> None:
    assert values.parse_rate(written, PATH) == rate


@pytest.mark.parametrize("written", [*_NEVER, 0, "0/s", "5/d", "5/", "/s", 1.5])
def test_invalid_rates(written: object) -> None:
    with pytest.raises(InputError):
        values.parse_rate(written, PATH)


@pytest.mark.parametrize(("written", "share"), [("25%", 0.25), ("0 %", 0.0), ("7", 7), (7, 7)])
def test_shares(written: object, share: float) -> None:
    assert values.parse_share(written, PATH) == share
    assert type(values.parse_share(written, PATH)) is type(share)


@pytest.mark.parametrize("written", [*_NEVER, "101%", "%", "-5%", 0.5])
def test_invalid_shares(written: object) -> None:
    with pytest.raises(InputError):
        values.parse_share(written, PATH)


class TwoMeanings(SampleNames):
    """A resolver with a service that has different ports for TCP and UDP."""

    def service_port(self, name: str, protocol: str) -> int | None:
        return {"tcp": 512, "udp": 513}[protocol] if name == "both" else None


def test_ports() -> None:
    assert values.parse_port(443, PATH, SampleNames()) == 443
    assert values.parse_port("443", PATH, SampleNames()) == 443
    assert values.parse_port("domain", PATH, SampleNames()) == 53
    wrong: list[Any] = [*_NEVER, 70000, "65536", -1, 80.5]
    for written in wrong:
        with pytest.raises(InputError):
            values.parse_port(written, PATH, SampleNames())
    with pytest.raises(InputError) as caught:
        values.parse_port("both", PATH, TwoMeanings())
    assert {"TCP", "UDP"} <= set(caught.value.problem.split())


@pytest.mark.parametrize("written", ["tcp", "TCP", " Tcp "])
def test_choice_ignores_case(written: str) -> None:
    assert values.choice(written, PATH, ["tcp", "bucket"], "word") == "tcp"


def test_choice_rejects_kelvin_sign() -> None:
    sign = "\N{KELVIN SIGN}"
    assert sign.lower() == "k"
    with pytest.raises(InputError, match=r"\bbucket\b"):
        values.choice(f"buc{sign}et", PATH, ["bucket"], "word")

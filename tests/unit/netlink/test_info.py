# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""struct tcp_info in all lengths that kernels send."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.netlink import info
from tests.support.fake_kernel.records import INFO_FIELDS, encode_info

_LIMITS = {"B": 0xFF, "H": 0xFFFF, "I": 0xFFFFFFFF, "Q": 0xFFFFFFFFFFFFFFFF}
_PLAIN = {name: code for name, code in INFO_FIELDS if name != "wscale"}
_SIZE = 248


@st.composite
def _infos(draw: st.DrawFn) -> dict[str, int]:
    names = draw(st.sets(st.sampled_from(sorted(_PLAIN)), max_size=12))
    fields = {name: draw(st.integers(0, _LIMITS[_PLAIN[name]])) for name in sorted(names)}
    fields.pop("delivery_rate_app_limited", None)
    fields["snd_wscale"] = draw(st.integers(0, 15))
    fields["rcv_wscale"] = draw(st.integers(0, 15))
    return fields


@given(_infos())
def test_tcp_info_field_offsets(fields: dict[str, int]) -> None:
    decoded = info.decode_tcp_info(encode_info(fields, _SIZE))
    assert {name: decoded[name] for name in fields} == fields
    assert not any(value for name, value in decoded.items() if name not in fields)


def test_tcp_info_bit_fields() -> None:
    decoded = info.decode_tcp_info(encode_info({"delivery_rate_app_limited": 0b101}, _SIZE))
    assert decoded["delivery_rate_app_limited"] == 1
    assert decoded["fastopen_client_fail"] == 2


@given(_infos(), st.integers(0, _SIZE))
def test_short_tcp_info_has_complete_fields(fields: dict[str, int], size: int) -> None:
    raw = encode_info(fields, _SIZE)
    whole, cut = info.decode_tcp_info(raw), info.decode_tcp_info(raw[:size])
    assert cut == {name: whole[name] for name in cut}
    assert len(cut) <= len(whole)
    if size >= 8:
        assert cut["snd_wscale"] == fields["snd_wscale"]


def test_tcp_info_of_known_kernels() -> None:
    """Linux 2.6 (104), 4.9 (192), 5.4 (232), 6.8 (248)."""
    expected = {104: "total_retrans", 192: "sndbuf_limited", 232: "snd_wnd", 248: "total_rto_time"}
    raw = bytes(_SIZE)
    for size, last in expected.items():
        assert last in info.decode_tcp_info(raw[:size])
        assert last not in info.decode_tcp_info(raw[: size - 1])


@given(st.binary(max_size=400))
def test_any_bytes_decode(raw: bytes) -> None:
    """Unknown fields at the end are ignored."""
    decoded = info.decode_tcp_info(raw)
    assert all(0 <= value <= _LIMITS["Q"] for value in decoded.values())
    assert info.decode_tcp_info(raw + b"\xff" * 40) | decoded == info.decode_tcp_info(
        raw + b"\xff" * 40
    )

/* Copyright: linuxnet.sockets contributors
   GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
   SPDX-License-Identifier: GPL-3.0-or-later

   The search field: words, technical names such as close_wait or CLOSE-WAIT, addresses and
   prefixes. A row matches if it contains all words. */

/** The number and the width in bits of an IPv4 or IPv6 address; null for other text. */
const parseAddress = (text) => {
  const octets = text.split(".");
  if (/^[\d.]+$/.test(text)) {
    if (octets.length !== 4 || octets.some((octet) => octet === "" || octet > 255)) return null;
    return { bits: 32, value: octets.reduce((sum, octet) => (sum << 8n) | BigInt(octet), 0n) };
  }
  if (!/^[\da-f:]+(:[\d.]+)?$/i.test(text) || !text.includes(":")) return null;
  let written = text;
  const last = text.slice(text.lastIndexOf(":") + 1);
  if (last.includes(".")) {
    const inside = parseAddress(last);
    if (!inside) return null;
    const low = [inside.value >> 16n, inside.value & 0xffffn].map((part) => part.toString(16));
    written = text.slice(0, -last.length) + low.join(":");
  }
  const halves = written.split("::");
  if (halves.length > 2) return null;
  const [head, tail] = halves.map((half) => (half ? half.split(":") : []));
  const missing = 8 - head.length - (tail ? tail.length : 0);
  if (tail ? missing < 1 : missing !== 0) return null;
  const parts = [...head, ...Array(tail ? missing : 0).fill("0"), ...(tail || [])];
  if (parts.some((part) => !/^[\da-f]{1,4}$/i.test(part))) return null;
  return { bits: 128, value: parts.reduce((sum, part) => (sum << 16n) | BigInt(`0x${part}`), 0n) };
};

/** Whether an address lies in a prefix; both as parseAddress() returns them. */
const isInside = (address, prefix, length) =>
  address.bits === prefix.bits &&
  address.value >> BigInt(prefix.bits - length) === prefix.value >> BigInt(prefix.bits - length);

/** One spelling for close_wait, CLOSE-WAIT and CLOSE_WAIT, and for FIN_WAIT1 and fin-wait-1. */
const spelling = (text) => text.toLowerCase().replace(/[-_](?=\d)/g, "").replace(/-/g, "_");

/** address:port, as the table shows it. */
const endpointText = (address, port) =>
  `${address?.includes(":") ? `[${address}]` : address}${port === null ? "" : `:${port || "*"}`}`;

/** What the search looks at in a row: its text in one spelling, and its addresses. */
const searchable = (row, verdicts) => ({
  text: spelling(
    [
      row.host, row.namespace, ...row.verdicts, ...row.verdicts.map((name) => verdicts[name].title),
      row.protocol, row.state, row.program, row.process, row.user, row.cookie,
      endpointText(row.local, row.local_port), endpointText(row.remote, row.remote_port),
    ].join(" "),
  ),
  addresses: [row.local ?? "", row.remote ?? ""].map((text) => text.split("%")[0].toLowerCase()),
});

/** A test of one word of the search. */
const wordTest = (word) => {
  const [start, length, ...rest] = word.split("/");
  const prefix = rest.length || !/^\d+$/.test(length ?? "") ? null : parseAddress(start);
  if (prefix && Number(length) <= prefix.bits) {
    return ({ addresses }) =>
      addresses.some((text) => {
        const address = parseAddress(text);
        return address !== null && isInside(address, prefix, Number(length));
      });
  }
  const lower = word.toLowerCase();
  if (parseAddress(lower)) {
    const wanted = parseAddress(lower);
    return ({ addresses }) =>
      addresses.some((text) => {
        const address = parseAddress(text);
        return address !== null && isInside(address, wanted, wanted.bits);
      });
  }
  // The start of an address: 10.0. or 2001:db8:
  if (/^\d{1,3}\.([\d.]*)$/.test(lower) || /^[\da-f]{1,4}:[\da-f:]*$/.test(lower)) {
    return ({ addresses }) => addresses.some((text) => text.startsWith(lower));
  }
  const wanted = spelling(word);
  // A number matches from its first digit, so that 443 does not find port 10443; :443 is a port.
  if (/^:?\d+$/.test(wanted)) {
    const pattern = new RegExp(wanted.startsWith(":") ? `${wanted}(?!\\d)` : `(?<!\\d)${wanted}`);
    return ({ text }) => pattern.test(text);
  }
  return ({ text }) => text.includes(wanted);
};

/** A test of all words. */
const searchTest = (words) => {
  const tests = words.split(/\s+/).filter(Boolean).map(wordTest);
  return (entry) => tests.every((test) => test(entry));
};

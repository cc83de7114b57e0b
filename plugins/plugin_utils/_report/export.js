/* Copyright: linuxnet.sockets contributors
   GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
   SPDX-License-Identifier: GPL-3.0-or-later

   Copy and export the connections that the filter shows. */

/** Text of a cell: lists as words, null as nothing. */
const cellText = (value) => (Array.isArray(value) ? value.join(" ") : String(value ?? ""));

/** CSV of RFC 4180. A leading = + - @ gets an apostrophe, so that no spreadsheet evaluates it. */
const csvText = (columns, rows) => {
  const field = (value) => {
    const text = cellText(value);
    const harmless = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
  };
  return [columns, ...rows.map((row) => columns.map((name) => row[name]))]
    .map((line) => `${line.map(field).join(",")}\r\n`)
    .join("");
};

/** The same as text with tabs, which spreadsheets and mails take. */
const tabText = (columns, rows) =>
  [columns, ...rows.map((row) => columns.map((name) => row[name]))]
    .map((line) => line.map((value) => cellText(value).replace(/\s+/g, " ")).join("\t"))
    .join("\n");

const saveFile = (name, type, text) => {
  const url = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
};

/** Copy text. Resolves to whether it worked: pages without HTTPS have no clipboard object. */
const copyText = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element("textarea", { className: "visually-hidden", value: text });
    document.body.append(area);
    const focused = document.activeElement;
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return copied;
  }
};

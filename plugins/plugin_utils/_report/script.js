/* Copyright: linuxnet.sockets contributors
   GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
   SPDX-License-Identifier: GPL-3.0-or-later

   Sort and filter the table of connections. The page is complete without this script. */
(() => {
  "use strict";
  const table = document.getElementById("table");
  if (!table) return;
  const body = table.tBodies[0];
  const controls = document.getElementById("controls");
  const field = (id) => document.getElementById(id);
  const rows = [...body.rows].map((row) => ({
    row,
    host: row.dataset.host,
    verdicts: row.dataset.verdicts.split(" "),
    text: row.textContent.toLowerCase(),
  }));
  const count = field("count");

  const filter = () => {
    const verdict = field("verdict").value;
    const host = field("host") ? field("host").value : "";
    const words = field("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of rows) {
      const matches =
        (!verdict || entry.verdicts.includes(verdict)) &&
        (!host || entry.host === host) &&
        words.every((word) => entry.text.includes(word));
      entry.row.hidden = !matches;
      shown += matches;
    }
    count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} shown`;
  };

  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const headers = [...table.tHead.rows[0].cells];
  const sort = (header, index) => {
    const numbers = header.dataset.sort === "number";
    const current = header.getAttribute("aria-sort");
    const first = numbers ? "descending" : "ascending";
    const second = numbers ? "ascending" : "descending";
    const order = current === first ? second : first;
    const sign = order === "ascending" ? 1 : -1;
    const key = ({ row }) =>
      numbers ? Number(row.cells[index].dataset.number ?? NaN) : row.cells[index].textContent;
    const keyed = rows.map((entry) => [key(entry), entry]);
    keyed.sort(([a], [b]) => {
      if (!numbers) return sign * compare(a, b);
      // Unknown values come last in both orders.
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (a - b);
    });
    for (const other of headers) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    body.append(...keyed.map(([, entry]) => entry.row));
  };

  headers.forEach((header, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => sort(header, index));
    header.replaceChildren(button);
  });
  controls.hidden = false;
  controls.addEventListener("input", filter);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("reset", () => setTimeout(filter));
  for (const link of document.querySelectorAll("a[data-host]")) {
    link.addEventListener("click", () => {
      const host = field("host");
      if (!host) return;
      controls.reset();
      host.value = link.dataset.host;
      filter();
    });
  }
})();

/* Copyright: linuxnet.sockets contributors
   GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
   SPDX-License-Identifier: GPL-3.0-or-later

   Sorts and filters the table of connections. The page says all that it has to say without it. */
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
    for (const each of rows) {
      const fits =
        (!verdict || each.verdicts.includes(verdict)) &&
        (!host || each.host === host) &&
        words.every((word) => each.text.includes(word));
      each.row.hidden = !fits;
      shown += fits;
    }
    count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} shown`;
  };

  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const headers = [...table.tHead.rows[0].cells];
  const sort = (header, index) => {
    const numbers = header.dataset.sort === "number";
    const before = header.getAttribute("aria-sort");
    const first = numbers ? "descending" : "ascending";
    const other = numbers ? "ascending" : "descending";
    const order = before === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const key = ({ row }) =>
      numbers ? Number(row.cells[index].dataset.number ?? NaN) : row.cells[index].textContent;
    const keyed = rows.map((each) => [key(each), each]);
    keyed.sort(([one], [two]) => {
      if (!numbers) return sign * compare(one, two);
      // What is not known comes last, whichever way.
      if (Number.isNaN(one) || Number.isNaN(two)) return Number.isNaN(one) - Number.isNaN(two);
      return sign * (one - two);
    });
    for (const each of headers) each.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    body.append(...keyed.map(([, each]) => each.row));
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

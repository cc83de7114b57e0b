/* Copyright: linuxnet.sockets contributors
   GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
   SPDX-License-Identifier: GPL-3.0-or-later

   Compare the page with the JSON document of an earlier report, as compare.py does. */

// Together they identify a connection.
const IDENTITY = [
  "host", "namespace", "protocol", "local", "local_port", "remote", "remote_port", "cookie",
];
const identity = (finding) => JSON.stringify(IDENTITY.map((key) => finding[key] ?? null));

/** Text of a file without characters that nobody sees or that change the direction of writing. */
const visible = (text) =>
  String(text).slice(0, 300).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (found) =>
    `\\u${found.codePointAt(0).toString(16).padStart(4, "0")}`);

/** JSON with sorted keys, to compare two values. */
const canonical = (value) =>
  JSON.stringify(value, (_key, part) =>
    part && typeof part === "object" && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );

/** An earlier report from its JSON. Throws an Error that says what is wrong. */
const parseReport = (text, version) => {
  const expected = `expected the JSON document of an earlier report, of version ${version}`;
  let report;
  try {
    report = JSON.parse(text);
  } catch {
    throw new Error(`not valid JSON; ${expected}`);
  }
  const lists = [report?.findings, report?.hosts];
  if (!lists.every((list) => Array.isArray(list) && list.every((part) => part && typeof part === "object"))) {
    throw new Error(`no report of stuck connections; ${expected}`);
  }
  if (report.version !== version) throw new Error(`a report of version ${report.version}; ${expected}`);
  return report;
};

/** Hosts that answered and whose list is not truncated. */
const checkedHosts = (hosts) =>
  new Set(hosts.filter((host) => host.status === "answered" && host.found === host.listed).map((host) => host.name));

/** Set `change` of each row. Returns { time, gone, counts, sameSelection }. */
const compareRows = (rows, data, earlier) => {
  const before = new Map(earlier.findings.map((finding) => [identity(finding), finding]));
  const checkedBefore = checkedHosts(earlier.hosts);
  const counts = { new: 0, still: 0, unknown: 0 };
  for (const row of rows) {
    const known = before.delete(identity(row));
    row.change = known ? "still" : checkedBefore.has(row.host) ? "new" : "unknown";
    counts[row.change] += 1;
  }
  const checkedNow = new Set(data.checked_hosts);
  const gone = [...before.values()].filter((finding) => checkedNow.has(finding.host));
  counts.unknown += before.size - gone.length;
  return {
    time: visible(earlier.time ?? "an unknown time").replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)Z$/, "$1 $2 UTC"),
    gone,
    counts,
    sameSelection: canonical(earlier.selection ?? null) === canonical(data.selection),
  };
};

/** The result in sentences. */
const comparisonText = ({ time, gone, counts, sameSelection }) => [
  `Compared with the report of ${time}: ${counts.new} new, ${counts.still} still there, ${gone.length} gone.`,
  ...(counts.unknown ? [`${counts.unknown} could not be compared: one report has no complete list of the host.`] : []),
  ...(sameSelection ? [] : ["The earlier report selected connections by other variables."]),
].join(" ");

/** Show which rows are new, and what is gone. */
const showComparison = (rows, units, compared, verdicts) => {
  for (const old of document.querySelectorAll(".badge.new")) old.remove();
  const badge = (entry, text) =>
    entry.element.cells[1].append(" ", element("span", { className: "badge new", textContent: text }));
  for (const row of rows) {
    if (row.element.querySelector(".badge.new")) row.element.querySelector(".badge.new").remove();
    if (row.change === "new") badge(row, "new");
  }
  for (const unit of units.filter(({ element: made }) => made)) {
    unit.element.querySelector(".badge.new")?.remove();
    const count = unit.members.filter((row) => row.change === "new").length;
    if (count) badge(unit, `${count} new`);
  }
  const line = (finding) =>
    element("li", {},
      element("b", { textContent: visible(finding.host) }), " ",
      element("span", { textContent: verdicts[finding.leading]?.title ?? visible(finding.leading) }), " ",
      element("code", { textContent: visible(endpointText(String(finding.local), finding.local_port ?? null)) }), " ",
      element("code", { textContent: `→ ${visible(endpointText(String(finding.remote), finding.remote_port ?? null))}` }));
  const result = byId("compared");
  const text = comparisonText(compared);
  const list = element("ul", { className: "gone" }, ...compared.gone.slice(0, 200).map(line));
  const more = compared.gone.length - 200;
  result.replaceChildren(
    element("p", { textContent: text }),
    ...(compared.gone.length
      ? [element("details", {},
          element("summary", { textContent: `${compared.gone.length} no longer there` }), list,
          ...(more > 0 ? [element("p", { className: "dim", textContent: `and ${more} more` })] : []))]
      : []),
  );
  result.hidden = false;
};

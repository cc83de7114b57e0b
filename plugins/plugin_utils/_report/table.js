/* Copyright: linuxnet.sockets contributors
   GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
   SPDX-License-Identifier: GPL-3.0-or-later

   The table of connections: filters, order, groups and pages. Their state is in the fragment of the
   address, so that a link shows the same rows. The page is complete without this script. */

const DEFAULTS = {
  find: "", verdict: "", host: "", change: "", peer: "", program: "", age: "",
  sort: "", group: "1", page: "1", size: matchMedia("(max-width: 60rem)").matches ? "25" : "50",
};
// Filters that have no field in the bar, and their names.
const CHOSEN = { peer: "peer", program: "program", age: "duration" };
const NUMERIC = ["age", "queued"];

const byId = (id) => document.getElementById(id);

const showTable = () => {
  const table = byId("table");
  const data = JSON.parse(byId("data").textContent);
  const rows = readRows(table, data);
  const units = readGroups(rows, data);
  const body = table.tBodies[0];
  const bar = byId("bar");
  const headers = [...table.tHead.rows[0].cells];
  let state = { ...DEFAULTS };
  let shown = [];

  const fields = ["find", "verdict", "host", "change"].filter(byId);

  const readState = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    // A link to a part of the page is no state.
    if (location.hash && !location.hash.includes("=")) return false;
    state = { ...DEFAULTS };
    for (const key of Object.keys(DEFAULTS)) if (given.has(key)) state[key] = given.get(key);
    return true;
  };

  const hashOf = (wanted) => {
    const changed = Object.entries(wanted).filter(([key, value]) => value !== DEFAULTS[key]);
    return `#${new URLSearchParams(changed)}`;
  };

  const setState = (changes) => {
    state = { ...state, page: "1", ...changes };
    history.replaceState(null, "", hashOf(state));
    show();
    // Under a bar that sticks, the new rows start at the top.
    const { top } = byId("results").getBoundingClientRect();
    if (top < 0) scrollBy({ top: Math.ceil(top) + 1, behavior: "instant" });
  };

  const matching = () => {
    const search = searchTest(state.find);
    const [low, high] = state.age.split("-");
    const inAge = ({ for_ms: age }) =>
      state.age === "unknown" ? age === null : age !== null && age >= Number(low) && (!high || age < Number(high));
    return new Set(
      rows.filter(
        (row) =>
          (!state.verdict || row.verdicts.includes(state.verdict)) &&
          (!state.host || row.host === state.host) &&
          (!state.change || row.change === state.change) &&
          (!state.peer || row.remote === state.peer) &&
          (!state.program || row.program === state.program) &&
          (!state.age || inAge(row)) &&
          search(row.search),
      ),
    );
  };

  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const sorted = (entries) => {
    if (!state.sort) return entries;
    const descending = state.sort.startsWith("-");
    const key = state.sort.replace(/^-/, "");
    const sign = descending ? -1 : 1;
    const value = SORT_KEYS[key];
    if (!value) return entries;
    const keyed = entries.map((entry) => [value(entry.members), entry]);
    keyed.sort(([a], [b]) => {
      // Unknown values come last in both orders.
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (NUMERIC.includes(key) ? a - b : compare(a, b));
    });
    return keyed.map(([, entry]) => entry);
  };

  /** The rows of the table before paging: groups with the members that match, or single rows. */
  const entries = () => {
    const found = matching();
    shown = rows.filter((row) => found.has(row));
    if (state.group !== "1") return sorted(shown.map((row) => ({ members: [row] })));
    return sorted(
      units
        .map((unit) => ({ unit, members: unit.members.filter((row) => found.has(row)) }))
        .filter(({ members }) => members.length),
    );
  };

  const elementsOf = ({ unit, members }) => {
    if (members.length === 1) {
      members[0].element.classList.remove("member");
      return opened(members[0]);
    }
    unit.times.textContent =
      members.length === unit.members.length ? members.length : `${members.length} of ${unit.members.length}`;
    const parts = opened(unit);
    if (unit.open) {
      for (const row of members) {
        row.element.classList.add("member");
        parts.push(...opened(row));
      }
    }
    return parts;
  };

  const opened = (entry) => (entry.open ? [entry.element, entry.detail()] : [entry.element]);

  const show = () => {
    const all = entries();
    const size = Number(state.size) || Number(DEFAULTS.size);
    const pages = Math.max(1, Math.ceil(all.length / size));
    const page = Math.min(Math.max(1, Number(state.page) || 1), pages);
    const first = (page - 1) * size;
    body.replaceChildren(...all.slice(first, first + size).flatMap(elementsOf));
    table.hidden = !all.length;
    byId("nothing").hidden = all.length > 0;
    byId("count").textContent =
      `${shown.length === rows.length ? "" : `${shown.length} of `}${rows.length} connection${rows.length === 1 ? "" : "s"}`;
    byId("pages").hidden = all.length <= 25;
    byId("page").textContent = `Page ${page} of ${pages}`;
    byId("previous").disabled = page <= 1;
    byId("next").disabled = page >= pages;
    state.page = String(page);
    showFields();
    showChosen();
  };

  const showFields = () => {
    for (const key of fields) if (byId(key).value !== state[key]) byId(key).value = state[key];
    byId("grouped").checked = state.group === "1";
    byId("size").value = state.size;
    byId("order").value = state.sort;
    byId("results").classList.toggle("filtered", shown.length !== rows.length);
    byId("reset").disabled = ![...fields, ...Object.keys(CHOSEN)].some((key) => state[key]);
    for (const header of headers) {
      const key = header.dataset.sort;
      const order = { [key]: "ascending", [`-${key}`]: "descending" }[state.sort];
      if (order) header.setAttribute("aria-sort", order);
      else header.removeAttribute("aria-sort");
    }
  };

  const labels = new Map();
  const showChosen = () => {
    byId("chosen").replaceChildren(
      ...Object.keys(CHOSEN).filter((key) => state[key]).map((key) => {
        const label = labels.get(`${key}=${state[key]}`) ?? state[key];
        const button = element("button", { type: "button", className: "chosen" },
          `${CHOSEN[key]} `, element("bdi", { textContent: label }), " ×");
        button.setAttribute("aria-label", `Remove the filter ${CHOSEN[key]} ${label}`);
        button.addEventListener("click", () => {
          setState({ [key]: "" });
          byId("find").focus({ preventScroll: true });
        });
        return button;
      }),
    );
    for (const link of document.querySelectorAll("a[data-filter]")) {
      const { filter, value } = link.dataset;
      const active = state[filter] === value;
      if (active) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
      link.href = hashOf({ ...state, page: "1", [filter]: active ? "" : value });
    }
  };

  const say = (button, text) => {
    const before = button.textContent;
    if (button.dataset.busy) return;
    button.dataset.busy = "1";
    button.textContent = text;
    setTimeout(() => {
      button.textContent = before;
      delete button.dataset.busy;
    }, 1500);
  };
  const onCopy = async (text, button) => say(button, (await copyText(text)) ? "Copied" : "Not copied");

  /** Buttons that filter the table by the host, the peer and the program of an entry. */
  const onlyButtons = ({ host, remote, program }) =>
    Object.entries({ host, peer: remote, program }).filter(([key, value]) => value && (key !== "host" || byId("host"))).map(([key, value]) => {
      const button = element("button", { type: "button", className: "only" }, `${key} `, element("bdi", { textContent: value }));
      button.addEventListener("click", () => setState({ [key]: value }));
      return button;
    });

  const makeButtons = () => {
    for (const entry of [...rows, ...units.filter((unit) => unit.element)]) {
      const button = element("button", { type: "button", className: "open" });
      button.setAttribute("aria-expanded", "false");
      button.setAttribute("aria-label", entry.label);
      entry.element.cells[0].prepend(button);
      const toggle = () => {
        entry.open = !entry.open;
        button.setAttribute("aria-expanded", String(entry.open));
        entry.element.classList.toggle("opened", entry.open);
        show();
        // The row was put into the table again, which takes the focus away.
        button.focus({ preventScroll: true });
      };
      entry.element.addEventListener("click", (event) => {
        const selecting = !getSelection().isCollapsed && !event.target.closest("button");
        if (!selecting && !event.target.closest("a, summary")) toggle();
      });
      entry.detail = () => (entry.panel ??= detailRow(entry, data, { onCopy, onlyButtons, columns: headers.length }));
    }
    for (const mark of document.querySelectorAll("span[data-filter]")) {
      const link = element("a", { title: mark.title || mark.textContent });
      Object.assign(link.dataset, mark.dataset);
      link.append(...mark.childNodes);
      mark.replaceWith(link);
      labels.set(`${link.dataset.filter}=${link.dataset.value}`, link.textContent);
      link.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        const { filter, value } = link.dataset;
        const active = state[filter] === value;
        setState({ [filter]: active ? "" : value });
        if (!active) byId("list").scrollIntoView();
      });
      // The bar, the column or the colour beside the name is as good as the name.
      const area = link.closest(".mark, li");
      area.classList.add("clickable");
      area.addEventListener("click", (event) => {
        if (!event.target.closest("a") && getSelection().isCollapsed) link.click();
      });
    }
    headers.forEach((header) => {
      const key = header.dataset.sort;
      const [first, second] = NUMERIC.includes(key) ? [`-${key}`, key] : [key, `-${key}`];
      const button = element("button", { type: "button", textContent: header.textContent });
      button.addEventListener("click", () => setState({ sort: state.sort === first ? second : first }));
      header.replaceChildren(button);
      byId("order").append(element("option", { value: first, textContent: header.textContent.toLowerCase() }));
    });
    byId("order").prepend(element("option", { value: "", textContent: "severity" }));
  };

  const listen = () => {
    bar.addEventListener("input", (event) => setState({ [event.target.id]: event.target.value }));
    bar.addEventListener("submit", (event) => event.preventDefault());
    bar.addEventListener("reset", (event) => {
      event.preventDefault();
      setState({ ...DEFAULTS, sort: state.sort, group: state.group, size: state.size });
      byId("find").focus({ preventScroll: true });
    });
    byId("grouped").addEventListener("change", (event) => setState({ group: event.target.checked ? "1" : "0" }));
    byId("order").addEventListener("change", (event) => setState({ sort: event.target.value }));
    byId("size").addEventListener("change", (event) => setState({ size: event.target.value }));
    const turn = (by) => () => {
      setState({ page: String(Number(state.page) + by) });
      byId("list").scrollIntoView();
    };
    byId("previous").addEventListener("click", turn(-1));
    byId("next").addEventListener("click", turn(1));
    byId("compare")?.addEventListener("click", () => byId("earlier").click());
    byId("earlier")?.addEventListener("change", async ({ target }) => {
      const [file] = target.files;
      if (!file) return;
      try {
        const compared = compareRows(rows, data, parseReport(await file.text(), data.version));
        showComparison(rows, units, compared, data.verdicts);
        byId("change").closest("label").hidden = false;
        // The comparison of the playbook, which this one replaces.
        for (const old of document.querySelectorAll(".comparison, #old")) old.remove();
        show();
      } catch (error) {
        byId("compared").replaceChildren(
          element("p", { className: "wrong", textContent: `${file.name}: ${error.message}` }));
        byId("compared").hidden = false;
      }
      // The same file may be chosen again.
      target.value = "";
    });
    const columns = data.columns.filter((name) => !["selector", "words"].includes(name));
    byId("csv").addEventListener("click", () => saveFile("stuck-report.csv", "text/csv", csvText(columns, shown)));
    byId("copy").addEventListener("click", (event) => onCopy(tabText(columns, shown), event.target));
    byId("print").addEventListener("click", () => print());
    let size;
    addEventListener("beforeprint", () => {
      size = state.size;
      state.size = String(rows.length);
      show();
    });
    addEventListener("afterprint", () => {
      state.size = size;
      show();
    });
    addEventListener("hashchange", () => readState() && show());
    // The header of the table sticks below the bar, whose height depends on the width.
    new ResizeObserver(() =>
      document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`),
    ).observe(bar);
  };

  makeButtons();
  listen();
  readState();
  show();
};

/** The row objects, with their elements. */
const readRows = (table, data) => {
  const elements = table.tBodies[0].querySelectorAll("tr.row");
  return data.rows.map((cells, index) => {
    const row = Object.fromEntries(data.columns.map((name, at) => [name, cells[at]]));
    const title = data.verdicts[row.verdicts[0]].title;
    return Object.assign(row, {
      element: elements[index],
      search: searchable(row, data.verdicts),
      label: `Evidence of ${row.host}, ${title}, ${endpointText(row.remote, row.remote_port)}`,
      open: false,
      size: 1,
    });
  });
};

/** The groups, with their members; a group of one has no element of its own. */
const readGroups = (rows, data) => {
  const elements = [...document.querySelectorAll("tr.group")];
  let start = 0;
  return data.groups.map((group) => {
    const members = rows.slice(start, start + group.size);
    start += group.size;
    if (group.size === 1) return { members };
    const { host, namespace, remote, program, verdicts } = members[0];
    const made = elements.shift();
    return {
      ...group,
      members,
      host,
      namespace,
      remote,
      program,
      verdicts,
      element: made,
      times: made.querySelector(".times span"),
      label: `${group.size} connections of ${host}, ${data.verdicts[verdicts[0]].title}, ${remote}`,
      open: false,
    };
  });
};

/** The row below a connection or a group: evidence and the next step. */
const detailRow = (entry, data, { onCopy, onlyButtons, columns }) => {
  const cell = element("td", { colSpan: columns });
  cell.setAttribute("role", "cell");
  const row = element("tr", { className: "detail" }, cell);
  row.setAttribute("role", "row");
  const evidence = entry.element.querySelector("details.evidence > div");
  const { title, short } = data.verdicts[entry.verdicts[0]];
  cell.append(evidence ?? element("p", {}, element("b", { textContent: title }), `: ${short}`));
  const host = data.harmless_hosts.includes(entry.host) ? entry.host : null;
  const certain = data.verdicts[entry.verdicts[0]].certain;
  cell.append(stepsPanel({ ...entry, host }, { certain, onCopy }));
  const only = onlyButtons(entry);
  if (only.length && data.rows.length > 1) cell.append(element("p", { className: "only" }, "Show only: ", ...only));
  return row;
};

const longest = (members) =>
  members.reduce((most, { for_ms: age }) => (age === null ? most : Math.max(most ?? 0, age)), null);
const SORT_KEYS = {
  host: ([first]) => first.host,
  verdict: ([first]) => first.verdict,
  age: longest,
  local: ([first]) => endpointText(first.local, first.local_port),
  peer: ([first]) => endpointText(first.remote, first.remote_port),
  program: ([first]) => first.program ?? null,
  queued: (members) => members.reduce((sum, row) => sum + row.unsent_bytes + row.unread_bytes, 0),
};

if (byId("table")) showTable();

/* Copyright: linuxnet.sockets contributors
   GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
   SPDX-License-Identifier: GPL-3.0-or-later

   The next step for a connection or a group: commands and tasks that watch or destroy just these.
   The page makes the selectors and the words of the command line; see steps.py. */

const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

/** A value as YAML in lines, for a block that is indented by `depth` levels. */
const yamlLines = (value, depth = 0) => {
  const indent = "  ".repeat(depth);
  if (Array.isArray(value)) {
    return value.flatMap((entry) => {
      if (typeof entry !== "object") return [`${indent}- ${yamlScalar(entry)}`];
      const [first, ...rest] = yamlLines(entry, depth + 1);
      return [`${indent}- ${first.trimStart()}`, ...rest];
    });
  }
  return Object.entries(value).flatMap(([key, entry]) =>
    typeof entry === "object"
      ? [`${indent}${key}:`, ...yamlLines(entry, depth + 1)]
      : [`${indent}${key}: ${yamlScalar(entry)}`],
  );
};

const RESERVED = /^(?:y|n|yes|no|on|off|true|false|null)$/i;
const yamlScalar = (value) =>
  typeof value === "string" && (!/^[a-z][\w.-]*$/i.test(value) || RESERVED.test(value))
    ? JSON.stringify(value)
    : String(value);

/** A play with one task, or the task alone where `host` cannot be written as a pattern. */
const playText = (title, host, task) => {
  const lines = [...yamlLines([task], host ? 2 : 0)];
  const head = host
    ? [`- name: ${title}`, `  hosts: ${yamlScalar(host)}`, "  become: true", "  gather_facts: false", "  tasks:"]
    : [];
  return [...head, ...lines].join("\n");
};

/** The texts to copy. step: { host, namespace, selector, words, size }. */
const stepTexts = ({ host, namespace, selector, words, size }) => {
  const these = size === 1 ? "this connection" : `these ${size} connections`;
  const namespaces = namespace && namespace !== "current" ? { namespaces: [namespace] } : {};
  return {
    "Watch: socketctl": `sudo watch -n 5 -x socketctl list -p ${words}`,
    "Watch: Ansible": playText(`Watch ${these}`, host, {
      name: "Wait until they have ended, or make progress again",
      "linuxnet.sockets.socket_diag_info": { match: selector, ...namespaces },
      register: "watched",
      until: "watched.matched == 0",
      retries: 60,
      delay: 10,
    }),
    "Destroy: socketctl": `sudo socketctl destroy ${words} --max-sockets ${size}`,
    "Destroy: Ansible": playText(`Destroy ${these}`, host, {
      name: "Destroy them, unless there are more by now",
      "linuxnet.sockets.socket_destroy": { match: selector, ...namespaces, max_sockets: size },
    }),
    Selector: yamlLines({ match: selector }).join("\n"),
  };
};

/** The panel with the texts. */
const stepsPanel = (step, { certain, onCopy }) => {
  const panel = element("div", { className: "steps" });
  panel.append(element("h3", { textContent: "Next step" }));
  if (!step.selector) {
    panel.append(element("p", {
      className: "dim",
      textContent: step.size === 1
        ? "There is no selector: the endpoints are not valid addresses."
        : "There is no selector for all of them. Open a single connection.",
    }));
    return panel;
  }
  const texts = stepTexts(step);
  const code = element("code");
  const copy = element("button", { type: "button", className: "copy", textContent: "Copy" });
  copy.addEventListener("click", () => onCopy(code.textContent, copy));
  const choices = element("div", { className: "choices" });
  choices.setAttribute("role", "group");
  choices.setAttribute("aria-label", "Next step");
  const where = step.host ?? "the host of this row";
  const note = element("p", { className: "dim" });
  const notes = (name) => [
    name.includes("socketctl") && `Run it on ${where}.`,
    name.includes("Ansible") && (step.host ? "Save it as a playbook." : `Put it into a play for ${where}.`),
    name === "Selector" && "For modules, and rules of a policy.",
    name.startsWith("Destroy") && `It destroys nothing if more than ${step.size} match. Connections that recovered do not match.`,
    name.startsWith("Destroy") && !certain && "The connections may be healthy.",
  ];
  const choose = (chosen) => {
    code.textContent = texts[chosen.textContent];
    note.textContent = notes(chosen.textContent).filter(Boolean).join(" ");
    for (const button of choices.children) {
      button.setAttribute("aria-pressed", String(button === chosen));
    }
  };
  for (const name of Object.keys(texts)) {
    const button = element("button", { type: "button", textContent: name });
    button.addEventListener("click", () => choose(button));
    choices.append(button);
  }
  choose(choices.firstChild);
  const text = element("pre", { tabIndex: 0 }, code);
  text.setAttribute("aria-label", "Text to copy");
  panel.append(choices, element("div", { className: "text" }, text, copy));
  panel.append(note);
  return panel;
};

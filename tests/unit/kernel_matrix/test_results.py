# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded results of each kernel, and the page of the manual rendered from them."""

from __future__ import annotations

import datetime
import re
import subprocess
from typing import Any

import pytest

from tests.kernel_matrix import results
from tests.kernel_matrix.catalogue import KERNELS
from tests.kernel_matrix.image import PROJECT, core_digest

ENTRIES = results.load()


def _report(**tests: Any) -> dict[str, Any]:
    return {
        "facts": {"may_destroy": True},
        "tests": {"status": 0, "passed": 3, "others": [], "arguments": ["tests/kernel"], **tests},
    }


def test_page_matches_results() -> None:
    page = results.PAGE.read_text()
    assert results.page_with(page, ENTRIES) == page


def test_every_kernel_of_the_catalogue_has_results() -> None:
    assert [entry["kernel"] for entry in ENTRIES] == [kernel.name for kernel in KERNELS]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: str(entry["kernel"]))
def test_entry_is_complete(entry: dict[str, Any]) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", entry["digest"])
    assert datetime.date.fromisoformat(entry["date"])
    (kernel,) = [known for known in KERNELS if known.name == entry["kernel"]]
    assert entry["tests"]["arguments"] == [*kernel.tests, *kernel.after_reboot]
    assert entry["tests"]["passed"] > 0
    assert all(entry["reason"] for entry in entry["tests"]["others"])
    assert results.problems(entry) == []


def test_kernel_built_without_destroy_included() -> None:
    verdicts = {entry["facts"]["support"]["tcp"]["verdict"] for entry in ENTRIES}
    assert verdicts == {"supported", "built_without"}


def test_digest_equals_command_on_page() -> None:
    core = PROJECT / "plugins" / "module_utils" / "_core"
    (command,) = re.findall(r"^ +\$ (find .*)$", results.PAGE.read_text(), re.MULTILINE)
    done = subprocess.run(
        ["sh", "-c", command], cwd=core, check=True, capture_output=True, text=True
    )
    assert done.stdout.split()[0] == core_digest()


def test_failed_test_is_a_problem() -> None:
    failed = [{"test": "a", "outcome": "failed", "reason": "why"}]
    assert results.problems(_report(others=failed, status=1)) == ["a: why"]


@pytest.mark.parametrize("outcome", ["skipped", "expected"])
def test_skip_and_xfail_are_no_problem(outcome: str) -> None:
    others = [{"test": "a", "outcome": outcome, "reason": "why"}]
    assert results.problems(_report(others=others)) == []


def test_fact_with_error_is_a_problem() -> None:
    report = _report() | {"facts": {"x": {"error": "OSError: no"}}}
    assert results.problems(report) == ["x: OSError: no"]


def test_pytest_error_is_a_problem() -> None:
    (problem,) = results.problems(_report(status=4))
    assert {"pytest", "4"} <= set(re.findall(r"\w+", problem))


def test_reports_of_two_starts_merged() -> None:
    bad = {"test": "b", "outcome": "failed", "reason": "why"}
    one = {"tests": {"arguments": ["a"], "passed": 3, "others": [], "seconds": 4, "status": 0}}
    two = {"tests": {"arguments": ["b"], "passed": 1, "others": [bad], "seconds": 5, "status": 1}}
    whole = results.merge_starts([{"release": "6.1", **one}, two])
    assert whole["release"] == "6.1"
    assert whole["tests"] == {
        "arguments": ["a", "b"],
        "passed": 4,
        "others": [bad],
        "seconds": 9,
        "status": 1,
    }
    assert results.merge_starts([one]) == one


def test_facts_rendered_once_per_kernel() -> None:
    kernel = {**ENTRIES[0], "kernel": "another", "date": "2000-01-02"}
    page = results.render([kernel, {**kernel, "kernel": "yet another", "date": "2000-01-03"}])
    assert page.count("2000-01-02") == page.count("2000-01-03") == 1
    assert page.count(f"     - {ENTRIES[0]['facts']['orphan_uid']}\n") == 1


def test_page_without_marks_rejected() -> None:
    with pytest.raises(ValueError, match=re.escape(repr(results._BEGIN))):
        results.page_with("a page", ENTRIES)

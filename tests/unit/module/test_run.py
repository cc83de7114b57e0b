# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options passed to the API; results and errors returned by a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._core.api.destroy_sockets import destroy
from plugins.module_utils._core.api.drain_sockets import drain
from plugins.module_utils._core.api.find_sockets import find
from plugins.module_utils._core.api.host_facts import facts
from plugins.module_utils._core.api.policy import enforce_policy
from plugins.module_utils._core.api.task import OperationResult
from plugins.module_utils._core.errors import InputError, SocketsNotDestroyed
from plugins.module_utils._module import policy, run
from plugins.module_utils._module.arguments import argument_spec
from tests.support.fake_machine import FakeMachine, connection
from tests.support.policy_documents import document, rule

Options = dict[str, Any]


class ModuleExit(Exception):
    """exit_json or fail_json was called."""


class FakeModule:
    """Replaces AnsibleModule. Options that are not given have their defaults."""

    given: Options
    check_mode = False
    _diff = False
    last: FakeModule

    def __init__(self, *, argument_spec: Options, supports_check_mode: bool) -> None:
        assert supports_check_mode
        self.params = {key: spec.get("default") for key, spec in argument_spec.items()}
        self.params.update(self.given)
        self.warnings: list[str] = []
        self.result: Options = {}
        type(self).last = self

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def exit_json(self, **result: Any) -> None:
        self.result = result
        raise ModuleExit

    def fail_json(self, msg: str, **result: Any) -> None:
        self.result = {"failed": True, "msg": msg, **result}
        raise ModuleExit


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    machine = FakeMachine(tmp_path)
    own = machine.proc / "thread-self" / "ns"
    own.mkdir(parents=True)
    (own / "net").write_text("")
    return machine


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeModule]:
    def called(
        spec: Options,
        operation: Callable[..., OperationResult],
        given: Options,
        *,
        check: bool = False,
        diff: bool = False,
        **more: Any,
    ) -> FakeModule:
        module = type("_Module", (FakeModule,), {"given": given, "check_mode": check})
        module._diff = diff
        monkeypatch.setattr(run, "AnsibleModule", module)
        with pytest.raises(ModuleExit):
            run.run_module(spec, operation, **more)
        return module.last

    return called


def test_result_is_returned_unchanged(
    machine: FakeMachine, call: Callable[..., FakeModule]
) -> None:
    machine.add(connection())
    module = call(argument_spec("find"), lambda **options: find(**options, host=machine.host), {})
    assert module.result["changed"] is False
    assert module.result["matched"] == 1


def test_facts_are_returned_as_one_fact(
    machine: FakeMachine, call: Callable[..., FakeModule]
) -> None:
    module = call(
        argument_spec("facts"),
        lambda **options: facts(**options, host=machine.host),
        {},
        fact="socket_diag",
    )
    assert set(module.result) == {"changed", "ansible_facts"}
    assert module.result["ansible_facts"]["socket_diag"]["kernel"] == "6.18.0"


def test_check_and_diff_mode_reach_the_operation(
    machine: FakeMachine, call: Callable[..., FakeModule]
) -> None:
    machine.add(connection())
    module = call(
        argument_spec("destroy"),
        lambda **options: destroy(**options, host=machine.host),
        {"match": {"state": "all"}},
        check=True,
        diff=True,
        modes=True,
    )
    assert module.result["outcomes"] == {"destroyed": 1}
    assert module.result["diff"]["before"]
    assert machine.sockets.destroyed == []


def test_failure_includes_the_result(machine: FakeMachine, call: Callable[..., FakeModule]) -> None:
    machine.add(connection())
    module = call(
        argument_spec("destroy"),
        lambda **options: destroy(**options, host=machine.host),
        {"match": {"state": "all"}, "max_sockets": "0"},
    )
    assert module.result["failed"]
    assert module.result["outcomes"] == {"limit": 1}
    assert "max_sockets" in module.result["msg"]


def test_each_failure_and_warning_is_described(call: Callable[..., FakeModule]) -> None:
    class Result:
        warnings = ()
        failures = (SocketsNotDestroyed({"busy": 1}, 1), SocketsNotDestroyed({"survived": 2}, 2))

        def to_dict(self) -> Options:
            return {"changed": False, "warnings": ["a warning"]}

    module = call({}, Result, {})
    assert "1 busy" in module.result["msg"]
    assert "2 survived" in module.result["msg"]
    # Ansible adds the key.
    assert module.warnings == ["a warning"]
    assert "warnings" not in module.result


def test_input_error_is_described(call: Callable[..., FakeModule]) -> None:
    def reject() -> OperationResult:
        raise InputError(("match",), 7, "not a mapping", "a mapping")

    module = call({}, reject, {})
    assert module.result == {
        "failed": True,
        "changed": False,
        "msg": "match: 7: not a mapping. Allowed: a mapping.",
    }


def test_rejected_policy_lists_its_errors(
    machine: FakeMachine, call: Callable[..., FakeModule]
) -> None:
    given = document(rule("a", match={"user": "nobody-here"}), rule("b", hold="soon"))
    module = call(
        policy.argument_spec(),
        lambda **options: policy.enforce(**options, host=machine.host),
        {"policy": given},
    )
    assert module.result["changed"] is False
    first, second = module.result["errors"]
    assert first.startswith("policy.rules[0].match.user: 'nobody-here': ")
    assert second.startswith("policy.rules[1].hold: 'soon': ")
    headline, *listed = module.result["msg"].splitlines()
    assert "2 errors" in headline
    assert listed == [f"- {first}", f"- {second}"]


@pytest.mark.parametrize(
    ("given", "path"),
    [({"policy": None, "src": None}, ("policy",)), ({"policy": None, "src": "a.yml"}, ("src",))],
)
def test_policy_is_required(given: Options, path: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as rejected:
        policy.enforce(**given)
    assert rejected.value.path == path


def test_socket_policy_takes_src_beside_the_options_of_the_api() -> None:
    spec = policy.argument_spec()
    assert set(spec) - set(argument_spec("enforce_policy")) == {"src"}
    assert not spec["policy"].get("required")


@pytest.mark.parametrize("operation", [find, facts, destroy, drain, enforce_policy])
def test_options_and_defaults_match_the_api(
    operation: Callable[..., OperationResult],
) -> None:
    spec = argument_spec(operation.__name__)
    parameters = inspect.signature(operation).parameters
    assert set(spec) == set(parameters) - {"host", "check", "diff", "progress"}
    for name, option in spec.items():
        if "default" in option:
            default = parameters[name].default
            plain = list(default) if isinstance(default, tuple) else default
            assert option["default"] == ({} if name == "match" and plain is None else plain)

"""What holds for every test: properties have no stopwatch, and in CI a skip is a failure."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

#: Two cores shared by everybody say nothing about how fast one example is.
hypothesis.settings.register_profile("house", deadline=None, print_blob=True)
hypothesis.settings.load_profile("house")


#: Tests that start processes and wait for them: one of them at a time, beside those that only compute.
_PROCESSES = ("system", "packaging")
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE) and item.path.relative_to(_HERE).parts[0] in _PROCESSES:
            item.add_marker(pytest.mark.xdist_group("processes"))


def _a_skip_is_a_failure(report: pytest.TestReport | pytest.CollectReport) -> None:
    """
    With CI set, turn a skip into a failure that says why it was skipped.

    A test that needs a program or a right which is missing in CI is a test that nobody runs. What is
    expected to fail (`xfail`) is reported as skipped too, and stays so.
    """
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"a skip is a failure where CI is set. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _a_skip_is_a_failure(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _a_skip_is_a_failure(report)
    return report

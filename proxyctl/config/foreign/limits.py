"""What somebody else's metrics say of errors, as the `max_error_rate` of an analysis. Pure.

Only the rate of bad answers has an equal here: latency is judged against the live release's, never against a number.
"""

from __future__ import annotations

import re

LATENCY = "slow answers are judged against the live release's (latency), not against a number; ask for it in a hook"
ELSEWHERE = "nginx's log is the judge; what only this provider knows, ask for in analysis.sources"

LEAST = 0.01  # percent: the grain

_COMPARED = re.compile(
    r"\s*(?:isNaN\(result\)\s*\|\|\s*)?(?:default\(result,\s*\S+\)|result(?:\[0\])?)\s*(>=|>|<=|<)\s*([0-9]*\.?[0-9]+)\s*"
)
_SPEAKS_OF_SUCCESS = re.compile("success|availab", re.IGNORECASE)
_SPEAKS_OF_ERRORS = re.compile("error|fail|5xx|bad", re.IGNORECASE)
_SPEAKS_OF_LATENCY = re.compile("latency|duration|p9[0-9]|quantile|response.?time", re.IGNORECASE)


def most_errors(name: str, success: str | None, failure: str | None) -> float | None:
    """Percent of bad answers that a metric of this name bears, by its conditions; None where that is not certain."""
    for condition, bears in ((success, (">", "<")), (failure, ("<", ">"))):
        compared = _COMPARED.fullmatch(condition or "")
        if not compared:
            continue
        sign, limit = compared[1][0], float(compared[2])
        if _SPEAKS_OF_SUCCESS.search(name) and sign == bears[0]:
            return _errors_of_success(limit)
        if _SPEAKS_OF_ERRORS.search(name) and sign == bears[1]:
            return _percent(limit)
    return None


def _errors_of_success(limit: float) -> float | None:
    """Of `0.95` as of `95`; a limit below a half is neither."""
    percent = limit * 100 if 0.5 <= limit <= 1 else limit
    return errors_beyond(percent) if 50 <= percent <= 100 else None


def _percent(limit: float) -> float | None:
    """A rate of errors is a part of one, where it is that small."""
    return max(round(limit * 100, 2), LEAST) if limit < 0.5 else None


def errors_beyond(success: float) -> float:
    """What is left of 100 % when so many percent must succeed."""
    return max(round(100 - success, 2), LEAST)


def is_latency(name: str) -> bool:
    return _SPEAKS_OF_LATENCY.search(name) is not None

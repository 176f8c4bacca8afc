"""Every error a user can meet, and what it means for traffic.

    ProxyctlError
    +- UsageError            2   the command line is wrong
    +- ConfigRejected        3   the file is wrong; every problem is listed
    +- Conflict              4   someone else acts, or the state does not allow it
    |  +- Locked
    |  +- Fenced
    +- RolloutFailed         5   the rollout failed and traffic is safe
    |  +- GateFailed
    |  +- Aborted
    +- Unavailable           6   a dependency is missing, hung or refused; nothing was changed
    |  +- DockerUnavailable, ImageUnavailable, NameTaken, AddressTaken, NoSpace
    |  +- NginxUnavailable, PublishRefused, SplitNotSeen
    |  +- StateUnusable
    |  +- OutcomeUnknown         a call was late: observe, never repeat blindly
    +- Degraded              7   safety itself failed: a person is needed now
    +- Held                  8   a person decides
    +- Interrupted         130

Exit code and slug are attributes of the class; no other list of them exists. Every error names what happened
(`str(error)`), what serves now (`serving`) and what to type next (`next_step`).
"""

from __future__ import annotations


class ProxyctlError(Exception):
    """What happened, in one sentence that names the thing."""

    slug = "bug"
    exit_code = 1
    traffic_safe = True

    def __init__(self, what: str, *, next_step: str = "", serving: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.next_step = next_step
        self.serving = serving
        self.detail = detail  # the other side's own words: nginx's, docker's, log lines


class UsageError(ProxyctlError):
    slug, exit_code = "usage", 2


class ConfigRejected(ProxyctlError):
    """`problems` holds one line each: file:line:column, what is wrong, what to write instead."""

    slug, exit_code = "config-rejected", 3

    def __init__(self, what: str, problems: tuple[str, ...] = (), *, next_step: str = "") -> None:
        super().__init__(what, next_step=next_step, serving="nothing was changed")
        self.problems = problems


class Conflict(ProxyctlError):
    slug, exit_code = "conflict", 4


class Locked(Conflict):
    slug = "locked"


class Fenced(Conflict):
    """This writer was replaced by a later one; nothing of its was written."""

    slug = "fenced"


class RolloutFailed(ProxyctlError):
    slug, exit_code = "rollout-failed", 5


class GateFailed(RolloutFailed):
    """The candidate never passed its gate; the live release kept all traffic."""

    slug = "gate-failed"


class Aborted(RolloutFailed):
    slug = "aborted"


class Unavailable(ProxyctlError):
    slug, exit_code = "unavailable", 6


class DockerUnavailable(Unavailable):
    slug = "docker-unavailable"


class ImageUnavailable(Unavailable):
    slug = "image-unavailable"


class NameTaken(Unavailable):
    """A container of that name exists and does not carry our label. It is left alone."""

    slug = "name-taken"


class AddressTaken(Unavailable):
    slug = "address-taken"


class NoSpace(Unavailable):
    slug = "no-space"


class NginxUnavailable(Unavailable):
    slug = "nginx-unavailable"


class PublishRefused(Unavailable):
    """nginx refused the new generation, or did not take it and the last good one was restored and observed."""

    slug = "publish-refused"


class SplitNotSeen(Unavailable):
    """The flags were moved but the workers do not answer as they say."""

    slug = "split-not-seen"


class StateUnusable(Unavailable):
    slug = "state-unusable"


class OutcomeUnknown(Unavailable):
    """A call was not answered in time. It may have happened: observe."""

    slug = "outcome-unknown"


class Degraded(ProxyctlError):
    slug, exit_code, traffic_safe = "degraded", 7, False


class Held(ProxyctlError):
    slug, exit_code = "held", 8


class Interrupted(ProxyctlError):
    slug, exit_code = "interrupted", 130

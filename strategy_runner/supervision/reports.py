"""What the daemon answers: the state of each program, and what a change did. Sent as JSON inside one XML-RPC string."""

import msgspec


class ProcessReport(msgspec.Struct, frozen=True):
    """One program as supervisord sees it. `pid` and `started_ns` are 0 when there is none; `spawn_error` may be ""."""

    group: str
    name: str
    state: str
    pid: int
    started_ns: int
    exit_status: int | None
    spawn_error: str

    @property
    def full_name(self) -> str:
        return f"{self.group}:{self.name}"

    @property
    def was_stopped(self) -> bool:
        """By a person; what waits for its first start is STOPPED too."""
        return self.state == "STOPPED" and self.started_ns > 0


class ChangeReport(msgspec.Struct, frozen=True):
    """What a reconcile did, as sorted `group:program` names. Every other process kept its pid."""

    started: tuple[str, ...]
    stopped: tuple[str, ...]
    restarted: tuple[str, ...]

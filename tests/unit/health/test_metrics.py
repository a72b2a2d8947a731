import subprocess
import sys

from supervisor.health.metrics import Metrics, own_resident_bytes
from tests.unit.health.metrics_in_use import metrics_in_use


def metrics() -> Metrics:
    return Metrics(problems=lambda: ("bucket", "fenced"), loop_lag_seconds=lambda: 0.25, resident_bytes=lambda: 1000)


def lines(made: Metrics) -> list[str]:
    return made.render().decode().splitlines()


def test_a_committed_snapshot_counts_time_bytes_and_becomes_the_newest() -> None:
    made = metrics()
    made.snapshot_taken("change", seconds=0.2, read_bytes=10, uploaded_bytes=4, sequence=7, committed_at=1000.0)
    made.snapshot_failed("change")
    rendered = lines(made)
    assert 'moltinit_snapshots_taken_total{reason="change"} 1.0' in rendered
    assert 'moltinit_snapshots_failed_total{reason="change"} 1.0' in rendered
    assert "moltinit_snapshot_read_bytes_total 10.0" in rendered
    assert "moltinit_snapshot_uploaded_bytes_total 4.0" in rendered
    assert "moltinit_last_snapshot_sequence 7.0" in rendered
    assert "moltinit_last_snapshot_timestamp_seconds 1000.0" in rendered
    assert "moltinit_snapshot_duration_seconds_count 1.0" in rendered


def test_bucket_requests_are_counted_by_operation_class_and_outcome() -> None:
    made = metrics()
    made.bucket_request("put", "A", "ok", sent_bytes=100)
    made.bucket_request("get", "B", "missing", received_bytes=5)
    rendered = lines(made)
    assert 'moltinit_bucket_requests_total{class="A",operation="put",outcome="ok"} 1.0' in rendered
    assert 'moltinit_bucket_requests_total{class="B",operation="get",outcome="missing"} 1.0' in rendered
    assert 'moltinit_bucket_bytes_total{direction="up"} 100.0' in rendered
    assert 'moltinit_bucket_bytes_total{direction="down"} 5.0' in rendered


def test_phases_the_agent_and_the_daemon_itself_are_on_the_page() -> None:
    made = metrics()
    made.phase_ended("boot", 0.5, target="claim")
    made.agent_restarted()
    made.agent_up(True)
    rendered = lines(made)
    assert 'moltinit_phase_seconds_total{phase="boot"} 0.5' in rendered
    assert 'moltinit_transitions_total{source="boot",target="claim"} 1.0' in rendered
    assert "moltinit_agent_restarts_total 1.0" in rendered
    assert "moltinit_agent_up 1.0" in rendered
    assert "moltinit_problems 2.0" in rendered
    assert "moltinit_event_loop_lag_seconds 0.25" in rendered
    assert "moltinit_resident_memory_bytes 1000.0" in rendered


def test_two_daemons_in_one_process_do_not_share_a_registry() -> None:
    first, second = metrics(), metrics()
    first.agent_restarted()
    assert "moltinit_agent_restarts_total 0.0" in lines(second)


def test_the_resident_memory_of_this_process_is_plausible() -> None:
    assert 5_000_000 < own_resident_bytes() < 2_000_000_000


def test_importing_the_module_does_not_import_prometheus() -> None:
    code = "import sys, supervisor.health.metrics; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_looked_at_only_when_somebody_asks() -> None:
    rendered = lines(metrics_in_use())
    assert "moltinit_problems 2.0" in rendered
    assert 'moltinit_problem{code="bucket"} 1.0' in rendered
    assert "moltinit_last_snapshot_age_seconds 60.0" in rendered
    assert "moltinit_memory_free_bytes 700.0" in rendered
    assert "moltinit_disk_used_bytes 4000.0" in rendered


def test_what_is_not_known_is_left_out() -> None:
    made = Metrics(problems=lambda: (), loop_lag_seconds=lambda: 0.0)
    names = {line.partition("{")[0].partition(" ")[0] for line in lines(made) if not line.startswith("#")}
    assert "moltinit_problems" in names
    assert not names & {"moltinit_problem", "moltinit_last_snapshot_age_seconds", "moltinit_memory_used_bytes"}


def test_a_clock_that_was_set_back_makes_no_negative_age() -> None:
    made = Metrics(problems=lambda: (), loop_lag_seconds=lambda: 0.0, time=lambda: 5.0)
    made.newest_snapshot(1, 100.0)
    assert "moltinit_last_snapshot_age_seconds 0.0" in lines(made)


def test_traffic_is_counted_by_route_and_class_of_status() -> None:
    made = metrics()
    made.http_request("agent", 404)
    made.http_request("agent", 499)
    assert 'moltinit_http_requests_total{route="agent",status="4xx"} 2.0' in lines(made)
    with made.websocket():
        assert "moltinit_websockets 1.0" in lines(made)
    assert "moltinit_websockets 0.0" in lines(made)


def test_requests_to_the_bucket_are_summed_by_what_they_cost() -> None:
    made = metrics()
    made.bucket_request("put", "A", "ok")
    made.bucket_request("get", "B", "unavailable")
    made.bucket_request("get", "B", "ok")
    assert made.requests_by_class() == {"A": 1, "B": 2, "free": 0}

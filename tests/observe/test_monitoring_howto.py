"""docs/howto/monitoring.md, and the files of examples/monitoring."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from howtos import ROOT, blocks
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from bootfw.build import load_parts
from bootfw.config.settings import LogSettings, MetricsSettings
from bootfw.events import OtherServerSeen, TransferEnded
from bootfw.observe.counts import COUNTERS, HISTOGRAMS
from bootfw.observe.log import LogObserver
from bootfw.observe.logtext import as_datagram, as_json
from bootfw.observe.otel import OpenTelemetry
from bootfw.observe.webhook import Webhook, signature
from bootfw.values import Agreed, Client, Outcome, TransferReport, TransferRequest

PAGE = "monitoring.md"
FILES = ROOT / "examples" / "monitoring"
PROMTOOL = ROOT / ".clients/usr/bin/promtool"
NEEDS_PROMTOOL = pytest.mark.skipif(not PROMTOOL.exists(), reason="promtool is missing: make install-clients")

READ = TransferRequest("snponly.efi", "snponly.efi", ("10.77.0.100", 1025))
ENDED = TransferEnded(
    9.0,
    TransferReport(READ, Agreed(1468, 4), Outcome.COMPLETE, "", 173792, 119, 0, 1.0, 1.24, backend="directory"),
)


def load_configuration(tmp_path: Path, text: str) -> Any:
    (tmp_path / "bootfw.toml").write_text('[[backend]]\nuse = "memory"\nfiles = {}\n' + text)
    return load_parts(tmp_path / "bootfw.toml", {}, Clock())


def log_event() -> LogEvent:
    observer = LogObserver()
    observer.names_macs = True
    observer.set_client_lookup(lambda peer: Client(peer[0], mac="52:54:00:00:00:01"))
    (event,) = observer.log_events([ENDED])
    return event


def test_the_log_of_the_monitoring_howto(tmp_path: Path) -> None:
    settings = load_configuration(tmp_path, blocks(PAGE, "toml")[0]).settings
    assert settings.log == LogSettings("json", "info")
    documented = json.loads(blocks(PAGE, "json")[0])
    assert list(documented) == list(json.loads(as_json(log_event())))
    assert documented == {**json.loads(as_json(log_event())), "time": documented["time"], "seconds": 0.24}


def test_the_fields_of_the_journal_in_the_monitoring_howto() -> None:
    (commands,) = blocks(PAGE, "console")
    entry = as_datagram(log_event()).decode()
    for field in re.findall(r"BOOTFW_\w+=\S+", commands):
        assert f"\n{field}\n" in entry


def test_the_metrics_of_the_monitoring_howto(tmp_path: Path) -> None:
    settings = load_configuration(tmp_path, blocks(PAGE, "toml")[1]).settings
    assert settings.metrics == MetricsSettings(listen=("10.77.0.1:9150",))
    (scraped,) = yaml.safe_load(blocks(PAGE, "yaml")[0])["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": ["10.77.0.1:9150"]}]
    assert scraped["job_name"] == "bootfw"


@NEEDS_PROMTOOL
@pytest.mark.interop
def test_prometheus_takes_the_configuration_and_the_rules(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(blocks(PAGE, "yaml")[0])
    (tmp_path / "alerts.yml").write_text((FILES / "alerts.yml").read_text())
    for command in (["config", "prometheus.yml"], ["rules", "alerts.yml"]):
        result = subprocess.run([PROMTOOL, "check", *command], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr


def metric_names() -> set[str]:
    """Every name of a sample that is served."""
    source = (ROOT / "bootfw/observe/metrics.py").read_text()
    gauges = set(re.findall(r'gauge\(\s*"(\w+)"', source)) | {"process_cpu_seconds_total", "up"}
    histograms = {f"{family.name}_bucket" for family in HISTOGRAMS}
    return {f"{family.name}_total" for family in COUNTERS} | histograms | gauges


@pytest.mark.parametrize("name", ["alerts.yml", "grafana.json"])
def test_rules_and_dashboard_use_metrics_that_exist(name: str) -> None:
    if name == "alerts.yml":
        (group,) = yaml.safe_load((FILES / name).read_text())["groups"]
        expressions = [rule["expr"] for rule in group["rules"]]
    else:
        panels = json.loads((FILES / name).read_text())["panels"]
        expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    used = {metric for text in expressions for metric in re.findall(r"\b(?:bootfw|process)_\w+|\bup\b", text)}
    assert used - metric_names() == set()


def test_every_counter_is_on_the_dashboard_or_has_an_alert() -> None:
    text = (FILES / "alerts.yml").read_text() + (FILES / "grafana.json").read_text()
    used = {*re.findall(r"bootfw_\w+", text)}
    not_shown = {"bootfw_dhcp_addresses_in_use_total"}
    assert {f"{family.name}_total" for family in COUNTERS} - used == not_shown


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    occupied: set[tuple[int, int]] = set()
    panels = json.loads((FILES / "grafana.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        position = panel["gridPos"]
        cells = {(position["x"] + x, position["y"] + y) for x in range(position["w"]) for y in range(position["h"])}
        assert not cells & occupied, panel["title"]
        assert all(x < 24 for x, _ in cells)
        occupied |= cells


def test_the_traces_of_the_monitoring_howto(tmp_path: Path) -> None:
    (_, log), (_, otel) = load_configuration(tmp_path, blocks(PAGE, "toml")[2]).observers
    assert isinstance(log, LogObserver)
    assert isinstance(otel, OpenTelemetry)


def test_the_webhook_of_the_monitoring_howto(tmp_path: Path) -> None:
    _, (_, hook) = load_configuration(tmp_path, blocks(PAGE, "toml")[3]).observers
    assert isinstance(hook, Webhook)
    documented = json.loads(blocks(PAGE, "json")[1])
    (record,) = hook._records(OtherServerSeen(1.0, "10.77.0.254", "eth0", "52:54:00:00:00:01"))
    assert documented == {"events": [{**record, "time": documented["events"][0]["time"]}]}


def test_the_receiver_of_the_monitoring_howto() -> None:
    (source,) = blocks(PAGE, "python")
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    body = b'{"events": []}'
    assert namespace["is_from_bootfw"]("secret", body, f"sha256={signature('secret', body)}")
    assert not namespace["is_from_bootfw"]("other", body, f"sha256={signature('secret', body)}")

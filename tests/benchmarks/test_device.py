"""Descriptions and sensors of the machine, tested on recordings and on fakes of the boards' libraries."""

import json
import math
import os
import platform
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecascade.benchmarks.device import board as board_module
from edgecascade.benchmarks.device import watching
from edgecascade.benchmarks.device.board import Clock, read_board, read_number, read_text
from edgecascade.benchmarks.device.environment import Environment, read_environment
from edgecascade.benchmarks.device.sensors import Sensor, Sensors, find_sensors
from edgecascade.benchmarks.device.throttling import Throttling, decode_get_throttled, read_throttling, slowdowns
from edgecascade.benchmarks.device.watching import Energy, Meter, hottest, measured, resident_mib, watched
from edgecascade.benchmarks.report.result import plain

_CPU = "sys/devices/system/cpu"
_THERMAL = "sys/class/thermal"

ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n",
    f"{_CPU}/cpufreq/policy0/related_cpus": "0 1 2 3\n",
    f"{_CPU}/cpufreq/policy0/scaling_governor": "schedutil\n",
    f"{_CPU}/cpufreq/policy0/scaling_cur_freq": "729600\n",
    f"{_CPU}/cpufreq/policy0/scaling_max_freq": "1510400\n",
    f"{_CPU}/cpufreq/policy0/cpuinfo_max_freq": "1728000\n",
    f"{_CPU}/cpufreq/policy4/related_cpus": "4 5\n",
    f"{_CPU}/cpufreq/policy4/scaling_governor": "schedutil\n",
    f"{_CPU}/cpufreq/policy4/scaling_cur_freq": "1728000\n",
    "sys/class/devfreq/17000000.gpu/governor": "nvhost_podgov\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/available_frequencies": "306000000 408000000 1020000000 \n",
    f"{_THERMAL}/cooling_device0/type": "pwm-fan\n",
    f"{_THERMAL}/cooling_device0/cur_state": "2\n",
    f"{_THERMAL}/cooling_device0/max_state": "4\n",
    f"{_THERMAL}/cooling_device1/type": "cpu-throttle-alert\n",
    f"{_THERMAL}/cooling_device1/cur_state": "0\n",
    f"{_THERMAL}/cooling_device1/max_state": "1\n",
    "sys/class/hwmon/hwmon0/name": "pwmfan\n",
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon1/in1_input": "4984\n",
    "sys/class/hwmon/hwmon1/curr1_input": "936\n",
    "sys/class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon1/in2_input": "4976\n",
    "sys/class/hwmon/hwmon1/curr2_input": "104\n",
    "sys/class/hwmon/hwmon1/in3_label": "VDD_SOC\n",
    "sys/class/hwmon/hwmon1/in3_input": "4976\n",
    "sys/class/hwmon/hwmon1/curr3_input": "280\n",
    "sys/class/hwmon/hwmon1/in4_input": "4680\n",
    "sys/class/hwmon/hwmon1/in7_input": "6080\n",
    "sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages\n",
    "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon3/oc3_event_cnt": "37\n",
}

RASPBERRY_PI = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    f"{_CPU}/cpufreq/policy0/related_cpus": "0 1 2 3\n",
    f"{_CPU}/cpufreq/policy0/scaling_governor": "ondemand\n",
    f"{_CPU}/cpufreq/policy0/scaling_cur_freq": "1500000\n",
    f"{_CPU}/cpufreq/policy0/scaling_max_freq": "2400000\n",
    f"{_CPU}/cpufreq/policy0/cpuinfo_max_freq": "2400000\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50000\n",
}

LAPTOP = {
    "sys/class/dmi/id/sys_vendor": "LENOVO\n",
    "sys/class/dmi/id/product_name": "20XW0026GE\n",
    **{
        f"{_CPU}/cpu{cpu}/{name}": content
        for cpu in range(4)
        for name, content in [
            ("topology/physical_package_id", "0\n"),
            ("topology/core_id", f"{cpu % 2}\n"),
            ("thermal_throttle/core_throttle_count", f"{10 + cpu % 2}\n"),
            ("thermal_throttle/package_throttle_count", "42\n"),
        ]
    },
    f"{_THERMAL}/cooling_device0/type": "TCC Offset\n",
    f"{_THERMAL}/cooling_device0/cur_state": "3\n",
    f"{_THERMAL}/cooling_device0/max_state": "63\n",
    f"{_THERMAL}/cooling_device1/type": "intel_powerclamp\n",
    f"{_THERMAL}/cooling_device1/cur_state": "-1\n",
    f"{_THERMAL}/cooling_device1/max_state": "100\n",
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "262140000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:0:0/name": "core\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "1000000\n",
    "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl-mmio:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl-mmio:0/energy_uj": "262140000000\n",
}
_RECORDINGS = ORIN_NANO | LAPTOP | RASPBERRY_PI
del _RECORDINGS["etc/nv_tegra_release"]  # which would query the jetson-stats of this machine


def _write(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode(errors="surrogateescape"))
    return root


def _read(found: Sensors) -> dict[str, float | None]:
    return {sensor.name: sensor.read() for sensor in found.found}


@pytest.fixture
def jetson(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Return a fake of jetson-stats, as documented, with a running service."""
    service = SimpleNamespace(
        board={"hardware": {"L4T": "36.4.3", "Jetpack": "6.2"}}, nvpmodel=SimpleNamespace(name="MAXN_SUPER", id=2)
    )

    @contextmanager
    def jtop() -> Iterator[SimpleNamespace]:
        if service.board is None:
            raise OSError("the jtop.service is not active")
        yield service

    monkeypatch.setitem(sys.modules, "jtop", SimpleNamespace(jtop=jtop))
    board_module._jetson.cache_clear()
    yield service
    board_module._jetson.cache_clear()


def test_a_jetson_is_identified_by_jetson_stats(tmp_path: Path, jetson: SimpleNamespace) -> None:
    """jetson-stats gives release, JetPack and power mode; the kernel gives model and clocks."""
    board = read_board(_write(tmp_path, ORIN_NANO))
    assert board.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (board.l4t, board.jetpack, board.power_mode) == ("36.4.3", "6.2", "MAXN_SUPER (2)")
    assert board.clocks == (
        Clock("cpu 0-3", "schedutil", pytest.approx(729.6), pytest.approx(1510.4), 1728.0),  # type: ignore[arg-type]
        Clock("cpu 4-5", "schedutil", 1728.0, None, None),
        Clock("17000000.gpu", "nvhost_podgov", 306.0, 1020.0, 1020.0),
    )
    assert jetson.nvpmodel.id == 2


@pytest.mark.parametrize("board", [None, {}, {"hardware": {"L4T": "", "Jetpack": ""}}])
def test_missing_values_of_jetson_stats_are_none(
    tmp_path: Path, jetson: SimpleNamespace, board: dict[str, Any] | None
) -> None:
    """Cases are a stopped service, another layout, and an unknown release."""
    jetson.board, jetson.nvpmodel = board, None
    found = read_board(_write(tmp_path, ORIN_NANO))
    assert (found.l4t, found.jetpack, found.power_mode) == (None, None, None)
    assert len(found.clocks) == 3


def test_only_a_jetson_queries_jetson_stats(tmp_path: Path, jetson: SimpleNamespace) -> None:
    """Other boards have no release of Jetson Linux."""
    assert read_board(_write(tmp_path, RASPBERRY_PI)).l4t is None
    assert jetson.board is not None


def test_throttling_is_distinguished_from_cooling(tmp_path: Path) -> None:
    """A running fan is not throttling; a throttle alert and an over-current event between readings are."""
    before = read_throttling(_write(tmp_path, ORIN_NANO))
    assert before.counts == {"oc1 event": 0, "oc3 event": 37}
    assert slowdowns(before, before) == ()
    _write(tmp_path, {f"{_THERMAL}/cooling_device1/cur_state": "1", "sys/class/hwmon/hwmon3/oc3_event_cnt": "40"})
    assert slowdowns(before, read_throttling(tmp_path)) == ("oc3 event: 3 times", "cpu-throttle-alert: state 1 of 1")


def test_power_of_a_rail_is_voltage_times_current(tmp_path: Path) -> None:
    """An Orin Nano has three rails named with their sensor; shunt voltages are not rails."""
    sensors = find_sensors(_write(tmp_path, ORIN_NANO))
    assert sensors.silent == ()
    assert _read(sensors) == {
        "VDD_IN (INA3221, hwmon1 channel 1)": pytest.approx(4.984 * 0.936),
        "VDD_CPU_GPU_CV (INA3221, hwmon1 channel 2)": pytest.approx(4.976 * 0.104),
        "VDD_SOC (INA3221, hwmon1 channel 3)": pytest.approx(4.976 * 0.280),
    }


def test_a_raspberry_pi_reports_throttling_and_no_power(tmp_path: Path) -> None:
    """Throttling before the first reading is not counted; throttling that persists or begins later is."""
    board, before = read_board(_write(tmp_path, RASPBERRY_PI)), read_throttling(tmp_path)
    assert (board.model, board.l4t, board.power_mode) == ("Raspberry Pi 5 Model B Rev 1.0", None, None)
    assert find_sensors(tmp_path) == Sensors((), ())
    assert before.raspberry_pi == ("under-voltage since start", "throttled since start")
    assert slowdowns(before, before) == ()
    _write(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "d0008"})
    after = read_throttling(tmp_path)
    assert slowdowns(before, after) == ("soft temperature limit now", "soft temperature limit since start")
    assert slowdowns(after, after) == ("soft temperature limit now",)


def test_energy_and_throttling_are_counted_once_each(tmp_path: Path) -> None:
    """Threads share the count of their core, and cores that of their package; MMIO adds no second package."""
    sensors = find_sensors(_write(tmp_path, LAPTOP))
    assert read_board(tmp_path).model == "LENOVO 20XW0026GE"
    assert [(sensor.name, sensor.method) for sensor in sensors.found] == [
        ("package-0 (RAPL, intel-rapl:0)", "counter"),
        ("core (RAPL, intel-rapl:0:0)", "counter"),
    ]
    assert [sensor.limit for sensor in sensors.found] == [pytest.approx(262143.32885)] * 2
    before = read_throttling(tmp_path)
    assert before.counts == {"core throttled": 21, "package throttled": 42}
    _write(tmp_path, {f"{_CPU}/cpu{cpu}/thermal_throttle/package_throttle_count": "45" for cpu in range(4)})
    assert slowdowns(before, read_throttling(tmp_path)) == ("package throttled: 3 times",)


def test_an_unreadable_energy_counter_is_reported(tmp_path: Path) -> None:
    """The report names the counter, which only root may read."""
    _write(tmp_path, LAPTOP)
    energy = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    energy.unlink()
    energy.mkdir()
    sensors = find_sensors(tmp_path)
    assert [sensor.name for sensor in sensors.found] == ["core (RAPL, intel-rapl:0:0)"]
    assert sensors.silent == ("package-0 (RAPL, intel-rapl:0)",)


def test_gpus_are_read_through_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that reports power is a sensor in watts; any other GPU is listed as not measured."""

    class NVMLError(Exception):
        """The error of the fake library."""

    def power(handle: int) -> int:
        if handle:
            raise NVMLError("Not Supported")
        return 71_360

    nvml = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: ("NVIDIA L4", "Orin (nvgpu)")[handle],
        nvmlDeviceGetPowerUsage=power,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    sensors = find_sensors()
    assert _read(sensors)["GPU 0 NVIDIA L4 (NVML)"] == pytest.approx(71.36)
    assert "GPU 1 Orin (nvgpu) (NVML)" in sensors.silent

    def no_driver() -> None:
        raise NVMLError("Driver Not Loaded")

    monkeypatch.setattr(nvml, "nvmlInit", no_driver)
    assert not [name for name in _read(find_sensors()) if "NVML" in name]


def test_a_bare_machine_reports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure is None or empty, and throttling is unknown instead of false."""
    board, throttling = read_board(tmp_path), read_throttling(tmp_path)
    assert (board.model, board.l4t, board.jetpack, board.power_mode, board.clocks) == (None, None, None, None, ())
    assert throttling == Throttling({}, {}, False, None)
    assert slowdowns(throttling, throttling) is None
    monkeypatch.setattr(psutil, "sensors_temperatures", dict, raising=False)
    assert hottest() is None
    monkeypatch.delattr(psutil, "sensors_temperatures")
    assert hottest() is None
    with measured(find_sensors(tmp_path).found) as found:
        pass
    assert (found.energies, found.courses) == ((), ())


def test_a_disabled_part_has_no_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Tegra reports -256 degrees for a part without power."""

    def zone(celsius: float | None) -> list[SimpleNamespace]:
        return [SimpleNamespace(current=celsius)]

    sensors = {"cpu": zone(48.062), "cv0": zone(-256.0), "gpu": zone(None), "tj": zone(49.5)}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors, raising=False)
    assert hottest() == 49.5
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: {"cv0": zone(-256.0)}, raising=False)
    assert hottest() is None


def test_this_machine_is_measured_without_an_error() -> None:
    """Its memory is measured, and unavailable values are None or empty."""
    before = resident_mib()
    with watched(before) as found:
        assert found.state is None
    state = found.state
    assert state is not None
    assert before is not None
    assert state.resident_peak is not None
    assert state.resident_peak > 1
    assert state.growth is not None
    assert all(energy.joules is None or energy.joules >= 0 for energy in state.energies)
    assert all(math.isfinite(course.mean) for course in state.during)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(sorted(_RECORDINGS)), st.binary(max_size=40) | st.none()))
def test_damaged_files_are_not_measured(damage: dict[str, bytes | None]) -> None:
    """With random bytes, or a folder in place of a file, no reader raises and every number is finite."""
    with tempfile.TemporaryDirectory() as folder:
        root = _write(Path(folder), _RECORDINGS)
        for name, content in damage.items():
            (root / name).unlink()
            (root / name).mkdir() if content is None else (root / name).write_bytes(content)
        board, throttling, sensors = read_board(root), read_throttling(root), find_sensors(root)
        slowdowns(throttling, throttling)
        numbers = [clock.megahertz for clock in board.clocks] + [*_read(sensors).values()]
    assert all(number is None or math.isfinite(number) for number in numbers)


@given(st.text())
def test_invalid_firmware_output_is_none(text: str) -> None:
    """Any text but a bit mask gives None."""
    decode_get_throttled(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("throttled=0x0\n", ()),
        ("0", ()),
        ("50005", ("under-voltage now", "throttled now", "under-voltage since start", "throttled since start")),
        ("throttled=0x20002", ("frequency capped now", "frequency capped since start")),
        ("throttled=", None),
        ("error=1", None),
        ("", None),
    ],
)
def test_get_throttled_is_described_in_words(text: str, said: tuple[str, ...] | None) -> None:
    """The formats of sysfs and vcgencmd are both read."""
    assert decode_get_throttled(text) == said


@pytest.mark.parametrize("content", ["", "\0", "five", "nan", "inf", "-", "1 2"])
def test_an_unreadable_number_is_none(tmp_path: Path, content: str) -> None:
    """Text, a missing file and a folder give None."""
    (tmp_path / "file").write_text(content)
    assert read_number(tmp_path / "file") is None
    assert read_number(tmp_path) is None
    assert read_text(tmp_path / "none") is None


_RECORDED = {
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU\ncpu MHz\t\t: 1200.5\nflags\t\t: fpu hypervisor sse\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    ".dockerenv": "",
    "proc/device-tree/model": "Some Board\0",
    "sys/devices/system/cpu/cpufreq/policy0/related_cpus": "0 1\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "performance\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1800000\n",
}


def _environment(root: Path, recorded: Mapping[str, str]) -> Environment:
    for name, content in recorded.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return read_environment(root)


def test_the_machine_is_described(tmp_path: Path) -> None:
    """The description has the processor, quota, board, clocks, and container from the machine's files."""
    found = _environment(tmp_path, _RECORDED)
    assert (found.processor, found.cpu_quota, found.board) == ("Some CPU", 1.5, "Some Board")
    assert (found.governor, found.megahertz, found.limit_megahertz) == ("performance", 1500.0, 1800.0)
    assert (found.container, found.virtual_machine) == ("Docker", True)
    rows = dict(found.rows())
    assert rows["clock"] == "1500 MHz"
    assert rows["CPU quota"] == "1.5 cores"
    assert rows["virtual machine"] == "yes"
    assert "power mode" in rows["not set, or not reported"]


@pytest.mark.parametrize(
    ("cores", "name"),
    [
        pytest.param([("0x41", "0xd42")] * 8, "Cortex-A78AE", id="Jetson Orin"),
        pytest.param([("0x4e", "0x003")] * 2 + [("0x41", "0xd07")] * 4, "Denver 2, Cortex-A57", id="Jetson TX2"),
        pytest.param([("0x41", "0xfff")], "Arm core of implementer 0x41, part 0xfff", id="an unknown part"),
    ],
)
def test_an_arm_processor_is_named_by_its_cores(tmp_path: Path, cores: list[tuple[str, str]], name: str) -> None:
    """Linux gives only numbers for Arm; each design is named once."""
    told = "".join(f"processor\t: {i}\nCPU implementer\t: {a}\nCPU part\t: {b}\n\n" for i, (a, b) in enumerate(cores))
    assert _environment(tmp_path, {"proc/cpuinfo": told}).processor == name


def test_unknown_properties_of_the_machine_are_none(tmp_path: Path) -> None:
    """An empty system gives no values, and the page says so."""
    found = _environment(tmp_path, {"sys/fs/cgroup/cpu.max": "max 100000\n", "proc/cpuinfo": "no such field\n"})
    told = (found.cpu_quota, found.board, found.governor, found.megahertz, found.container, found.virtual_machine)
    assert told == (None,) * 6
    untold = dict(found.rows())["not set, or not reported"].split(", ")
    assert {"CPU quota", "board", "JetPack", "governor", "clock", "container", "virtual machine"} <= set(untold)


@pytest.mark.parametrize(
    ("recorded", "quota"),
    [
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "rubbish"}, None),
        ({"cpu.max": "100 0"}, None),
    ],
)
def test_a_cpu_quota_is_read_from_cgroups(tmp_path: Path, recorded: dict[str, str], quota: float | None) -> None:
    """Versions 1 and 2 are read; a missing or invalid quota is None."""
    found = _environment(tmp_path, {f"sys/fs/cgroup/{name}": content for name, content in recorded.items()})
    assert found.cpu_quota == quota


def test_no_host_name_and_no_path_is_recorded() -> None:
    """The description of this machine does not identify it."""
    import sys

    told = json.dumps(plain(read_environment()))
    assert os.path.dirname(sys.executable) not in told
    assert os.path.expanduser("~") not in told
    name = platform.node()
    assert not name or not re.search(rf"\b{re.escape(name)}\b", told)


attempts = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50) | st.none()), min_size=1, max_size=30)


def _power() -> Meter:
    return Meter(Sensor("power", "samples", lambda: None))


def _counter(limit: float | None) -> Meter:
    return Meter(Sensor("counter", "counter", lambda: None, limit))


@given(attempts)
def test_the_integral_is_the_area_under_the_readings(steps: list[tuple[int, int | None]]) -> None:
    """It equals the sum of heights at the middle of every second, with missing readings interpolated linearly."""
    meter, moment, answers = _power(), 0, dict[int, int]()
    for gap, watts in steps:
        moment += gap + 1
        meter.add(moment, watts)
        if watts is not None:
            answers[moment] = watts
    seconds = np.arange(min(answers, default=0), max(answers, default=0)) + 0.5
    expected = float(np.interp(seconds, list(answers), list(answers.values())).sum()) if len(seconds) else 0.0
    assert meter.joules == pytest.approx(expected)
    assert (meter.samples, meter.missed) == (len(answers), len(steps) - len(answers))
    assert meter.longest_gap == max(np.diff(list(answers)), default=0)


@given(st.integers(1, 1000), st.data())
def test_a_counter_may_wrap_any_number_of_times(limit: int, data: st.DataObject) -> None:
    """It must be read at least once per wrap."""
    rises = data.draw(st.lists(st.integers(0, limit - 1), max_size=40))
    start = data.draw(st.integers(0, limit - 1))
    meter = _counter(float(limit))
    for moment, joules in enumerate(np.cumsum([start, *rises])):
        meter.add(float(moment), float(joules % limit))
    assert meter.joules == sum(rises)


@pytest.mark.parametrize("make", [_power, lambda: _counter(100.0)])
def test_memory_does_not_grow_with_the_measurement(make: Callable[[], Meter]) -> None:
    """The readings of a night take no more memory than those of a minute."""
    sizes = []
    meter = make()
    for moment in range(20_000):
        meter.add(float(moment), float(moment % 100))
        if moment in (100, 19_999):
            sizes.append(sum(sys.getsizeof(value) for value in vars(meter).values()))
    assert sizes[1] < sizes[0] + 20


@pytest.mark.parametrize(
    ("limit", "values", "joules"),
    [
        (100.0, (90.0, 5.0), 15.0),
        (None, (90.0, 5.0), None),
        (80.0, (90.0, 5.0), None),
        (None, (1.0, 3.0, 2.0, 9.0), None),
    ],
)
def test_an_unexplained_fall_of_a_counter_is_not_measured(
    limit: float | None, values: tuple[float, ...], joules: float | None
) -> None:
    """A missing range, or a range below the counter's value, cannot explain a fall."""
    meter = _counter(limit)
    for value in values:
        meter.add(0.0, value)
    assert meter.joules == joules


class _Answers:
    """A callable whose result is a function of the number of earlier calls."""

    def __init__(self, answer: Callable[[int], float | None]) -> None:
        self._answer = answer
        self.asked = 0

    def __call__(self) -> float | None:
        self.asked += 1
        return self._answer(self.asked - 1)


def _measure(answers: _Answers, until: int = 5) -> Energy:
    with measured([Sensor("made up", "samples", answers)], rate=500) as found:
        _asked(answers, until)
    (energy,) = found.energies
    return energy


def _asked(answers: _Answers, until: int) -> None:
    ends = time.monotonic() + 30
    while answers.asked < until and time.monotonic() < ends:
        time.sleep(0.001)
    assert answers.asked >= until


def _sampling() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "power sampling"]


def test_constant_power_is_power_times_time() -> None:
    """The energy covers the block from just before to just after it, and is also given per inference."""
    energy = _measure(_Answers(lambda _: 5.0))
    assert energy.joules == pytest.approx(5.0 * energy.seconds)
    assert energy.watts == pytest.approx(5.0)
    assert energy.per(10) == pytest.approx(energy.seconds / 2)
    assert energy.samples >= 6
    assert (energy.sensor, energy.method, energy.missed) == ("made up", "samples", 0)


def test_readings_enclose_the_block_and_the_thread_ends_with_it() -> None:
    """Even a block shorter than the sampling interval has two readings."""
    answers = _Answers(lambda _: 2.0)
    with measured([Sensor("made up", "samples", answers)], rate=0.01) as found:
        assert answers.asked == 1
    (energy,) = found.energies
    assert (energy.samples, answers.asked) == (2, 2)
    assert energy.seconds > 0
    assert not _sampling()


def test_energy_is_the_difference_of_a_counter() -> None:
    """The counter rises by 30 J at every reading and wraps at 100 J."""
    answers = _Answers(lambda n: (90.0 + 30.0 * n) % 100)
    with measured([Sensor("made up", "counter", answers, 100.0)], rate=500) as found:
        _asked(answers, 8)
    (energy,) = found.energies
    assert energy.method == "counter"
    assert energy.joules == pytest.approx(30.0 * (energy.samples - 1))


@pytest.mark.parametrize("answers_at", [lambda n: n > 0, lambda n: n < 3, lambda _: False])
def test_readings_that_do_not_enclose_the_block_give_no_energy(answers_at: Callable[[int], bool]) -> None:
    """With a sensor that starts late, stops or never answers, the energy is None, not 0."""
    energy = _measure(_Answers(lambda n: 5.0 if answers_at(n) else None))
    assert energy.joules is None
    assert energy.per(10) is None
    assert energy.missed > 0


def test_an_intermittent_sensor_is_interpolated_and_counted() -> None:
    """An exception counts as a missing reading and ends neither the thread nor the block."""

    def answer(asked: int) -> float | None:
        if asked == 2:
            raise OSError("resource temporarily unavailable")
        return math.nan if asked == 3 else 4.0

    energy = _measure(_Answers(answer), until=8)
    assert energy.joules == pytest.approx(4.0 * energy.seconds)
    assert energy.missed == 2


def test_a_blocked_sensor_does_not_delay_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block ends, and the energy is None."""
    monkeypatch.setattr(watching, "_STOP_SECONDS", 0.05)
    released = threading.Event()

    def answer(asked: int) -> float | None:
        if asked:
            released.wait(60)
        return 1.0

    energy = _measure(_Answers(answer), until=2)
    hanging = _sampling()
    released.set()
    for thread in hanging:
        thread.join(60)
    assert hanging
    assert energy.joules is None
    assert energy.samples == 1


def test_an_error_in_the_block_is_raised_and_the_energy_recorded() -> None:
    """The energy covers the time until the error."""
    sensor = Sensor("made up", "samples", lambda: 1.0)
    with pytest.raises(KeyError), measured([sensor]) as found:
        raise KeyError("block")
    assert found.energies[0].joules is not None


def test_gauges_are_recorded_with_the_power() -> None:
    """Lowest, mean and highest values are recorded; a gauge that never answers is omitted."""
    rising = _Answers(float)
    gauges: dict[str, Callable[[], float | None]] = {"celsius": rising, "nothing": lambda: None}
    with measured([], rate=500, gauges=gauges) as found:
        _asked(rising, 4)
    (shown,) = found.courses
    assert (shown.name, shown.least, shown.most) == ("celsius", 0.0, shown.samples - 1)
    assert shown.mean == pytest.approx((shown.samples - 1) / 2)

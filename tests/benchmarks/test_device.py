"""What a benchmark says of the machine it ran on, tested on recordings: written here as published ones look."""

import math
import pickle
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecascade.benchmarks.device import sampling
from edgecascade.benchmarks.device.board import Clock, jetpack_of, parse_l4t, parse_nvpmodel, read_board
from edgecascade.benchmarks.device.energy import CounterTotal, Energy, Trapezoid, counter_difference
from edgecascade.benchmarks.device.gpu import decode_clock_reasons, parse_nvidia_smi, query_gpus
from edgecascade.benchmarks.device.power import Sensors, find_sensors
from edgecascade.benchmarks.device.sampling import measured
from edgecascade.benchmarks.device.system import command_output, read_number, read_text
from edgecascade.benchmarks.device.tegrastats import Core, Rail, parse_tegrastats
from edgecascade.benchmarks.device.thermal import (
    Thermal,
    Trip,
    decode_get_throttled,
    hottest,
    read_thermal,
    slowdowns,
)
from edgecascade.runtime.errors import ArgumentError

_CPU = "sys/devices/system/cpu"
_THERMAL = "sys/class/thermal"

ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n",
    "var/lib/nvpmodel/status": "pmode:0002\n",
    "etc/nvpmodel.conf": "# < POWER_MODEL ID=2 NAME=OLD >\n< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n"
    "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=1 >\n",
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
    f"{_THERMAL}/thermal_zone0/type": "cpu-thermal\n",
    f"{_THERMAL}/thermal_zone0/temp": "48062\n",
    f"{_THERMAL}/thermal_zone0/trip_point_0_type": "critical\n",
    f"{_THERMAL}/thermal_zone0/trip_point_0_temp": "104500\n",
    f"{_THERMAL}/thermal_zone0/trip_point_1_type": "passive\n",
    f"{_THERMAL}/thermal_zone0/trip_point_1_temp": "99000\n",
    f"{_THERMAL}/thermal_zone2/type": "cv0-thermal\n",
    f"{_THERMAL}/thermal_zone2/temp": "-256000\n",
    f"{_THERMAL}/thermal_zone10/type": "tj-thermal\n",
    f"{_THERMAL}/thermal_zone10/temp": "49500\n",
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

XAVIER = {
    "proc/device-tree/model": "Jetson-AGX\0",
    "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t186ref, EABI: aarch64, "
    "DATE: Sat Feb 19 17:07:00 UTC 2022\n",
    "var/lib/nvpmodel/status": "pmode:0000",
    **{
        f"sys/bus/i2c/drivers/ina3221x/1-004{chip}/iio:device{chip}/{name}": content
        for chip, rails in enumerate([("GPU", "CPU", "SOC"), ("CV", "VDDRQ", "NC")])
        for channel, rail in enumerate(rails)
        for name, content in [(f"rail_name_{channel}", f"{rail}\n"), (f"in_power{channel}_input", f"{310 + channel}\n")]
    },
}

RASPBERRY_PI = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    f"{_CPU}/cpufreq/policy0/related_cpus": "0 1 2 3\n",
    f"{_CPU}/cpufreq/policy0/scaling_governor": "ondemand\n",
    f"{_CPU}/cpufreq/policy0/scaling_cur_freq": "1500000\n",
    f"{_CPU}/cpufreq/policy0/scaling_max_freq": "2400000\n",
    f"{_CPU}/cpufreq/policy0/cpuinfo_max_freq": "2400000\n",
    f"{_THERMAL}/thermal_zone0/type": "cpu-thermal\n",
    f"{_THERMAL}/thermal_zone0/temp": "53350\n",
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

JETPACK_6 = (
    "09-21-2026 16:47:06 RAM 1954/7620MB (lfb 4x4MB) SWAP 12/3810MB (cached 0MB) "
    "CPU [7%@883,0%@883,off,off,12%@729,0%@729] EMC_FREQ 3%@2133 GR3D_FREQ 41%@[305] NVDEC off NVJPG off VIC off "
    "OFA off APE 200 cpu@48.062C soc2@47.343C cv0@-256C gpu@48.156C tj@48.218C "
    "VDD_IN 4523mW/4611mW VDD_CPU_GPU_CV 524mW/524mW VDD_SOC 1373mW/1373mW\n"
)
JETPACK_5_XAVIER = (
    "RAM 2690/6854MB (lfb 6x1MB) SWAP 479/3427MB (cached 3MB) CPU [3%@1904,7%@1906,1%@1905,0%@1907,off,off] "
    "EMC_FREQ 0%@1600 GR3D_FREQ 5%@[510] VIC_FREQ 601 APE 150 AUX@39C CPU@39.5C AO@37.5C GPU@37.5C PMIC@50C "
    "VDD_IN 5079mW/5000mW VDD_CPU_GPU_CV 696mW/690mW VDD_SOC 1104mW/1104mW"
)
JETPACK_4_AGX_XAVIER = (
    "RAM 721/31927MB (lfb 7291x4MB) SWAP 0/15963MB (cached 0MB) CPU [2%@1190,0%@1190,off,off] EMC_FREQ 0%@665 "
    "GR3D_FREQ 0%@318 APE 150 MTS fg 0% bg 0% AO@37.5C GPU@37.5C Tboard@37C GPU 0/1 CPU 311/312 SYS5V 1482/1483"
)


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode(errors="surrogateescape"))
    return root


def _tell(found: Sensors) -> dict[str, float | None]:
    return {sensor.name: sensor.watts() for sensor in found.power}


def test_an_orin_nano_says_what_it_is(tmp_path: Path) -> None:
    """Model, release, JetPack, the mode's name and the clocks, each with its limit and with what the hardware can."""
    board = read_board(_write(tmp_path, ORIN_NANO))
    assert board.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (board.l4t, board.jetpack, board.power_mode) == ("36.4.3", "6.2", "MAXN_SUPER (2)")
    assert board.clocks == (
        Clock("cpu 0-3", "schedutil", pytest.approx(729.6), pytest.approx(1510.4), 1728.0),  # type: ignore[arg-type]
        Clock("cpu 4-5", "schedutil", 1728.0, None, None),
        Clock("17000000.gpu", "nvhost_podgov", 306.0, 1020.0, 1020.0),
    )


def test_an_orin_nano_says_how_hot_it_is(tmp_path: Path) -> None:
    """A part without power has no temperature, whatever its sensor says."""
    found = read_thermal(_write(tmp_path, ORIN_NANO))
    assert [(zone.name, zone.celsius) for zone in found.zones] == [
        ("cpu-thermal", pytest.approx(48.062)),
        ("cv0-thermal", None),
        ("tj-thermal", 49.5),
    ]
    assert found.zones[0].trips == (Trip("critical", 104.5), Trip("passive", 99.0))
    assert found.counts == {"oc1 event": 0, "oc3 event": 37}
    assert hottest(tmp_path) == 49.5


def test_what_slows_a_machine_down_is_told_from_what_only_cools_it(tmp_path: Path) -> None:
    """A fan that turns is no slowdown; a throttle alert, and an over-current event between the readings, are."""
    before = read_thermal(_write(tmp_path, ORIN_NANO))
    assert slowdowns(before, before) == ()
    _write(tmp_path, {f"{_THERMAL}/cooling_device1/cur_state": "1", "sys/class/hwmon/hwmon3/oc3_event_cnt": "40"})
    assert slowdowns(before, read_thermal(tmp_path)) == ("oc3 event: 3 times", "cpu-throttle-alert: state 1 of 1")


def test_rails_of_an_orin_nano_are_voltage_times_current(tmp_path: Path) -> None:
    """Three rails, named with their sensor; the shunt voltages beside them are no rails."""
    sensors = find_sensors(_write(tmp_path, ORIN_NANO))
    assert sensors.silent == ()
    assert _tell(sensors) == {
        "VDD_IN (INA3221, hwmon1 channel 1)": pytest.approx(4.984 * 0.936),
        "VDD_CPU_GPU_CV (INA3221, hwmon1 channel 2)": pytest.approx(4.976 * 0.104),
        "VDD_SOC (INA3221, hwmon1 channel 3)": pytest.approx(4.976 * 0.280),
    }


def test_a_xavier_of_the_older_layout_tells_the_power_itself(tmp_path: Path) -> None:
    """Two chips below the driver, channels from 0, milliwatts; what is not connected is left out."""
    board, sensors = read_board(_write(tmp_path, XAVIER)), find_sensors(tmp_path)
    assert (board.model, board.l4t, board.jetpack, board.power_mode) == ("Jetson-AGX", "32.7.1", "4.6.1", "0")
    assert _tell(sensors) == {
        "GPU (INA3221, 1-0040 channel 0)": pytest.approx(0.310),
        "CPU (INA3221, 1-0040 channel 1)": pytest.approx(0.311),
        "SOC (INA3221, 1-0040 channel 2)": pytest.approx(0.312),
        "CV (INA3221, 1-0041 channel 0)": pytest.approx(0.310),
        "VDDRQ (INA3221, 1-0041 channel 1)": pytest.approx(0.311),
    }


def test_a_raspberry_pi_tells_that_it_was_throttled_and_measures_no_power(tmp_path: Path) -> None:
    """What happened before the first reading is not blamed on the run; what lasts, or is new, is."""
    board, before = read_board(_write(tmp_path, RASPBERRY_PI)), read_thermal(tmp_path)
    assert (board.model, board.l4t, board.power_mode) == ("Raspberry Pi 5 Model B Rev 1.0", None, None)
    assert find_sensors(tmp_path) == Sensors((), (), ())
    assert before.raspberry_pi == ("under-voltage since start", "throttled since start")
    assert slowdowns(before, before) == ()
    _write(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "d0008"})
    after = read_thermal(tmp_path)
    assert slowdowns(before, after) == ("soft temperature limit now", "soft temperature limit since start")
    assert slowdowns(after, after) == ("soft temperature limit now",)


def test_a_laptop_counts_energy_and_throttling_once_each(tmp_path: Path) -> None:
    """Threads share their core's count and cores their package's; the same package seen through MMIO is no second."""
    sensors = find_sensors(_write(tmp_path, LAPTOP))
    assert read_board(tmp_path).model == "LENOVO 20XW0026GE"
    assert [counter.name for counter in sensors.energy] == [
        "package-0 (RAPL, intel-rapl:0)",
        "core (RAPL, intel-rapl:0:0)",
    ]
    before = read_thermal(tmp_path)
    assert before.counts == {"core throttled": 21, "package throttled": 42}
    _write(tmp_path, {f"{_CPU}/cpu{cpu}/thermal_throttle/package_throttle_count": "45" for cpu in range(4)})
    assert slowdowns(before, read_thermal(tmp_path)) == ("package throttled: 3 times",)


def test_a_counter_for_root_only_is_named_and_not_measured(tmp_path: Path) -> None:
    """Linux gives RAPL to root alone: the report can say why there is no energy."""
    _write(tmp_path, LAPTOP)
    energy = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    energy.unlink()
    energy.mkdir()
    sensors = find_sensors(tmp_path)
    assert [counter.name for counter in sensors.energy] == ["core (RAPL, intel-rapl:0:0)"]
    assert sensors.silent == ("package-0 (RAPL, intel-rapl:0)",)


def test_a_bare_machine_says_nothing(tmp_path: Path) -> None:
    """Every figure is None or empty, and whether it slowed down is not known: not "it did not"."""
    board, thermal = read_board(tmp_path), read_thermal(tmp_path)
    assert (board.model, board.l4t, board.jetpack, board.power_mode, board.clocks) == (None, None, None, None, ())
    assert thermal == Thermal((), (), {}, None)
    assert hottest(tmp_path) is None
    assert slowdowns(thermal, thermal) is None
    with measured(find_sensors(tmp_path)) as found:
        pass
    assert (found.energies, found.ranges) == ((), ())


def test_this_machine_is_read_without_an_error() -> None:
    """Whatever it is."""
    assert isinstance(read_board().clocks, tuple)
    assert slowdowns(read_thermal(), read_thermal()) is None or read_thermal() != Thermal((), (), {}, None)
    assert all(sensor.name for sensor in find_sensors().power)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(sorted(ORIN_NANO | LAPTOP | RASPBERRY_PI)), st.binary(max_size=40) | st.none()))
def test_damaged_files_are_not_measured(damage: dict[str, bytes | None]) -> None:
    """Any bytes, or a folder where a file should be: no reader raises, and every number is a finite one."""
    with tempfile.TemporaryDirectory() as folder:
        root = _write(Path(folder), ORIN_NANO | LAPTOP | RASPBERRY_PI)
        for name, content in damage.items():
            (root / name).unlink()
            (root / name).mkdir() if content is None else (root / name).write_bytes(content)
        board, thermal, sensors = read_board(root), read_thermal(root), find_sensors(root)
        slowdowns(thermal, thermal)
        numbers = [clock.megahertz for clock in board.clocks] + [zone.celsius for zone in thermal.zones]
        numbers += [*_tell(sensors).values(), *(counter.joules() for counter in sensors.energy)]
    assert all(number is None or math.isfinite(number) for number in numbers)


@given(st.text() | st.text("RAMCPU0123456789 [],%@/mWMBGD_FEQC.-:x\n", max_size=80))
def test_no_text_makes_a_parser_raise(text: str) -> None:
    """What is not understood is None."""
    for parse in (parse_l4t, parse_nvpmodel, parse_nvidia_smi, parse_tegrastats, decode_get_throttled):
        parse(text)
    assert parse_tegrastats(f"{text} RAM 1/2MB {text}") is not None


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
def test_get_throttled_is_put_in_words(text: str, said: tuple[str, ...] | None) -> None:
    """As sysfs and as vcgencmd write it."""
    assert decode_get_throttled(text) == said


def test_an_unknown_release_has_no_jetpack() -> None:
    """The next one is not guessed from its neighbours."""
    assert parse_l4t("# R36 (release), REVISION: 9.9, GCID: 1") == "36.9.9"
    assert jetpack_of("36.9.9") is None
    assert jetpack_of(None) is None


def test_the_mode_is_asked_of_nvpmodel_where_no_file_tells_it(tmp_path: Path) -> None:
    """And only there; a name that the configuration lacks is its number."""
    asked: list[tuple[str, ...]] = []

    def run(*command: str) -> str | None:
        asked.append(command)
        return "NV Power Mode: MODE_15W_6CORE\n2\n"

    assert read_board(tmp_path, run).power_mode == "MODE_15W_6CORE (2)"
    assert asked == [("nvpmodel", "-q")]
    assert read_board(_write(tmp_path, XAVIER), run).power_mode == "0"
    assert len(asked) == 1
    assert parse_nvpmodel("NVPM ERROR: no power mode") is None


def test_a_recording_is_never_mixed_with_the_machine_it_is_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands tell of this machine, so they are run only for this machine's own root."""
    for name in ("nvpmodel", "nvidia-smi"):
        (tmp_path / name).write_text("#!/bin/sh\necho NV Power Mode: HERE\necho '0, Here, 1, 1, 1, 1, 1, 0x0'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command_output("nvpmodel", "-q") is not None
    recording = tmp_path / "recording"
    assert read_board(recording).power_mode is None
    assert find_sensors(recording) == Sensors((), (), ())


def test_a_line_of_jetpack_6_is_read() -> None:
    """Memory, cores that are off, load and clock of the GPU, temperatures, and power now and on average."""
    found = parse_tegrastats(JETPACK_6)
    assert found is not None
    assert (found.ram_mib, found.ram_total_mib, found.swap_mib, found.swap_total_mib) == (1954, 7620, 12, 3810)
    assert found.cores == (Core(7, 883), Core(0, 883), None, None, Core(12, 729), Core(0, 729))
    assert (found.memory_percent, found.gpu_percent, found.gpu_megahertz) == (3, 41, (305,))
    assert found.celsius == {"cpu": 48.062, "soc2": 47.343, "cv0": None, "gpu": 48.156, "tj": 48.218}
    assert found.rails == {
        "VDD_IN": Rail(4.523, 4.611),
        "VDD_CPU_GPU_CV": Rail(0.524, 0.524),
        "VDD_SOC": Rail(1.373, 1.373),
    }


def test_lines_of_xaviers_are_read() -> None:
    """JetPack 5 writes units, JetPack 4 none; an AGX names its rails as parts, one of them as a temperature too."""
    newer, older = parse_tegrastats(JETPACK_5_XAVIER), parse_tegrastats(JETPACK_4_AGX_XAVIER)
    assert newer is not None
    assert older is not None
    assert newer.rails["VDD_IN"] == Rail(5.079, 5.0)
    assert (newer.gpu_percent, newer.gpu_megahertz, newer.celsius["PMIC"]) == (5, (510,), 50.0)
    assert newer.cores[-2:] == (None, None)
    assert older.rails == {"GPU": Rail(0.0, 0.001), "CPU": Rail(0.311, 0.312), "SYS5V": Rail(1.482, 1.483)}
    assert (older.gpu_percent, older.gpu_megahertz) == (0, (318,))
    assert older.celsius == {"AO": 37.5, "GPU": 37.5, "Tboard": 37.0}


@pytest.mark.parametrize(
    ("text", "percent", "megahertz"),
    [
        ("GR3D_FREQ 0%", 0, ()),
        ("GR3D_FREQ 10%@1300", 10, (1300,)),
        ("GR3D_FREQ 12%@[1300,1299] NVENC0 off", 12, (1300, 1299)),
        ("GR3D_FREQ @[1000,1000,1000]", None, (1000, 1000, 1000)),
        ("GR3D_FREQ off", None, ()),
        ("", None, ()),
    ],
)
def test_the_gpu_s_load_has_many_forms(text: str, percent: int | None, megahertz: tuple[int, ...]) -> None:
    """Those of users and of root, of one cluster and of several, with a load and without."""
    found = parse_tegrastats(f"RAM 1954/7620MB (lfb 4x4MB) {text}")
    assert found is not None
    assert (found.gpu_percent, found.gpu_megahertz) == (percent, megahertz)


def test_later_forms_give_a_maximum_too() -> None:
    """Which is left out; of temperatures the present one is taken."""
    found = parse_tegrastats(
        "RAM 1/2GB cpu@52.9C/53.1C VDD_GPU_SOC 5139mW/5140mW/5300mW VIN_SYS_5V0 5500mW/5501mW/5502mW"
    )
    assert found is not None
    assert found.ram_total_mib == 2048
    assert found.celsius == {"cpu": 52.9}
    assert found.rails == {"VDD_GPU_SOC": Rail(5.139, 5.14), "VIN_SYS_5V0": Rail(5.5, 5.501)}


def test_half_a_line_is_half_a_reading() -> None:
    """Cores that are not understood are not reported as switched off, and a line of something else is None."""
    found = parse_tegrastats("RAM 1954/7620MB CPU [7%@883,?%@883] VDD_IN 4523mW/ VDD_SOC x/y")
    assert found is not None
    assert (found.cores, found.rails, found.celsius, found.swap_mib) == ((), {}, {}, None)
    assert parse_tegrastats("tegrastats: command not found") is None


def test_a_gpu_is_read_from_csv() -> None:
    """What it does not support is None, and a line that is no GPU is left out."""
    text = (
        "0, NVIDIA H100 80GB HBM3, 71.36, 700.00, 345, 1980, 29, 0x0000000000000001\n"
        "1, Tesla T4, [N/A], 70.00, [Not Supported], 1590, 41, 0x0000000000000024\n"
        "No devices were found\n"
    )
    gpus = parse_nvidia_smi(text)
    assert gpus is not None
    first, second = gpus
    assert (first.name, first.watts, first.limit_watts, first.celsius) == ("NVIDIA H100 80GB HBM3", 71.36, 700.0, 29.0)
    assert (first.megahertz, first.maximum_megahertz, first.clock_reasons) == (345.0, 1980.0, ("idle",))
    assert (second.watts, second.megahertz) == (None, None)
    assert second.clock_reasons == ("software power cap", "software thermal slowdown")
    assert parse_nvidia_smi("No devices were found\n") is None
    assert decode_clock_reasons("[N/A]") is None


def test_older_drivers_are_asked_by_the_older_name(tmp_path: Path) -> None:
    """A GPU that tells its power is a sensor; one that does not, as a Jetson's, is named among the silent."""
    power = {"0": "71.36\n", "1": "[N/A]\n"}

    def run(*command: str) -> str | None:
        if command[1].startswith("--id="):
            return power[command[1].removeprefix("--id=")]
        if "clocks_throttle_reasons.active" not in command[1]:
            return None
        return "0, A, 71.36, 700, 345, 1980, 29, 0x0\n1, Orin (nvgpu), [N/A], [N/A], [N/A], [N/A], [N/A], [N/A]\n"

    sensors = find_sensors(tmp_path, run)
    assert _tell(sensors) == {"GPU 0 A (nvidia-smi power.draw)": 71.36}
    assert sensors.silent == ("GPU 1 Orin (nvgpu) (nvidia-smi power.draw)",)
    assert query_gpus(lambda *_: None) is None


def test_commands_that_fail_say_nothing() -> None:
    """Missing, failing, and one that answers."""
    assert command_output("no-such-command-anywhere") is None
    assert command_output(sys.executable, "-c", "raise SystemExit(3)") is None
    assert command_output(sys.executable, "-c", "print(5)") == "5\n"


@pytest.mark.parametrize("content", ["", "\0", "five", "nan", "inf", "-", "1 2"])
def test_what_is_no_number_is_not_measured(tmp_path: Path, content: str) -> None:
    """And neither is a file that is not there, or a folder."""
    (tmp_path / "file").write_text(content)
    assert read_number(tmp_path / "file") is None
    assert read_number(tmp_path) is None
    assert read_text(tmp_path / "none") is None


attempts = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50) | st.none()), min_size=1, max_size=30)


@given(attempts)
def test_the_integral_is_the_area_under_the_readings(steps: list[tuple[int, int | None]]) -> None:
    """As summing the height in the middle of every second gives it, with missing readings bridged by straight lines."""
    sums, moment, answers = Trapezoid(), 0, dict[int, int]()
    for gap, watts in steps:
        moment += gap + 1
        sums.add(moment, watts)
        if watts is not None:
            answers[moment] = watts
    seconds = np.arange(min(answers, default=0), max(answers, default=0)) + 0.5
    expected = float(np.interp(seconds, list(answers), list(answers.values())).sum()) if len(seconds) else 0.0
    assert sums.total == pytest.approx(expected)
    assert (sums.reading.samples, sums.reading.missed) == (len(answers), len(steps) - len(answers))
    assert sums.reading.longest_gap == max(np.diff(list(answers)), default=0)


@given(st.integers(1, 1000), st.data())
def test_a_counter_is_followed_through_any_number_of_rounds(limit: int, data: st.DataObject) -> None:
    """As long as it is read once a round."""
    rises = data.draw(st.lists(st.integers(0, limit - 1), max_size=40))
    start = data.draw(st.integers(0, limit - 1))
    total = CounterTotal(float(limit))
    for moment, joules in enumerate(np.cumsum([start, *rises])):
        total.add(float(moment), float(joules % limit))
    assert total.total == sum(rises)


@pytest.mark.parametrize("make", [Trapezoid, lambda: CounterTotal(100.0)])
def test_memory_does_not_grow_with_the_run(make: Callable[[], Trapezoid | CounterTotal]) -> None:
    """A night's readings take no more room than a minute's."""
    sizes = []
    total = make()
    for moment in range(20_000):
        total.add(float(moment), float(moment % 100))
        if moment in (100, 19_999):
            sizes.append(len(pickle.dumps(total)))
    assert sizes[1] < sizes[0] + 20


def test_a_counter_that_fell_for_no_reason_known_measures_nothing() -> None:
    """Neither a range that is missing nor one that the counter exceeds lets its fall be understood."""
    assert counter_difference(90.0, 5.0, 100.0) == 15.0
    assert counter_difference(90.0, 5.0, None) is None
    assert counter_difference(90.0, 5.0, 80.0) is None
    total = CounterTotal(None)
    for value in (1.0, 3.0, 2.0, 9.0):
        total.add(0.0, value)
    assert total.total is None


class _Sensor:
    """A sensor whose answers are made by a function of how often it was asked before."""

    range_joules = 100.0

    def __init__(self, answer: Callable[[int], float | None]) -> None:
        self._answer = answer
        self.asked = 0
        self.name = "made up"

    def watts(self) -> float | None:
        self.asked += 1
        return self._answer(self.asked - 1)

    joules = watts


def _measure(sensor: _Sensor, until: int = 5) -> Energy:
    with measured(Sensors((sensor,), (), ()), rate=500) as found:
        _asked(sensor, until)
    (energy,) = found.energies
    return energy


def _asked(sensor: _Sensor, until: int) -> None:
    ends = time.monotonic() + 30
    while sensor.asked < until and time.monotonic() < ends:
        time.sleep(0.001)
    assert sensor.asked >= until


def test_constant_power_is_power_times_time() -> None:
    """From just before the block to just after it, and per inference."""
    energy = _measure(_Sensor(lambda _: 5.0))
    assert energy.joules == pytest.approx(5.0 * energy.seconds)
    assert energy.watts == pytest.approx(5.0)
    assert energy.per(10) == pytest.approx(energy.seconds / 2)
    assert energy.samples >= 6
    assert (energy.sensor, energy.method, energy.missed) == ("made up", "samples", 0)
    assert "5 W mean" in str(energy)


def test_readings_enclose_the_block_and_the_thread_ends_with_it() -> None:
    """A block shorter than the time between two samples has its two readings all the same."""
    sensor = _Sensor(lambda _: 2.0)
    with measured(Sensors((sensor,), (), ()), rate=0.01) as found:
        assert sensor.asked == 1
    (energy,) = found.energies
    assert (energy.samples, sensor.asked) == (2, 2)
    assert found.seconds is not None
    assert energy.seconds >= found.seconds
    assert not [thread for thread in threading.enumerate() if thread.name == "power sampling"]


def test_a_counter_is_read_by_its_difference() -> None:
    """Through its rounds: 30 J more at every reading, of a counter that starts anew at 100."""
    sensor = _Sensor(lambda n: (90.0 + 30.0 * n) % 100)
    with measured(Sensors((), (sensor,), ()), rate=500) as found:
        _asked(sensor, 8)
    (energy,) = found.energies
    assert energy.method == "counter"
    assert energy.joules == pytest.approx(30.0 * (energy.samples - 1))


@pytest.mark.parametrize("answers_at", [lambda n: n > 0, lambda n: n < 3, lambda _: False])
def test_readings_that_do_not_enclose_the_block_are_no_energy(answers_at: Callable[[int], bool]) -> None:
    """A sensor that came late, went away, or never answered: the block's energy is not known."""
    energy = _measure(_Sensor(lambda n: 5.0 if answers_at(n) else None))
    assert energy.joules is None
    assert energy.per(10) is None
    assert energy.missed > 0
    assert "not measured" in str(energy)


def test_a_sensor_that_fails_now_and_then_is_bridged_and_counted() -> None:
    """An exception is no answer, and ends neither the thread nor the block."""

    def answer(asked: int) -> float | None:
        if asked == 2:
            raise OSError("resource temporarily unavailable")
        return math.nan if asked == 3 else 4.0

    energy = _measure(_Sensor(answer), until=8)
    assert energy.joules == pytest.approx(4.0 * energy.seconds)
    assert energy.missed == 2


def test_a_sensor_that_hangs_does_not_hold_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block ends, and the energy is not known."""
    monkeypatch.setattr(sampling, "_STOP_SECONDS", 0.05)
    released = threading.Event()

    def answer(asked: int) -> float | None:
        if asked:
            released.wait(60)
        return 1.0

    sensor = _Sensor(answer)
    energy = _measure(sensor, until=2)
    hanging = [thread for thread in threading.enumerate() if thread.name == "power sampling"]
    released.set()
    for thread in hanging:
        thread.join(60)
    assert hanging
    assert energy.joules is None
    assert energy.samples == 1


def test_an_error_in_the_block_is_its_own() -> None:
    """It passes, and what was measured until then is there."""
    with pytest.raises(KeyError), measured(Sensors((_Sensor(lambda _: 1.0),), (), ())) as found:
        raise KeyError("block")
    assert found.energies[0].joules is not None


def test_gauges_are_followed_beside_the_power() -> None:
    """Lowest, mean and highest; one that never answers is left out."""
    rising = _Sensor(float)
    gauges: dict[str, Callable[[], float | None]] = {"celsius": rising.watts, "nothing": lambda: None}
    with measured(Sensors((), (), ()), rate=500, gauges=gauges) as found:
        _asked(rising, 4)
    (shown,) = found.ranges
    assert (shown.name, shown.low, shown.high) == ("celsius", 0.0, shown.samples - 1)
    assert shown.mean == pytest.approx((shown.samples - 1) / 2)


def test_arguments_that_cannot_be_meant_are_refused() -> None:
    """By name, with what was expected."""
    for rate in (0.0, -1.0, math.nan, math.inf, 1001.0):
        with (
            pytest.raises(ArgumentError, match="rate: expected readings per second above 0 and at most 1000, got"),
            measured(Sensors((), (), ()), rate=rate),
        ):
            pass
    with pytest.raises(ArgumentError, match="count: expected at least 1 inference, got 0"):
        Energy("made up", "samples", 1.0, 1.0, 1.0, 2, 0, 1.0).per(0)

"""What stops a first run on a real machine is one line: an old driver, a second OpenCV. Licences: tests/test_rehearsal.py."""

import importlib.metadata

import pytest

from cosmos_exp.world import hardware

TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver by downloading and "
    "installing a new version from the URL: http://www.nvidia.com/Download/index.aspx"
)


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """A machine with one GPU and a driver of 2023, and a torch for CUDA 13."""
    record = tmp_path / "version"
    record.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n")
    monkeypatch.setattr(hardware, "DRIVER_RECORD", record)
    monkeypatch.setattr("torch.version.cuda", "13.0")


@pytest.mark.parametrize("count", [1, 0])
def test_a_driver_that_is_too_old_is_one_line_with_what_to_install(count, driver, monkeypatch, answered):
    def refuse(device):
        raise RuntimeError(TOO_OLD)

    monkeypatch.setattr("torch.cuda.device_count", lambda: count)  # NVML counts what CUDA cannot use
    monkeypatch.setattr("torch.cuda.get_device_name", refuse)
    said = (
        "FAIL  device",
        "The driver is 535.104.05",
        "CUDA 13.0 and needs 580.65 or newer",
        "Install that NVIDIA driver",
    )
    answered(["doctor", "hardware=1xh100", "tracking=none"], 1, *said)


def test_opencv_beside_its_headless_form_is_seen(monkeypatch, answered):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "5.0" if name == "opencv-python" else real(name))
    answered(["doctor", "tracking=none"], 0, "warn  opencv     opencv-python is installed beside")

    def without_libgl(args):
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("cosmos_exp.cli.doctor.run", without_libgl)
    fix = "pip uninstall -y opencv-python opencv-python-headless"
    answered(["doctor"], 1, "libGL.so.1: cannot open shared object file", fix)

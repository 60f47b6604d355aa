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
def test_a_driver_that_is_too_old_is_one_line_with_what_to_install(count, driver, cli, monkeypatch, capsys):
    def refuse(device):
        raise RuntimeError(TOO_OLD)

    monkeypatch.setattr("torch.cuda.device_count", lambda: count)  # NVML counts what CUDA cannot use
    monkeypatch.setattr("torch.cuda.get_device_name", refuse)
    assert cli("doctor", "hardware=1xh100", "tracking=none") == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL  device"))
    for words in ("The driver is 535.104.05", "CUDA 13.0 and needs 580.65 or newer", "Install that NVIDIA driver"):
        assert words in line


def test_opencv_beside_its_headless_form_is_seen(cli, monkeypatch, capsys):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "5.0" if name == "opencv-python" else real(name))
    assert cli("doctor", "tracking=none") == 0
    assert "warn  opencv     opencv-python is installed beside" in capsys.readouterr().out

    def without_libgl(args):
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("cosmos_exp.cli.doctor.run", without_libgl)
    assert cli("doctor") == 1
    assert "libGL.so.1: cannot open shared object file" in (said := capsys.readouterr().err)
    assert "pip uninstall -y opencv-python opencv-python-headless" in said

"""The platform that the fake engine runs on."""

from types import SimpleNamespace

current_platform = SimpleNamespace(device_type="cpu", get_device_name=lambda: "cpu")

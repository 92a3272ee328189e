"""What pyproject.toml cannot say: a wheel carries the device's files too, so that `deploy` needs no clone."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DEVICE_FILES = ("boot.py", "main.py", "firmware", "board_configs", "modbus_maps")


class BuildWithDeviceFiles(build_py):
    def run(self):
        shutil.rmtree(self.build_lib, ignore_errors=True)  # what an earlier build left would go into this wheel
        super().run()
        if self.editable_mode:
            return  # the clone has them
        target = Path(self.build_lib, "optoprobe", "device_files")
        target.mkdir(parents=True)
        for name in DEVICE_FILES:
            if Path(name).is_dir():
                shutil.copytree(name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
            else:
                shutil.copy(name, target)


setup(cmdclass={"build_py": BuildWithDeviceFiles})

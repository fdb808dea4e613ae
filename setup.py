"""Builds the C++ core with CMake; everything else stands in pyproject.toml."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        source = Path(__file__).parent.resolve()
        destination = Path(self.get_ext_fullpath(ext.name)).parent.resolve()
        build = Path(self.build_temp).resolve() / ext.name
        # CMake would believe what it remembers of another interpreter or build environment.
        shutil.rmtree(build, ignore_errors=True)
        build.mkdir(parents=True)
        configure = [
            "cmake",
            "-S",
            source,
            "-B",
            build,
            "-G",
            "Ninja",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={destination}",
            f"-DMELFAST_SANITIZE={os.environ.get('MELFAST_SANITIZE', 'OFF')}",
        ]
        subprocess.run([str(word) for word in configure], check=True)
        subprocess.run(["cmake", "--build", str(build)], check=True)


setup(ext_modules=[Extension("melfast._core", sources=[])], cmdclass={"build_ext": CMakeBuild})

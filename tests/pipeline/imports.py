"""Run with names of stages: prints, as JSON, which modules of this project each imports and which params it asks for.

The libraries are imported once; each stage is then imported in a fork of its own.
"""

import importlib
import json
import os
import sys

import click
import numpy
import pandas
import pydantic
import safetensors.torch
import scipy.sparse
import torch
import torchvision

assert all((click, numpy, pandas, pydantic, safetensors.torch, scipy.sparse, torch, torchvision))

for stage in sys.argv[1:]:
    if os.fork() == 0:
        command = importlib.import_module(f"stages.{stage}").main
        modules = sorted(name for name in sys.modules if name.split(".")[0] in ("sfc", "stages"))
        print(json.dumps({"stage": stage, "modules": modules, "params": command.sfc_params()}), flush=True)
        os._exit(0)
    os.wait()

"""What the drivers know of our network beyond tests/golden/twin.py."""
import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LUMA_MEAN = 0.44505388568813414  # model/spec.hpp
PRESETS = {"paper": dict(width=1.0, global_size=224), "compact": dict(width=1 / 2, global_size=112),
           "tiny": dict(width=1 / 8, global_size=64)}  # model/spec.cpp

"""A PyTorch twin's state as a checkpoint of ours."""
import json

from safetensors.torch import save_file

from presets import LUMA_MEAN, PRESETS


def write_checkpoint(path, source, preset, class_names=()):
    divisor = str(int(1 / PRESETS[preset]["width"]))
    metadata = {"format": "lumachrome 1", "preset": preset, "width_divisor": divisor, "global_size": str(source.global_size),
                "fusion_kernel": "3", "activation": "relu", "use_global": "true", "batch_norm": "true", "classes": str(source.classes),
                "class_names": json.dumps(list(class_names)), "dropout": "0", "luma_mean": str(LUMA_MEAN), "ab_scale": "100"}
    state = source.state_dict()
    save_file({name: state[name].contiguous() for name in source.names()}, path, metadata)

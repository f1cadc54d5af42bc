"""A command starts without what it does not use, and all of that still works afterwards."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from show1.cli.lean import lean_imports
lean_imports()
from show1.generation.pipeline import Show1Pipeline
from show1.text.encoder import build_empty_text_encoder
from diffusers import AutoencoderKL, UNet3DConditionModel
from transformers import T5EncoderModel
heavy = ("peft", "sympy", "torch._dynamo.convert_frame", "torch.distributed.tensor", "scipy.optimize")
print("left out:", not [name for name in heavy if name in sys.modules])

import torch
double = torch.compile(lambda x: x + x, backend="eager")
print("compiles:", double(torch.ones(1)).item() == 2 and "torch._dynamo.convert_frame" in sys.modules)
try:
    import scipy.stats
    print("scipy:", scipy.stats.norm.cdf(0.0) == 0.5)
except ModuleNotFoundError:
    print("scipy, which is not installed: True")
from diffusers.models.transformers import Transformer2DModel
from diffusers.models.autoencoders import AutoencoderKLWan
import diffusers.models.autoencoders.vae
print("models:", issubclass(Transformer2DModel, diffusers.ModelMixin))
from transformers import PreTrainedModel
print("real class:", issubclass(T5EncoderModel, PreTrainedModel))
from diffusers.loaders import lora_base, single_file_utils
net = T5EncoderModel(T5EncoderModel.config_class(vocab_size=4, d_model=4, d_ff=4, d_kv=2, num_heads=2, num_layers=1))
print("stand-in:", isinstance(net, lora_base.PreTrainedModel) and not isinstance(1, lora_base.PreTrainedModel))
print("stand-in's subclass:", issubclass(T5EncoderModel, lora_base.PreTrainedModel))
import transformers.utils
print("extras:", transformers.utils.is_torch_distributed_available())
print("stand-in asks:", single_file_utils.AutoImageProcessor.from_pretrained.__name__ == "from_pretrained")
from peft import LoraConfig
from diffusers.utils import is_peft_available
print("peft:", is_peft_available() and LoraConfig().r == 8)
"""


@pytest.mark.slow
def test_what_is_left_out_is_imported_when_it_is_asked_for():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")[:-1]
    assert len(lines) == 10 and all(line.endswith(": True") for line in lines), done.stdout


def test_no_part_of_the_embedded_model_needs_the_compiler():
    program = (
        "import sys; from show1.cli.lean import lean_imports; lean_imports()\n"
        "from show1 import Show1Pipeline, make_request\n"
        "pipe = Show1Pipeline.from_pretrained('mini', cache_embeddings=False)\n"
        "pipe.encode(make_request('a panda spins over the snow', model=pipe))\n"
        "for stage in pipe.stages:\n"
        "    with pipe.resident(stage): print(stage, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split("\n")[:-1] == [
        "keyframes False",
        "interpolation False",
        "super_resolution False",
        "translation False",
    ], done.stderr


def test_a_process_that_has_diffusers_already_is_left_alone():
    program = (
        "import diffusers, sys; from show1.cli.lean import lean_imports; n = len(sys.modules); lean_imports(); "
        "print(n == len(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "True\n"


def test_another_version_is_imported_as_it_is():
    program = (
        "import sys; from show1.cli import lean; lean._TESTED['diffusers'] = '0.1.'; lean.lean_imports(); "
        "print('diffusers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


def test_the_collector_rests_while_a_new_process_imports():
    program = (
        "import gc, sys\n"
        "from show1.cli.progress import starting\n"
        "with starting(quiet=True):\n"
        "    rests = not gc.isenabled(); import torch\n"
        "kept = gc.get_freeze_count()\n"
        "with starting(quiet=True): runs = gc.isenabled()\n"
        "print(rests, gc.isenabled(), kept > 10_000, runs, gc.get_freeze_count() == kept)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["True"] * 5, done.stdout + done.stderr

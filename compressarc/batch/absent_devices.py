"""Devices to compile for that need not be there.

A TPU's description comes with libtpu. A GPU's is given here: the numbers of its data sheet that XLA's
compiler asks for. Without a GPU XLA cannot try out kernels, so autotuning is off and products go to cuBLAS
rather than to Triton, which may find no tile for odd shapes untried.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import logging
import os
from collections.abc import Sequence
from typing import Any

from compressarc.config import unknown

_GPU = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared} shared_memory_per_block_optin: {shared_most}
  threads_per_core_limit: {threads} core_count: {cores} fpus_per_core: {fpus}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth} l2_cache_size: {l2} clock_rate_ghz: {clock}
  device_memory_size: {memory}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
device_description_str: "{name}"
"""


@dataclasses.dataclass(frozen=True)
class Target:
    """One kind of device."""

    name: str
    platform: str  # tpu or cuda
    model: str  # of `compressarc.batch.device_model`
    topology: str
    description: str = ""  # of a GPU
    accelerator_type: str = ""  # of a TPU

    @property
    def needs(self) -> tuple[str, str]:
        """The module that compiles for it, and the extra that brings it."""
        return ("libtpu", "aot-tpu") if self.platform == "tpu" else ("jax_plugins.xla_cuda12", "aot-cuda")

    def environment(self) -> dict[str, str]:
        """What must be set before jax is imported."""
        common = {"JAX_PLATFORMS": "cpu"}
        if self.platform == "tpu":
            return common | {
                "TPU_SKIP_MDS_QUERY": "1",  # there is no metadata server to ask
                "TPU_ACCELERATOR_TYPE": self.accelerator_type,
                "TPU_WORKER_HOSTNAMES": "localhost",
                "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
            }
        flags = " --xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
        return common | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + flags}

    def devices(self) -> Sequence[Any]:
        """Descriptions of its devices, for shardings; in a process started with `environment`."""
        from jax._src import xla_bridge
        from jax.experimental import topologies

        if self.platform == "tpu":
            return topologies.get_topology_desc(self.topology, platform="tpu").devices
        if "cuda" not in xla_bridge._topology_factories:
            log = logging.getLogger(xla_bridge.__name__)
            before, log.disabled = log.disabled, True  # what it says of a GPU that is not here
            try:
                xla_bridge.discover_pjrt_plugins()
            finally:
                log.disabled = before
        return topologies.get_topology_desc(
            self.name, platform="cuda", target_config=self.description, topology=self.topology
        ).devices


def _gpu(name: str, model: str, **numbers: object) -> Target:
    return Target(model, "cuda", model, "1x1x4", _GPU.format(name=name, **numbers))


TARGETS = {
    target.name: target
    for target in (
        Target("v5e", "tpu", "v5e", "v5e:2x2", accelerator_type="v5litepod-4"),
        Target("v6e", "tpu", "v5e", "v6e:2x2", accelerator_type="v6e-4"),
        Target("v4", "tpu", "v5e", "v4:2x2x1", accelerator_type="v4-8"),
        _gpu("NVIDIA H100 80GB HBM3", "h100", shared=233472, shared_most=232448, threads=2048, cores=132,
             fpus=128, bandwidth=3352320000000, l2=52428800, clock=1.98, memory=84978434048,
             major=9, minor=0),
        _gpu("NVIDIA A100-SXM4-80GB", "a100", shared=167936, shared_most=166912, threads=2048, cores=108,
             fpus=64, bandwidth=2039000000000, l2=41943040, clock=1.41, memory=84987740160, major=8, minor=0),
        _gpu("NVIDIA GeForce RTX 4070", "rtx4070", shared=102400, shared_most=101376, threads=1536,
             cores=46, fpus=128, bandwidth=504200000000, l2=37748736, clock=2.475, memory=12558139392,
             major=8, minor=9),
    )
}  # fmt: skip


def check_installed(target: Target) -> None:
    """Raises ModuleNotFoundError, naming the extra, if what compiles for a target is not here."""
    module, extra = target.needs
    found = None
    with contextlib.suppress(ModuleNotFoundError):
        found = importlib.util.find_spec(module)
    if found is None:
        raise ModuleNotFoundError(
            f"compiling for {target.name} needs {module}: pip install 'quintet-jax[{extra}]'"
        )


def target_for(device: str) -> Target:
    """How to compile for a device model.

    Raises: ValueError if there is no compiler for it, ModuleNotFoundError if it is not installed; it names
      the extra that brings it.
    """
    found = {target.model: target for target in reversed(TARGETS.values())}
    if device not in found:
        raise unknown("device to compile for", device, tuple(found))
    check_installed(found[device])
    return found[device]


def prepare(target: Target) -> None:
    """Sets what JAX and the compiler read when they start; before that."""
    os.environ.update(target.environment())
    import jax

    jax.config.update("jax_platforms", "cpu")  # if it was imported already
    # JAX can't read programs back for a device that is not here; what was traced is kept all the same.
    jax.config.update("jax_enable_compilation_cache", False)

"""Several devices and machines: a model split over them, and one answer for all processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning.pytorch.strategies.launchers import subprocess_script
from lightning_utilities.core.apply_func import apply_to_collection
from torch import distributed
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from typing_extensions import override

from tuner.errors import UserError
from tuner.lost import end_together

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning import Trainer
    from torch import Tensor, nn
    from torch.distributed.device_mesh import DeviceMesh

    from tuner.module import ChatTuner


class Sharded(ModelParallelStrategy):
    """`--trainer.strategy fsdp`: every parameter is split over all devices (FSDP2).

    PyTorch's `fully_shard` splits each parameter by itself, so a frozen base in half precision and
    trained weights in float32 live side by side. Lightning's FSDPStrategy (FSDP1) joins the
    parameters of a block in one tensor of one type, which would need the base in float32.

    Checkpoints are those of a single device: whole trained weights by name, in one file, so a run
    can go on with another strategy.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    @override
    def restore_checkpoint_after_setup(self) -> bool:
        return False  # the order of a single device: the model is split already

    @property
    @override
    def lightning_restore_optimizer(self) -> bool:
        return True

    @override
    def setup_environment(self) -> None:
        """Split over all devices of all machines."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @override
    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The trained weights, gathered; every process must ask, only the first one gets them."""
        return self._gathered(self._trainable())

    @override
    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """The optimiser's own state, gathered likewise."""
        return self._gathered(optimizer.state_dict())

    @override
    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the file as a single device does; it is split where it is put to use."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    @override
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Give each device its part of the trained weights."""
        with torch.no_grad():
            for name, weight in self._trainable().items():
                weight.copy_(_part(checkpoint["state_dict"][name], weight))

    @override
    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give each device its part of the optimiser's state."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            state = {
                place: {
                    key: _part(value, weights[place])
                    if isinstance(value, torch.Tensor) and value.shape == weights[place].shape
                    else value
                    for key, value in values.items()
                }
                for place, values in saved["state"].items()
            }
            optimizer.load_state_dict(saved | {"state": state})

    def _trainable(self) -> dict[str, Tensor]:
        return cast("ChatTuner", self.lightning_module).trainable()

    def _gathered(self, state: dict[str, Any]) -> dict[str, Any]:
        def whole(value: DTensor) -> Tensor:
            full = value.full_tensor()
            # Other processes write nothing, and may lack the memory for a whole copy.
            return full.detach().cpu() if self.is_global_zero else torch.empty(0)

        return apply_to_collection(state, DTensor, whole)


def _part(value: Tensor, like: Tensor) -> Tensor:
    """This device's part of a whole tensor, split as another one is."""
    assert isinstance(like, DTensor)
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def shard(model: Any, mesh: DeviceMesh) -> None:
    """Split a model's parameters over a mesh of devices, in place.

    Each transformer block is a unit, gathered when it is computed; the rest of the base is one
    more. Trained weights become those of the first process.

    Args:
        model: a model of transformers, with or without a peft adapter; all that is trained is in
            the base's own layers.
        mesh: the devices; one dimension.
    """
    base = whole_base(model)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(mesh.device_type)  # what NCCL can send
            distributed.broadcast(weight.data, src=0)
    for module in (*blocks(base), base):
        fully_shard(module, mesh=mesh)


def blocks(base: Any) -> list[nn.Module]:
    """The transformer blocks of a model of transformers."""
    kinds: set[str] = set(base._no_split_modules or ())
    return [module for module in base.modules() if type(module).__name__ in kinds]


def whole_base(model: Any) -> Any:
    """The model of transformers under an adapter, or the model itself."""
    # Its `peft_config` does not tell: peft leaves one on the base as well.
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def is_sharded(model: Any) -> bool:
    """Whether the model's parameters are split, so that all processes must compute together."""
    return isinstance(whole_base(model), FSDPModule)


def strategy_settings(choice: Any, precision: Any) -> dict[str, Any]:
    """What the trainer needs for a strategy: `fsdp` is ours, all else is Lightning's.

    Args:
        choice: `trainer.strategy`.
        precision: `trainer.precision`.

    Raises:
        UserError: the two do not go together.
    """
    if choice != "fsdp" and not isinstance(choice, Sharded):
        return {"strategy": choice}
    if precision in (16, "16", "16-mixed", 64, "64", "64-true"):
        raise UserError(
            f"trainer.strategy, trainer.precision: fsdp does not work with {precision}; set "
            "--trainer.precision bf16-mixed or 32-true, or --trainer.strategy ddp"
        )
    # Weights gathered by a validation in inference mode could not be trained with afterwards.
    return {"strategy": Sharded(), "inference_mode": False}


def look_after_processes() -> None:
    """Let the processes that Lightning starts for further devices end with one another."""
    subprocess_script._launch_process_observer = end_together  # pyright: ignore


def plugins() -> list[SLURMEnvironment]:
    """Under SLURM, its environment without Lightning's own way to requeue a job.

    That leaves a checkpoint beside the run folders, and every later run there goes on from it.

    Raises:
        UserError: the shell is one of a SLURM job, but srun has not started this process.
    """
    own = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    if own and "SLURM_PROCID" not in os.environ:
        raise UserError(
            f"SLURM_NTASKS: {os.environ['SLURM_NTASKS']} processes are allocated, but srun has not "
            "started this one. Start them with srun (docs/devices.md); to train in one process, "
            "unset SLURM_NTASKS"
        )
    return [SLURMEnvironment(auto_requeue=False)] if own else []


def agreed(trainer: Trainer, model: ChatTuner, value: Any) -> Any:
    """The first process's value, on all that torchrun, SLURM or the like has started.

    Processes that Lightning starts itself come later, and are told by the environment.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if trainer.world_size == 1 or isinstance(environment, LightningEnvironment):
        return value
    trainer.strategy.connect(model)
    trainer.strategy.setup_environment()
    return trainer.strategy.broadcast(value)


def gathered(rows: list[Any]) -> list[Any]:
    """The rows of all processes, those of the first one first; all of them must call this."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return rows
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, rows)
    return [row for part in parts for row in part]


def check_placement(trainer: Trainer, model: nn.Module) -> None:
    """Make sure that every process has come, and that each has its quantised base for itself.

    Raises:
        UserError: another number of processes computes together than was asked for.
        RuntimeError: a quantised weight is not on the process's own device.
    """
    asked = trainer.num_devices * trainer.num_nodes
    found = distributed.get_world_size() if distributed.is_initialized() else 1
    if found != asked:
        raise UserError(
            f"trainer.devices, trainer.num_nodes: {asked} processes were asked for, but {found} "
            "compute together"
        )
    own = trainer.strategy.root_device
    for name, weight in model.named_parameters():
        if not weight.is_floating_point() and weight.device != own:
            raise RuntimeError(f"{name} is on {weight.device}, but this process computes on {own}")

"""Load weights into a network when a run starts."""

from __future__ import annotations

from ignite.engine import Engine
from ignite.handlers import Checkpoint
from monai import handlers
from torch import nn

from unet_med.networks.state_dict import read_weights, refusing
from unet_med.networks.wrapping import unwrapped


class CheckpointLoader(handlers.CheckpointLoader):
    """MONAI's `CheckpointLoader` for every file that `read_weights` reads.

    The arguments are those of `monai.handlers.CheckpointLoader`, and so is the name: a federated
    client switches off all whose name has it, to score the weights of its server. Only tensors
    are read: a `.pt` file is opened with `weights_only=True`, and a pickled program in it never
    runs. `strict_shape=False` takes the weights whose name and shape fit, also from a checkpoint
    of several things, where MONAI's takes none.

    Raises:
        ValueError: the file is missing, damaged, holds more than tensors, or does not fit; with
            `strict_shape=False`, none of its weights fits, or networks are not all that is asked
            for.
    """

    def __call__(self, engine: Engine) -> None:
        """Load when a run starts."""
        with refusing(self.load_path):
            if not self._wants_weights_alone():
                super().__call__(engine)
                return
            if not self.strict_shape:
                for name, network in self.load_dict.items():
                    self._load_what_fits(name, unwrapped(network))
                return
            state = read_weights(self.load_path, key=next(iter(self.load_dict)))
            states = dict.fromkeys(self.load_dict, state)
            Checkpoint.load_objects(self.load_dict, states, strict=self.strict)
            self.logger.info("Restored all variables from %s", self.load_path)

    def _wants_weights_alone(self) -> bool:
        """Whether the file is one state dictionary, not a checkpoint of several things."""
        modules = all(isinstance(target, nn.Module) for target in self.load_dict.values())
        if str(self.load_path).endswith(".safetensors"):
            if not modules:
                raise TypeError("safetensors hold weights, and load_dict asks for more")
            return True
        if not self.strict_shape:
            if not modules:
                raise TypeError("strict_shape=False is for weights, and load_dict asks for more")
            return True
        return modules and len(self.load_dict) == 1

    def _load_what_fits(self, name: str, network: nn.Module) -> None:
        """The weights of an entry of the file whose name and shape are the network's."""
        state, own = read_weights(self.load_path, key=name), network.state_dict()
        fits = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
        if not fits:
            raise ValueError(
                f"{self.load_path}: none of its {len(state)} weights has the name and shape of one "
                f"of {name}, as {next(iter(own), 'nothing')}"
            )
        network.load_state_dict(fits, strict=False)
        self.logger.info(
            "Restored %d of %d variables of %s from %s", len(fits), len(own), name, self.load_path
        )

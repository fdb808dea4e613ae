"""Training. `melfast.train(config)` trains; the same name is this package, see melfast.evaluate for why."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from melfast.config.schema import Config


class _Train(ModuleType):
    def __call__(
        self, config: "Config | str | Path | None" = None, settings: Mapping[str, Any] = {}, *, resume: bool = False
    ) -> Path:
        """Trains a classifier like `melfast train`.

            run = melfast.train("configs/quickstart.yaml", {"data.path": "data", "train.epochs": 3})

        Args:
            config: a YAML file, a Config, or None for the defaults.
            settings: keys of the config as `section.key`; they override those of `config`.
            resume: resume from the last checkpoint of the run, if there is one.
        Returns:
            The run folder, `output.dir`, by default runs/NAME.
        Raises:
            InputError: the config, the data or the checkpoint cannot be used, or the folder contains a
                run and `resume` is False.
        """
        from melfast.config.loading import Override, dotted
        from melfast.config.schema import Config, load_config, with_output
        from melfast.train.run import run_training

        overrides = [Override(key, value, "settings") for key, value in settings.items()]
        if isinstance(config, Config):
            overrides = [Override(key, value, "config") for key, value in dotted(config).items()] + overrides
            config = None
        path = None if config is None else Path(config)
        loaded, sources = load_config(path, overrides)
        loaded = with_output(loaded, path)
        run_training(loaded, sources, resume=resume)
        return Path(loaded.output.dir)


sys.modules[__name__].__class__ = _Train

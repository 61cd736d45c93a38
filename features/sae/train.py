"""Training sparse autoencoders: the loop around steps, with checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from features.sae.activations import ActivationSource
from features.sae.config import SAEConfig
from features.sae.model import SAE
from features.sae.step import Info, Run, TrainConfig, init_run, resample, run_chunk


class Trained(NamedTuple):
    """A trained autoencoder and how it came about."""

    sae: SAE
    history: Info  # numpy, one entry per step


DEFAULTS = TrainConfig()


def train(
    source: ActivationSource,
    sae_config: SAEConfig,
    config: TrainConfig = DEFAULTS,
    *,
    key: PRNGKeyArray,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    save_every: int = 1,
    on_chunk: Callable[[Run, Info], None] | None = None,
) -> Trained:
    """Trains an autoencoder on a source of activations (`CachedActivations`, `StreamedActivations`).

    Args: checkpoint: folder that receives the state after every `save_every` chunks. resume: go on from it;
      the answer is that of an uninterrupted run. on_chunk: called with the state and the chunk's figures;
      both are donated to the next chunk, so copy what you keep.
    Raises: ValueError if the source has another width, the checkpoint is of other settings or data, or the
      folder holds one and `resume` is not set; FloatingPointError if the loss stops being finite.
    """
    from features.sae import checkpoints

    if source.d_in != sae_config.d_in:
        raise ValueError(f"activations are {source.d_in} wide, but the SAE reads d_in={sae_config.d_in}")
    init_key, resample_key = jax.random.split(key)
    sample = source.sample()
    run = init_run(sae_config, config, sample, key=init_key)
    infos: list[Info] = []
    identity = checkpoints.identity(sae_config, config, key, sample)
    if checkpoint is not None and not resume and checkpoints.exists(Path(checkpoint)):
        raise ValueError(f"{checkpoint} holds a training already: resume it, or choose another folder")
    if checkpoint is not None and resume:
        run, infos = checkpoints.restore(Path(checkpoint), run, identity)
    done = int(run.step)
    resample_at = {s for s in config.resample_at if s < config.steps}
    while done < config.steps:
        end = min(
            [config.steps, (done // config.chunk + 1) * config.chunk, *(s for s in resample_at if s > done)]
        )
        batches = source.batches(done, end - done, config.batch)
        run, info = run_chunk(config, run, jnp.asarray(batches, jnp.float32))
        infos.append(jax.tree.map(np.asarray, info))
        if not np.isfinite(infos[-1].loss).all():
            raise FloatingPointError(
                f"the loss is not finite from step {done + int(np.argmin(np.isfinite(infos[-1].loss)))} on: "
                "lower the learning rate, or look at the activations"
            )
        done = end
        if done in resample_at:
            fresh = jnp.asarray(source.batches(done, 1, config.batch)[0], jnp.float32)
            run = resample(run, fresh, config, key=jax.random.fold_in(resample_key, done))
        last = done == config.steps
        if checkpoint is not None and (last or len(infos) % save_every == 0):
            checkpoints.save(Path(checkpoint), run, infos, identity)
        if on_chunk is not None:
            on_chunk(run, infos[-1])
    history = jax.tree.map(lambda *parts: np.concatenate(parts), *infos)
    return Trained(run.sae, history)

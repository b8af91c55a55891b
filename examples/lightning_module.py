"""PyTorch Lightning: the architecture of a trial as a LightningModule, with early stopping in two objectives.

Needs the extra `lightning`. Optuna's own pruning callback refuses studies of several objectives; `staged` does not.
"""

import optuna
import pytorch_lightning as pl
import torch

from nas_bo.model import build, label, load_corpus, parameters
from nas_bo.optuna import Sampler, architecture, staged, suggest
from nas_bo.search_spaces import TinyGPT
from nas_bo.stopping import SuccessiveHalving
from nas_bo.strategies import Bayes

EPOCHS, STEPS, TOKENS = 9, 4, 64
corpus = load_corpus()


class Decoder(pl.LightningModule):
    def __init__(self, arch, lr: float) -> None:
        super().__init__()
        self.model, self.lr = build(arch, vocab_size=256), lr

    def training_step(self, batch, _):
        (tokens,) = batch
        return torch.nn.functional.cross_entropy(self.model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())

    def validation_step(self, batch, _):
        self.log("val_loss", self.training_step(batch, _))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


class Stop(pl.Callback):
    """Reports both objectives after every epoch, and ends the trial where others are better in both."""

    def __init__(self, trial, size: float) -> None:
        self.trial, self.size = trial, size

    def on_validation_end(self, trainer, _) -> None:
        self.trial.report([trainer.callback_metrics["val_loss"], self.size], trainer.current_epoch + 1)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def batches(first: int, count: int):
    tokens = torch.as_tensor(corpus.batches(first, 1, 8 * count, TOKENS)[0].astype("int64"))
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(tokens), batch_size=8)


def objective(trial):
    arch = suggest(trial, TinyGPT)
    model = Decoder(arch, trial.suggest_float("lr", 1e-3, 1e-2, log=True))
    size = parameters(arch, 256)
    stop = Stop(staged(trial, budget=EPOCHS, stopping=SuccessiveHalving(startup=3)), size)
    quiet = dict.fromkeys(
        ("logger", *(f"enable_{w}" for w in ("checkpointing", "progress_bar", "model_summary"))), False
    )
    trainer = pl.Trainer(max_epochs=EPOCHS, callbacks=[stop], num_sanity_val_steps=0, **quiet)
    trainer.fit(model, batches(0, STEPS), batches(1, 2))
    return float(trainer.callback_metrics["val_loss"]), size


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pl.seed_everything(0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=Sampler(TinyGPT, Bayes(seed=0, startup=4)))
    study.optimize(objective, n_trials=8)
    print([trial.state.name for trial in study.trials])
    for best in study.best_trials:
        print(label(architecture(TinyGPT, best.params)), [round(v, 3) for v in best.values])

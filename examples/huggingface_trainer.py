"""Hugging Face `Trainer.hyperparameter_search` over architectures: the trial becomes a model of nas_bo.

Needs the extra `transformers`. The Trainer makes the Optuna study itself; its learning rate is searched as usual.
"""

import torch
from transformers import Trainer, TrainingArguments

from nas_bo.model import build, label, load_corpus, parameters
from nas_bo.optuna import Sampler, architecture, suggest
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Bayes

TOKENS = 64


class Model(torch.nn.Module):
    """A decoder of nas_bo with the forward that the Trainer wants."""

    def __init__(self, arch) -> None:
        super().__init__()
        self.decoder = build(arch, vocab_size=256)

    def forward(self, input_ids, labels=None):
        logits = self.decoder(input_ids)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"loss": loss, "logits": logits}


class Windows(torch.utils.data.Dataset):
    def __init__(self, start: int, count: int) -> None:
        self.tokens = torch.as_tensor(load_corpus().batches(start, 1, count, TOKENS)[0].astype("int64"))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[i], "labels": self.tokens[i]}


def space(trial) -> dict:
    return {"learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True)}


def model_init(trial):
    return Model(TinyGPT.sample(0) if trial is None else suggest(trial, TinyGPT))  # the one new line


if __name__ == "__main__":
    torch.manual_seed(0)
    settings = TrainingArguments(
        "huggingface_trainer",
        max_steps=20,
        per_device_train_batch_size=8,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = Trainer(args=settings, train_dataset=Windows(0, 160), eval_dataset=Windows(1, 32), model_init=model_init)
    runs = trainer.hyperparameter_search(
        hp_space=space,
        backend="optuna",
        n_trials=5,
        direction=["minimize", "minimize"],
        compute_objective=lambda metrics: [metrics["eval_loss"], sum(p.numel() for p in trainer.model.parameters())],
        sampler=Sampler(TinyGPT, Bayes(seed=0, startup=3)),  # optional: any Optuna sampler works
        study_name="trainer",
        storage="sqlite:///huggingface_trainer.db",
    )
    for run in runs:  # the front
        arch = architecture(TinyGPT, run.hyperparameters)
        assert run.objective[1] == parameters(arch, 256)
        print(label(arch), run.objective, run.hyperparameters["learning_rate"])

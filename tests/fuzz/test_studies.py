"""Studies whose notes were damaged: every report is made, or is one error of nas_bo."""

from __future__ import annotations

import json
import os
import random

import optuna
import pytest

from nas_bo import search
from nas_bo.cli.status import described, told
from nas_bo.errors import HostError, NasBoError
from nas_bo.optuna import reading
from nas_bo.strategies import Random
from nas_bo.study import STUDY, TRIAL, read_attributes, write_attributes
from nas_bo.workflows.stored_result import load_result
from tests.fuzz.mutations import damaged
from tests.problems import Toy, cost, loss

ROUNDS = int(os.environ.get("NAS_BO_FUZZ", "60")) // 2


@pytest.fixture(scope="module")
def study():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return search(Toy, [loss, cost], trials=3, strategy=Random(), retrain=0).study


def copied(study, rng: random.Random) -> optuna.Study:
    made = optuna.create_study(directions=study.directions)
    about, part = reading.kept(study, STUDY), rng.random()
    for key, text in write_attributes(f"nas_bo:{STUDY}", damaged(about, rng) if part < 0.6 else about).items():
        made.set_user_attr(key, text)
    if part > 0.8:
        for key, texts in {"retrained": ["3", '"x"', "[1]", "1e999"], "remeasured": ['{"values": 5}', '{"values": {"a": 5}}', "[1]", '{"info": 3}']}.items():  # fmt: skip
            made.set_user_attr(f"nas_bo:{key}", f"1|{rng.choice(texts)}")
    for trial in study.trials:
        notes = read_attributes(trial.user_attrs, TRIAL)
        kept = write_attributes(TRIAL, damaged(notes, rng) if part > 0.5 else notes)
        made.add_trial(
            optuna.trial.create_trial(
                state=trial.state, values=trial.values, params=trial.params, distributions=trial.distributions, user_attrs=kept
            )
        )  # fmt: skip
    return made


@pytest.mark.parametrize("seed", range(2))
def test_a_damaged_study_is_read_or_refused(seed, study):
    rng = random.Random(seed)
    for _ in range(ROUNDS):
        made = copied(study, rng)
        for look in (lambda s: str(load_result(s)), lambda s: load_result(s).to_dict(), lambda s: told(described(s))):
            try:
                look(made)
            except NasBoError as error:
                assert "\n" not in str(error)


def test_notes_of_another_form_are_left_out_and_the_trial_stays(study):
    made = optuna.create_study(directions=study.directions)
    for key, text in write_attributes(f"nas_bo:{STUDY}", reading.kept(study, STUDY)).items():
        made.set_user_attr(key, text)
    notes = {
        "info": {"loss": {"low": "x", "how": "measured"}, "cost": 3},
        "seconds": [1],
        "violations": 7,
        "reason": {},
    }
    one = study.trials[0]
    made.add_trial(
        optuna.trial.create_trial(
            values=one.values, params=one.params, distributions=one.distributions, user_attrs={TRIAL: "1|" + json.dumps(notes)}
        )
    )  # fmt: skip
    (trial,) = load_result(made).trials
    assert trial.info == {"loss": {"how": "measured"}} and trial.reason == "" and trial.feasible
    made.set_user_attr(f"nas_bo:{STUDY}", "1|" + json.dumps({"columns": 3}))
    with pytest.raises(HostError, match="columns"):
        load_result(made)

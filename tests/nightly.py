"""What CI leaves to the night: cases that reach by other constants what other cases reach, and tests whose question another test also answers.

A row is a function of a file, or the whole file; beside it the cases, classes or functions of it that run every day. Where there are none, the comment
names the test that does. `conftest.py` marks the others `slow`: `pytest -m slow` and `.ci/nightly` run them.
"""

from __future__ import annotations

from collections import defaultdict

import pytest

DAILY: dict[str, tuple[str, ...]] = {
    # each page is a program; that its commands and names exist is looked up every day, by test_pages.py::test_names_exist
    "docs/test_pages.py::test_code": (
        "agents.md", "concepts/hardware.md", "concepts/spaces.md", "concepts/strategies.md",
        "how-to/device.md", "how-to/model.md", "how-to/objective.md", "how-to/pretrained.md", "how-to/space.md",
        "how-to/strategy.md", "reference/json.md",
    ),
    "docs/test_tutorials.py::test_code": ("trained",),
    "test_notebook.py::test_the_notebook_runs_and_shows_the_front": (),  # test_its_cells_run_as_a_program
    # graphs of torch: 4 to 10 s each
    "export/test_onnx.py::test_onnx_runtime_computes_the_same_at_every_length_with_a_cache_and_without": (),  # test_positions_..., with two kinds of blocks
    "hardware/test_runtimes.py::test_every_block_runs_and_agrees_with_eager_torch": (
        "onnxruntime-setting0-arch0", "onnxruntime-int8-setting2-arch2", "onnxruntime-setting5-arch5", "openvino-setting7-arch7",
    ),
    "model/test_connections_everywhere.py::test_onnx_gives_the_same_logits": (),  # export/test_remote.py, "connections"
    "model/test_connections_everywhere.py::test_a_search_over_them_resumes": (),  # test_hosts_see_them_as_fields
    "export/test_export.py::test_a_mixture_of_experts_goes_out_by_the_command": (  # as ONNX: test_onnx.py::test_positions_... has a mixture
        "huggingface-MixtralForCausalLM", "gguf-GGUF 'llama'",
    ),
    "export/test_onnx.py::test_blocks_that_count_in_python_take_one_token_a_call": (),  # export/test_remote.py has the block, test_positions_... a cache
    # one case of each mapping of names
    "export/test_huggingface.py::test_the_stock_class_computes_the_same": (
        "Llama", "Llama, unlike layers", "Qwen2", "Qwen3", "Arcee, heads that do not divide the width", "SmolLM3, no positions", "NemotronH", "Lfm2",
        "Olmo2", "Qwen2Moe", "Qwen3Moe", "Olmoe", "Gemma2", "Starcoder2", "GPTNeoX", "GPT2",
    ),
    "export/test_huggingface.py::test_random_architectures_of_every_space_are_exact_or_say_why_not": ("tiny_gpt", "tiny_gpt_bits", "lfm2_tiny"),
    "export/test_gguf.py::test_random_architectures_of_every_space_are_exact_or_say_why_not": ("tiny_gpt", "lfm2_tiny"),
    "export/test_gguf.py::test_smaller_types_run_in_llama_cpp_and_say_what_they_cost": ("F16", "Q8_0", "Q4_K_M"),
    "export/test_remote.py::test_what_searches_find_leaves": ("Mixers",),
    "supernet/test_training.py::test_a_run_that_is_cut_off_goes_on_to_the_same_bits": ("Sandwich(between=Uniform(passes=2, leads=False), largest=True, smallest=True)",),
    "supernet/test_weights.py::test_the_extracted_model_gives_the_logits_of_the_slice_to_the_bit_and_so_do_its_blocks_one_by_one": (
        "Everything", "Connections",
    ),
    "hardware/test_llama_cpp.py::test_it_agrees_with_eager_torch_and_is_timed": ("llama.cpp-attention-prefill", "llama.cpp-q8_0-convolutions-decode"),
    # one kind of a block, of what is the same for all
    "model/test_parametrization.py::test_what_steps_do_to_activations_does_not_grow_with_width_and_depth": ("attention", "ssm"),
    "model/test_parametrization.py::test_at_its_base_it_is_the_recipe_of_today_to_the_bit": ("attention", "conv"),
    "model/test_stacked_training.py::test_a_run_does_not_depend_on_who_shares_its_kernels_and_is_that_of_train": ("attention", "conv"),
    # strategies: the shipped suite asks each of them the same on its own history
    "strategies/one_shot/test_alternation.py::test_a_search_over_the_whole_vocabulary": ("ProxylessNAS",),
    "model/test_connections_everywhere.py::test_searches_by_gradients_sample_what_is_connected": ("Darts",),
    "strategies/test_bad_histories.py::test_a_bad_history_costs_little": tuple(
        f"{case}-{kind}"
        for case, kind in (
            ("absurdly good", "NSGA2"), ("absurdly bad", "NSGA2"), ("absurdly good, two objectives", "RegularizedEvolution"),
            ("absurdly bad, two objectives", "LocalSearch"), ("one objective is constant", "NSGA2"), ("two objectives are the same", "NSGA2"),
            ("a thousand identical trials", "Reinforce"),
        )
    ),
    "strategies/test_bayes_bad_histories.py::test_regret_is_at_most_half_as_large_again": (
        "an absurd value", "identical trials", "a constant objective", "an objective twice", "choices of one value",
    ),
    "strategies/test_bad_histories.py::test_choices_of_one_value_cost_nothing": ("NSGA2", "Reinforce"),
    "objectives/test_limits_of_devices.py::test_what_does_not_fit_is_never_tried_in_a_search": ("NSGA2",),
    "pretrained/test_recovery.py::test_the_trust_report_compares_the_part_as_it_is_and_the_rungs_with_the_longer_training": (),  # doors, workflows/test_validate.py
    # how good a strategy is: benchmarks/ measure it; a case of each way into it stays
    "strategies/test_limits.py::test_optuna_told_by_set_constraint": ("0",),
    "strategies/test_limits.py::test_optuna_told_by_constraints_func": (),  # test_optuna_told_by_set_constraint
    "strategies/test_limits.py::test_limits_of_a_problem": ("measured",),
    "strategies/test_limits.py::test_two_limits_of_very_different_scales": (),  # test_more_limits_than_are_modelled_one_by_one
    "strategies/test_limits.py::test_one_absurd_amount_spoils_nothing": ("inf", "None", "nan"),
    "strategies/test_evolution.py::test_beats_random": ("LocalSearch",),
    "strategies/test_evolution.py::test_screening_saves_evaluations": (),  # test_the_screen_prefers_what_is_good_...
    "strategies/test_evolution.py::test_few_trials_are_no_worse_than_random": ("20",),
    "strategies/test_evolution.py::test_screening_survives_any_history_with_all_objectives_unknown": ("complete", "strange"),
    "strategies/test_fidelity.py::test_stopped_trials_teach_about_the_whole": ("1.0",),
    "strategies/test_fidelity.py::test_histories_of_hardly_anything_but_stopped_trials": ("0", "2"),
    "strategies/test_among.py::test_bayes_needs_fewer_looks_than_chance": (),  # test_only_given_architectures_each_once_and_all_in_the_end
    "strategies/test_shared_training.py::test_a_joint_search_beats_rounding_the_front_of_a_plain_one": ("0",),
    "strategies/test_strategies.py::test_bayes_takes_five_objectives_known_or_not": ("0", "5"),
    "strategies/one_shot/test_estimates.py::test_what_cannot_be_mixed_is_sampled": ("Same",),
    # every score on every kind of a block together, at night also on each alone
    "objectives/test_zero_cost.py::test_every_block_of_the_vocabulary_has_a_score": tuple(
        f"arch{arch}-{score}"
        for arch in (0, 1)
        for score in ("Synflow", "Snip", "Grasp", "GradientNorm", "Naswot", "JacobianCovariance", "ZenScore", "InitialLoss")
    ),
    "objectives/test_predicted.py::test_proxies_sharpen_where_they_are_and_are_left_out_where_not": (),  # test_files_give_back_..., with a proxy
    "objectives/test_own_model.py::test_latency_is_measured_and_guided": ("Attention",),
    "objectives/test_own_model.py::test_decoding_is_run_where_there_is_a_cache": ("Attention",),
    "objectives/test_own_model.py::test_every_repeat_of_decoding_begins_after_the_prompt": ("Attention",),
    # the doors; Optuna's suite of storages runs on SQLite every day
    "doors/test_database.py": (
        "TestConformance", "test_it_writes_and_reads_what_optunas_own_storage_does", "test_running_and_waiting_trials_are_given_without_the_others",
        "test_several_changes_are_there_together_or_not_at_all", "test_what_is_refused_leaves_what_is_written_with_it",
        "test_a_write_that_fails_as_a_whole_leaves_no_trial_in_memory", "test_a_claim_that_worked_without_saying_so_is_there_once",
        "test_a_trial_costs_the_same_after_many",
    ),
    "doors/test_ax_study_space.py::test_fixed_parameters_are_obeyed": ("fixed1-<lambda>-strategy1", "fixed2-<lambda>-strategy1", "fixed4-<lambda>-strategy1"),
    "doors/test_ax_storage.py::test_modular_botorch_begins_with_our_design_and_goes_on_after_loading": (),  # test_every_strategy_goes_on_...
    "doors/test_ax_study_space.py::test_parameters_beside_ours_are_searched_with_them": (),  # test_a_parameter_of_the_user_may_depend_on_one_of_ours
    "doors/test_ax_study_space.py::test_any_ax_experiment_can_be_searched": ("strategy1",),
    "doors/test_ax_parts.py::test_candidates_keep_the_exact_limits_of_parts": ("strategy1-True",),
    "doors/test_ax_benchmark.py::test_ax_benchmark_problems": ("hartmann6-strategy1--0.3",),
    "doors/test_equal_choices.py::test_every_strategy_proposes_distinct_points_until_none_is_left": (
        *(f"{case}-NSGA2" for case in ("none, one, true", "zero, false", "one, 1.0", "written twice", "beyond floats", "nan", "signed zeros", "tuples")),
        *(f"everything-{kind}" for kind in ("Bayes", "Random", "RegularizedEvolution", "LocalSearch", "Reinforce")),
    ),
    "doors/test_foreign_study.py::test_another_study_is_refused_and_stays_as_it_is": (*(f"search-different{case}" for case in range(8)), "AskTell-different4"),
    # pages of MLflow in a browser; what they show is read from its store every day, and our own page is opened in the browser
    "doors/test_mlflow_server.py::test_the_link_opens_on_the_front": (),
    "doors/test_mlflow_server.py::test_the_parent_shows_the_result_and_the_report": (),
    "doors/test_mlflow_spool.py::test_two_processes_of_four_threads_log_every_trial_once": (),  # test_mlflow.py: threads, and two processes
    "doors/test_mlflow_looks.py::test_the_hypervolume_is_that_of_the_report": ("3",),
    "doors/test_mlflow_new_database.py::test_a_database_is_migrated_once_and_then_copied": ("None", "half"),
    "doors/test_optuna_staged.py::test_any_sampler_and_threads": (
        "tpe-1", "tpe-4", "nsga2-1", "nsga2-4", "ours-1", "ours-4", "ours, without a space-4",
    ),
    "doors/test_optuna_pruners.py::test_nothing_raises_and_pruned_trials_are_told": (
        *(f"{kind}-hyperband-1" for kind in ("Random", "NSGA2", "RegularizedEvolution", "LocalSearch", "Reinforce", "Bayes", "Successive")),
        "NSGA2-median-1", "Bayes-median-4",
    ),
    "doors/test_journal.py::test_a_cut_line_is_removed_and_the_search_goes_on": ("1", "17"),
    "doors/test_ax.py::test_generation_end_to_end": ("3",),
    # the command
    "cli/test_names_and_places.py::test_a_path_is_taken_as_it_stands": ("a?b", "a%20b", "x{y}"),
    "cli/test_names_and_places.py::test_a_study_may_be_called_anything_that_can_be_printed": ("../up", "nul.txt", "50% off?", "artifacts"),
    "cli/test_profile_command.py::test_a_search_for_the_profiled_device": (),  # test_killed_it_goes_on_and_a_search_uses_the_file
    "cli/test_first_words.py::test_studies_and_picks_are_read_from_the_storage": ("s.db",),
    "cli/test_first_words.py::test_a_storage_that_cannot_be_read_completes_nothing": ("broken.db", "postgresql://nobody/x"),
    # workflows
    "workflows/test_ladder.py::test_workers_give_the_same_and_the_study_keeps_it": (),  # test_a_ladder_that_was_killed_...; executors have a suite
    "workflows/test_ladder.py::test_a_ladder_that_was_killed_goes_on_and_ends_as_if_it_had_not_been": (),  # test_the_same_call_trains_nothing_again_...
    "workflows/test_ladder.py::test_every_training_is_a_run_in_mlflow_linked_with_its_trial": (),  # test_a_training_is_a_run_next_to_its_trial_once
    "workflows/test_search.py::test_the_same_seed_gives_the_same_search_and_another_seed_another": (),  # cli/test_command.py, of two processes
    "workflows/test_search.py::test_a_weighted_sum_is_steered_without_the_noise_of_its_measured_part": (),  # doors/test_ax_parts.py, ..._noise_of_measured_parts_...
    "workflows/test_validate.py::test_what_was_searched_by_a_quick_estimate_is_not_re_trained": ("now",),
    "workflows/test_teacher.py::test_a_winner_learns_from_it": (),  # test_on_the_command_line
    "test_once.py::test_an_ax_experiment_as_well": (),  # the same of Optuna and of a search, in that file
    "test_benchmarks.py::test_peers_see_the_limits": ("optuna-nsga2",),
    "test_benchmarks.py::test_a_synthetic_problem_is_a_valid_space_with_a_reference_that_chance_does_not_reach": ("deep-noisy", "limits", "pipeline"),
    "workflows/test_train.py::test_a_run_that_was_killed_goes_on_to_the_same_weights": (),  # test_a_process_that_is_killed_...
    "workflows/test_baselines.py::test_the_largest_is_no_smaller_than_anything_drawn": ("Hybrid",),
    # blocks: the example is itself an example of CI, and three others of somebody's own pass the suite every day
    "conformance/test_own_blocks.py::test_the_example_passes_the_suite": (),
    "conformance/test_own_blocks.py::test_the_example_runs": (),
    "conformance/test_own_blocks.py::test_its_latency_is_measured_learned_and_looked_up": (),  # hardware/test_profile.py
    "conformance/test_own_blocks.py::test_other_processes_know_it": ("TestShift",),
    "conformance/test_own_blocks.py::test_a_block_that_gives_nan_is_named_in_a_supernet_and_in_a_gradient_search": ("block1-gradients",),
    "conformance/test_strategies.py::test_other_processes_suggest_the_same": ("TestMinimal", "TestNSGA2", "TestBayes"),
    "conformance/test_blocks.py::test_it_learns": ("TestAttention", "TestMoe"),
}  # fmt: skip


def mark(items: list[pytest.Item]) -> None:
    """`slow` on what is left to the night; an error where a row or a case of it is not there any more, unless single tests were asked for."""
    seen: dict[str, set[str]] = defaultdict(set)
    for item in items:
        assert isinstance(item, pytest.Function)
        file = str(item.path.relative_to(item.config.rootpath / "tests"))
        names = {item.originalname, *([item.callspec.id] if hasattr(item, "callspec") else ())}
        names |= {item.cls.__name__} if item.cls else set()
        for row in (file, f"{file}::{item.originalname}"):
            if row in DAILY:
                seen[row] |= names
                if names.isdisjoint(DAILY[row]):
                    item.add_marker("slow")
    if items and not any("::" in argument for argument in items[0].config.args):
        files = {str(item.path.relative_to(item.config.rootpath / "tests")) for item in items}
        gone = [
            row
            for row in DAILY
            if row.partition("::")[0] in files and not (row in seen and seen[row].issuperset(DAILY[row]))
        ]
        if gone:
            raise pytest.UsageError(f"tests/nightly.py names cases that are not there: {gone}")
